"""Fetches published weights: each file once, resumed where it broke off, checked, and kept in the cache.

Where the authors of a file published no checksum, that of the first fetch is recorded in `weights.lock.json` beside the
files, and later fetches and uses must agree with it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import filelock
import requests
import urllib3

from dnnlib.util import UserError, atomic_write, file_sha256, make_cache_dir_path, make_session
from metrics.progress import progress_bar
from metrics.weights import (
    CANONICAL_FILES,
    DEFAULT_FILES,
    LPIPS_LINEAR,
    CanonicalFile,
    WeightSource,
    find_canonical,
    slot_files,
)

LOCK_NAME = "weights.lock.json"

_CHUNK_BYTES = 1 << 20
_TIMEOUT_SEC = (20, 60)  # connect, read
_BODY_ATTEMPTS = 5  # a connection that breaks in the middle of a file is resumed this often


@dataclass(frozen=True)
class Fetched:
    """A file in the cache. pinned: its checksum is known from its authors, not from its first fetch."""

    name: str
    path: Path
    sha256: str
    pinned: bool


def fetch(
    names: Sequence[str] = DEFAULT_FILES,
    cache_dir: os.PathLike | str | None = None,
    *,
    progress: bool = True,
    num_attempts: int = 5,
) -> list[Fetched]:
    """Puts published weights into the cache, unless they are there.

    names: of `CANONICAL_FILES`; cache_dir: None is the folder `weights` in the user's cache; progress: a bar on stderr;
    num_attempts: how often a connection is tried. Proxies are taken from the environment (HTTPS_PROXY).
    Raises `UserError`: unknown name, download failed (what came is kept to be resumed), or wrong checksum (it is not).
    """
    files = [find_canonical(name) for name in names]
    folder = _folder(cache_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock"):
            return [_fetch_one(file, folder, progress, num_attempts) for file in files]
    except OSError as err:
        raise UserError(f"cannot keep weights in {folder}: {err.strerror or err}") from err


def default_source(slot: str, cache_dir: os.PathLike | str | None = None) -> WeightSource | None:
    """Weights for a slot that are on this machine: fetched before, or in the package lpips. None if there are none."""
    if slot == LPIPS_LINEAR:
        spec = importlib.util.find_spec("lpips")  # not imported: it needs PyTorch, its file of weights does not
        for place in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(place) / "weights" / "v0.1" / "vgg.pth"
            if path.is_file():
                return WeightSource(str(path), find_canonical(slot).sha256)
    folder = _folder(cache_dir)
    lock = _read_lock(folder)
    for file in slot_files(slot):
        recorded = lock.get(file.name)  # which is not worth more than what is known of the file
        if recorded and recorded.startswith(file.sha256 or "") and (folder / file.file_name).is_file():
            return WeightSource(str(folder / file.file_name), lock[file.name])
    return None


def _folder(cache_dir: os.PathLike | str | None) -> Path:
    return Path(make_cache_dir_path("weights") if cache_dir is None else cache_dir)


def _read_lock(folder: Path) -> dict[str, str]:
    path = folder / LOCK_NAME
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as err:
        raise UserError(
            f"{path}: damaged ({err}); delete it, and the checksums of the next fetch are recorded"
        ) from err
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise UserError(f"{path}: expected names with checksums; delete it, and those of the next fetch are recorded")
    return content


def _fetch_one(file: CanonicalFile, folder: Path, progress: bool, num_attempts: int) -> Fetched:
    lock, path = _read_lock(folder), folder / file.file_name
    expected = tuple(digits for digits in (file.sha256, lock.get(file.name)) if digits)
    if path.is_file():
        sha256 = file_sha256(path)
        if all(sha256.startswith(digits) for digits in expected):
            return _record(file, path, sha256, lock)
    errors = []
    for url in file.urls:
        try:
            part = _download(url, path, progress, num_attempts)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as err:
            errors.append(f"{url}: {_reason(err)}")
            continue
        sha256 = file_sha256(part)
        if all(sha256.startswith(digits) for digits in expected):
            os.replace(part, path)
            return _record(file, path, sha256, lock)
        part.unlink()
        kept = f", recorded in {folder / LOCK_NAME}" if file.name in lock else ""
        errors.append(
            f"{url}: wrong checksum, expected sha256 {' and '.join(expected)}{kept}, found {sha256}; not kept"
        )
    raise UserError(
        f"cannot fetch {file.name}: {'; '.join(errors)} (a file fetched by other means can be given with "
        f"--weights {file.slot}=FILE)"
    )


def _reason(err: BaseException) -> str:
    """What went wrong, in the words of the innermost causes: the outer ones name objects, and the address again."""
    chain = [err]
    while True:
        inner = getattr(chain[-1], "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in chain[-1].args if isinstance(arg, BaseException)), None)
        if inner is None or inner in chain:
            break
        chain.append(inner)
    causes = [one for one in chain if isinstance(one, urllib3.exceptions.ProxyError)] + chain[-1:]
    texts = dict.fromkeys(next((arg for arg in one.args if isinstance(arg, str)), str(one)) for one in causes)
    return ": ".join(" ".join(re.sub(r"^\w+\(.*?\): ", "", text).split())[:160] for text in texts)


def _record(file: CanonicalFile, path: Path, sha256: str, lock: dict[str, str]) -> Fetched:
    if lock.get(file.name) != sha256:
        with atomic_write(path.parent / LOCK_NAME, "w") as stream:
            json.dump(dict(sorted((lock | {file.name: sha256}).items())), stream, indent=2)
    return Fetched(file.name, path, sha256, pinned=file.sha256 is not None)


def _download(url: str, path: Path, progress: bool, num_attempts: int) -> Path:
    """Completes `path`.part from a URL. Raises `requests.RequestException` or urllib3's `HTTPError`."""
    part = path.with_name(path.name + ".part")
    with make_session(num_attempts) as session:
        for left in reversed(range(_BODY_ATTEMPTS)):
            try:
                _download_rest(session, url, part, progress)
                break
            except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as err:
                # What never connected was tried by the adapter already; what broke off is worth another try.
                if not left or isinstance((*err.args, None)[0], urllib3.exceptions.MaxRetryError):
                    raise
    return part


