"""Small tools that everything else uses: errors, atomic files, time formatting, downloads. No TensorFlow here."""

import contextlib
import difflib
import errno
import functools
import hashlib
import math
import os
import re
import secrets
import shlex
import shutil
import stat
import sys
import tempfile
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import requests

_MAX_LISTED = 100


class UserError(Exception):
    """A mistake that a person can correct. Scripts print it as one line `error: ...` and exit with code 2.

    keeps_lines: its text has several lines, and they are printed as such.
    """

    keeps_lines = False


class EasyDict(dict):
    """A dict whose items are attributes too: `d.x` is `d['x']`. Published network files refer to it by this name."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(name) from None


# ---------------------------------------------------------------- text


def format_time(seconds: float) -> str:
    """Duration in seconds as `12s`, `3m 05s`, `1h 02m 03s` or `2d 03h 04m`; `?` if it is not finite."""
    if not math.isfinite(seconds):
        return "?"
    total = round(abs(seconds))
    sign = "-" if seconds < 0 and total else ""
    minutes, sec = divmod(total, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days}d {hours:02}h {minutes:02}m"
    if hours:
        return f"{sign}{hours}h {minutes:02}m {sec:02}s"
    if minutes:
        return f"{sign}{minutes}m {sec:02}s"
    return f"{sign}{sec}s"


def list_nearest(name: str, names: Iterable[str]) -> str:
    """The end of an error about an unknown name: `did you mean 'x'? known: x, y, z`, the question only if one is near.

    It starts without punctuation: write `f"unknown preset {name!r}: {list_nearest(name, names)}"`.
    """
    known = sorted(str(n) for n in names)
    if not known:
        return "none are known"
    by_lower = {n.lower(): n for n in known}
    near = difflib.get_close_matches(str(name).lower(), list(by_lower), n=1, cutoff=0.6)
    question = f"did you mean {by_lower[near[0]]!r}? " if near else ""
    shown = known if len(known) <= _MAX_LISTED else difflib.get_close_matches(str(name), known, n=10, cutoff=0)
    rest = f", ... ({len(known)} in all)" if len(shown) < len(known) else ""
    return f"{question}known: {', '.join(shown)}{rest}"


_INFO_LINE = re.compile(rb"I\d{4} |WARNING: All log messages before absl::InitializeLog")


@contextlib.contextmanager
def hide_native_info(also: bytes = b"") -> Iterator[None]:
    """Context manager: drops the informative lines that native libraries write to file descriptor 2 meanwhile.

    TensorFlow prints some while it is loaded, whatever TF_CPP_MIN_LOG_LEVEL says. Warnings and errors are passed on
    at the end of the block, but for lines with the text `also`, and so is everything if the block raises.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    keep_all = True
    try:
        with tempfile.TemporaryFile() as held:
            os.dup2(held.fileno(), 2)
            try:
                yield
                keep_all = False
            finally:
                sys.stderr.flush()
                os.dup2(saved, 2)
                held.seek(0)
                for line in held:
                    if keep_all or not (_INFO_LINE.match(line) or (also and also in line)):
                        os.write(2, line)
    finally:
        os.close(saved)


# ---------------------------------------------------------------- files


def _cannot_write(path: os.PathLike | str, err: OSError) -> UserError:
    return UserError(f"cannot write {path}: {err.strerror or err}")


def _fsync_directory(directory: str) -> None:
    """Makes a rename survive a power cut. Not every system can open a directory, and then there is nothing to do."""
    with contextlib.suppress(OSError):
        fd = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


@contextlib.contextmanager
def atomic_write(path: os.PathLike | str, mode: str = "wb", encoding: str | None = None) -> Iterator[IO]:
    """Context manager: a file object for writing whose content appears at `path` complete or not at all.

    The content goes to a temporary file in the same folder, is flushed to the disk and renamed at the end of the
    block. If the block raises, the temporary file is removed and an older file at `path` stays as it was.

    Args:
        path: the final name; its folder must exist. A symbolic link is followed.
        mode: 'wb' or 'w'.
        encoding: for 'w'; UTF-8 if None.
    Raises:
        UserError: the folder is missing or not writable, or the disk is full.
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"atomic_write: mode must be 'wb' or 'w', found {mode!r}")
    target = os.path.realpath(os.fspath(path))
    folder, name = os.path.split(target)
    temp = os.path.join(folder, f".{name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        # os.open instead of tempfile: the file gets the permissions that the user's umask asks for.
        fd = os.open(temp, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as err:
        raise _cannot_write(path, err) from err
    try:
        with os.fdopen(fd, mode, encoding=None if mode == "wb" else encoding or "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, target)
        _fsync_directory(folder)
    except BaseException as err:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp)
        if isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EISDIR):
            raise _cannot_write(path, err) from err
        raise


def file_sha256(path: os.PathLike | str) -> str:
    """SHA-256 of a file's content, 64 lower-case hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_program(command: str) -> tuple[str, str | None, list[str]]:
    """Name, path (None where the PATH has no such program) and arguments of a command such as `ccache g++`."""
    if path := shutil.which(command):  # a name may have a blank in it
        return command, path, []
    try:
        name, *arguments = shlex.split(command)
    except ValueError:  # a quotation mark without its partner
        name, arguments = command, []
    return name, shutil.which(name), arguments


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The processor's instruction sets as Linux names them; none where it does not say."""
    if not os.path.exists("/proc/cpuinfo"):
        return frozenset()
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        line = next((line for line in file if line.startswith(("flags", "Features"))), "")
    return frozenset(line.partition(":")[2].split())


