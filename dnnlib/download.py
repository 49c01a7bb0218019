"""Downloads over HTTP, complete or not at all. `dnnlib.util.open_url` is what others call.

Apart from `util.py`, because `requests` takes a tenth of a second to import, which commands on local files do not need.
"""

import hashlib
import os
import sys
import textwrap
from typing import Any, Self

import requests
import requests.adapters
import tqdm
import urllib3

from dnnlib.util import UserError, atomic_write, is_web_page

_CHUNK_BYTES = 1 << 20
_BODY_ATTEMPTS = 3  # a connection that breaks in the middle of a file is tried again this often
_NAME_ATTEMPTS = 6  # to find the address of a host, within 6 s: a network may just be starting
_RETRY_STATUS = (429, 500, 502, 503, 504)
_TIMEOUT_SEC = (20, 60)  # connect, read


class _Retry(urllib3.Retry):
    def increment(
        self, method: str | None = None, url: str | None = None, response: Any = None, error: Exception | None = None,
        _pool: Any = None, _stacktrace: Any = None,
    ) -> Self:  # fmt: skip
        """The next attempt; fewer where the name of the host is not known, as on a machine without a network."""
        unknown = [
            isinstance(e, urllib3.exceptions.NameResolutionError) for e in (error, *(h.error for h in self.history))
        ]
        if unknown[0] and sum(unknown) >= _NAME_ATTEMPTS:
            raise urllib3.exceptions.MaxRetryError(_pool, url, error) from error
        return super().increment(method, url, response, error, _pool, _stacktrace)


def make_session(num_attempts: int) -> requests.Session:
    """A session that tries each request so often (>= 1), waiting longer each time. Proxies are from the environment."""
    retry = _Retry(total=num_attempts - 1, backoff_factor=0.2, status_forcelist=_RETRY_STATUS, raise_on_status=False)
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retry))
    return session


def download(url: str, path: str, num_attempts: int, verbose: bool, sha256: str | None) -> None:
    """Fetches a URL into the file `path`, whose folder exists. Raises `UserError`; nothing is then left at `path`."""
    if num_attempts < 1:
        raise ValueError(f"num_attempts must be at least 1, found {num_attempts}")
    last: Exception | None = None
    with make_session(num_attempts) as session:
        for _ in range(min(num_attempts, _BODY_ATTEMPTS)):
            try:
                _download_once(session, url, path, verbose, sha256)
                return
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as err:
                last = err
                if isinstance(getattr(err, "args", [None])[0], urllib3.exceptions.MaxRetryError):
                    break  # the adapter has already tried num_attempts times
            except (requests.RequestException, OSError) as err:
                last = err
                break
    inner = (last.args or [None])[0] if last else None
    reason = inner.reason if isinstance(inner, urllib3.exceptions.MaxRetryError) and inner.reason else last
    text = textwrap.shorten(str(reason), 300, placeholder=" ...")
    raise UserError(f"cannot download {url}: {text} (a file fetched by other means can be given as a path)")


def _download_once(session: requests.Session, url: str, path: str, verbose: bool, sha256: str | None) -> None:
    with session.get(url, stream=True, timeout=_TIMEOUT_SEC, headers={"Accept-Encoding": "identity"}) as response:
        response.raise_for_status()
        length = response.headers.get("Content-Length", "")
        expected = int(length) if length.isdigit() and not response.headers.get("Content-Encoding") else None
        digest = hashlib.sha256()
        size, start = 0, b""
        title = os.path.basename(path)[33:] or url
        bar = tqdm.tqdm(total=expected, unit="B", unit_scale=True, desc=title, disable=not verbose, file=sys.stderr)
        with atomic_write(path) as file, bar:
            for chunk in response.iter_content(_CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                start = start or chunk[:1024]
                bar.update(len(chunk))
            if expected is not None and size != expected:
                raise requests.ConnectionError(f"the connection ended after {size} of {expected} bytes")
            if is_web_page(start, url) and digest.hexdigest() != (sha256 or "").lower():
                raise UserError(
                    f"{url}: is a web page, not a file: perhaps one to sign in or to accept terms; nothing kept "
                    "(download it with a browser and give its path)"
                )
            if sha256 is not None and digest.hexdigest() != sha256.lower():
                raise UserError(
                    f"{url}: wrong checksum, expected sha256 {sha256.lower()}, found {digest.hexdigest()}; nothing kept"
                )