def _download_rest(session: requests.Session, url: str, part: Path, progress: bool) -> None:
    """One request for what a part file lacks. Beside it lies what names the version that its bytes are of."""
    note = part.with_name(part.name + ".json")
    size, headers = 0, {"Accept-Encoding": "identity"}
    if part.is_file() and note.is_file():
        version = json.loads(note.read_text(encoding="utf-8"))
        if version.get("url") == url and version.get("validator"):
            size = part.stat().st_size
            headers |= {"Range": f"bytes={size}-", "If-Range": version["validator"]}
    with session.get(url, stream=True, timeout=_TIMEOUT_SEC, headers=headers) as response:
        if response.status_code == 416:  # nothing is left to send, or the file is another one: start over
            part.unlink()
            _download_rest(session, url, part, progress)
            return
        response.raise_for_status()
        if response.status_code != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {size}-"):
            size = 0
        length = response.headers.get("Content-Length", "")
        total = size + int(length) if length.isdigit() else None
        with atomic_write(note, "w") as stream:
            json.dump({"url": url, "validator": _validator(response)}, stream)
        bar = progress_bar(total, part.stem, "B", shown=progress, initial=size)
        with open(part, "ab" if size else "wb") as file, bar:
            # What has arrived, at once: a whole chunk would be lost with the connection.
            while chunk := response.raw.read1(_CHUNK_BYTES):
                file.write(chunk)
                size += len(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        if total is not None and size != total:
            raise requests.ConnectionError(f"the connection ended after {size} of {total} bytes")
    note.unlink()


def _validator(response: requests.Response) -> str:
    """What tells this version of a file from others, for If-Range; weak tags may not stand there."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


@click.command("fetch")
@click.argument("names", nargs=-1, metavar="[NAMES]...")
@click.option("--list", "list_files", is_flag=True, help="Print the published files and whether they are here.")
def fetch_command(names: tuple[str, ...], list_files: bool) -> None:
    """Fetch published weights of feature networks into the cache, once, and check them.

    Without NAMES: those that the metrics use by default.
    """
    if list_files:
        _print_list()
        return
    for item in fetch(names or DEFAULT_FILES):
        note = "" if item.pinned else f" (not pinned: recorded in {LOCK_NAME})"
        click.echo(f"{item.name}: {item.path}\n  sha256 {item.sha256}{note}")


def _print_list() -> None:
    folder = _folder(None)
    for file in CANONICAL_FILES:
        here = "here" if (folder / file.file_name).is_file() else "not here"
        pinned = f"sha256 {file.sha256}" if file.sha256 else "not pinned"
        click.echo(f"{file.name:<24} {here:<9} {file.slot}: {file.kind}; {file.licence}; {pinned}")
        for url in file.urls:
            click.echo(f"{'':<24} {url}")