def make_cache_dir_path(*sub: str) -> str:
    """Path inside the cache folder: `$DNNLIB_CACHE_DIR` if set, else `~/.cache/dnnlib`. Nothing is created.

    Of who has no home folder, as unknown users in containers, the cache is one in the folder of temporary files.
    """
    root = os.environ.get("DNNLIB_CACHE_DIR")
    if not root:
        home = os.environ.get("HOME", "~") and os.path.expanduser("~")
        root = os.path.join(home, ".cache", "dnnlib") if os.path.isabs(home) else _homeless_cache()
    return os.path.join(root, *sub)


@functools.cache
def _homeless_cache() -> str:
    """Made now, open to its user alone: libraries are loaded from it, so it must be nobody else's. Says where it is.

    Raises `UserError` where there is no folder for temporary files either.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    try:
        folder = os.path.join(tempfile.gettempdir(), f"dnnlib-{user}")
        with contextlib.suppress(OSError):
            os.mkdir(folder, 0o700)
        status = os.lstat(folder) if os.path.lexists(folder) else None
        if status is None or not stat.S_ISDIR(status.st_mode) or status.st_uid != user or status.st_mode & 0o022:
            folder = tempfile.mkdtemp(prefix=f"dnnlib-{user}-")
            os.environ["DNNLIB_CACHE_DIR"] = folder  # for this process and its children
    except OSError as error:
        raise UserError(
            f"no folder for a cache, neither at home nor for temporary files ({error}); set DNNLIB_CACHE_DIR to one"
        ) from None
    print(f"no home folder: the cache is {folder}; set DNNLIB_CACHE_DIR to have another", file=sys.stderr, flush=True)
    return folder


# ---------------------------------------------------------------- downloads


def is_url(text: Any) -> bool:
    """True for a text that starts like `http://`, `https://` or `file://`."""
    return isinstance(text, str) and re.match(r"(?i)(https?|file)://", text) is not None


def open_url(
    url: os.PathLike | str,
    cache_dir: os.PathLike | str | None = None,
    num_attempts: int = 10,
    verbose: bool = True,
    sha256: str | None = None,
) -> BinaryIO:
    """Opens a URL (downloaded once, then taken from the cache) or a local file for reading.

    Args:
        url: `http(s)://...`, `file://...` or a local path.
        cache_dir: folder for downloads; None is `make_cache_dir_path('downloads')`. Created if missing.
        num_attempts: how often a connection is tried (>= 1). Proxies are taken from the environment.
        verbose: show progress on stderr.
        sha256: expected checksum. A cached file with another one is fetched again.
    Returns:
        Binary file object positioned at 0.
    Raises:
        UserError: no such file, download failed, a web page in place of the file, or wrong checksum. The
            cache never holds an incomplete file.
    """
    if is_url(url) and not str(url).lower().startswith("file:"):
        path = _cached_path(str(url), cache_dir)
        if _is_usable(path, str(url), sha256):
            return open(path, "rb")
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        except OSError as err:
            reason = err.strerror or err
            raise UserError(f"cannot make the cache {os.path.dirname(path)} for downloads: {reason}") from err
        from dnnlib.download import download  # here, because it imports requests

        download(str(url), path, num_attempts, verbose, sha256)
        return open(path, "rb")

    path = _path_of(str(url)) if is_url(url) else os.fspath(url)
    try:
        file = open(path, "rb")  # noqa: SIM115 (the caller closes it)
    except OSError as err:
        raise UserError(f"cannot open {path}: {err.strerror or err}") from err
    if sha256 is not None:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256.lower():
            file.close()
            raise UserError(f"{path}: wrong checksum, expected sha256 {sha256.lower()}, found {found}")
        file.seek(0)
    return file


def is_web_page(start: bytes, url: str) -> bool:
    """Whether a file that begins so is a page in place of the file that was asked for: one to sign in, or an error."""
    wants_page = urllib.parse.urlsplit(url).path.lower().endswith((".html", ".htm"))
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<!doctype html", b"<html")) and not wants_page


def _is_usable(path: str, url: str, sha256: str | None) -> bool:
    """Whether the cache has what was asked for. Pages that take its place were kept once."""
    if not os.path.isfile(path):
        return False
    if sha256 is not None:
        return file_sha256(path) == sha256.lower()
    with open(path, "rb") as file:
        return not is_web_page(file.read(1024), url)


def _path_of(file_url: str) -> str:
    import urllib.request  # here, because it takes long to import

    return urllib.request.url2pathname(urllib.parse.urlsplit(file_url).path)


def _cached_path(url: str, cache_dir: os.PathLike | str | None) -> str:
    """Name in the cache: a hash of the URL, so that equal file names of different places do not meet, and the name."""
    name = urllib.parse.unquote(os.path.basename(urllib.parse.urlsplit(url).path))
    name = re.sub(r"[^A-Za-z0-9._-]", "_", name)[-100:]
    folder = make_cache_dir_path("downloads") if cache_dir is None else os.fspath(cache_dir)
    return os.path.join(folder, f"{hashlib.sha256(url.encode()).hexdigest()[:32]}_{name}")


def make_session(num_attempts: int) -> "requests.Session":
    """A session that tries each request so often (>= 1), waiting longer each time. Proxies are from the environment."""
    from dnnlib.download import make_session  # here, because it imports requests

    return make_session(num_attempts)
