"""The folder of built libraries: whether one is as it was built, and which ones are removed again.

Beside each library lies a note with its size and checksum: a library that was cut short kills the process that calls
it, without a message. Reading it for its checksum takes 3 ms for the 4 MB of the processor's library (SHA-256: 20 ms).
The note's time is that of the library's last use; a process also holds a shared lock on each library that it uses, for
as long as it lives.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from dnnlib.util import atomic_write

# Of each kind (processor, GPU kernels, what joins the two), and those used in the last weeks beside them: a home folder
# may serve machines of many types.
MAX_KEPT = 3
MAX_UNUSED_DAYS = 60
_DAY_SEC = 86400.0
_UNFINISHED = re.compile(r"\.\w+-[0-9a-f]{20}(-\w{8}|\.so(\.sum)?\.\w+-?\w*\.tmp)")
_LIBRARY = re.compile(r"(\w+)-[0-9a-f]{20}\.so")


def is_intact(library: Path) -> bool:
    """Whether a library is there, as it was when it was built."""
    try:
        return _note(library).read_text(encoding="ascii") == _summary(library)
    except (OSError, ValueError):  # ValueError: bytes that are no text
        return False


def install(built: Path, library: Path) -> None:
    """Puts a file that has just been built in its place, complete or not at all, on the disk, with its note.

    Raises `UserError` where the disk is full, `OSError` where the folder cannot be written.
    """
    with atomic_write(_note(library), "w", encoding="ascii") as note:
        note.write(_summary(built))
    with open(built, "rb") as source, atomic_write(library) as file:
        shutil.copyfileobj(source, file)


def use(library: Path) -> Path:
    """Notes that a library is used now, and by this process until it ends; returns it."""
    with contextlib.suppress(OSError):  # another user's
        os.utime(_note(library))
    with contextlib.suppress(OSError, ImportError):  # ImportError: Windows has no such locks
        _hold(library, library.stat().st_ino)
    return library


@functools.cache
def _hold(library: Path, inode: int) -> int:
    """A descriptor with a shared lock on the library, never closed. Raises `OSError` where there are no such locks."""
    import fcntl  # here, because Windows has none

    descriptor = os.open(library, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def build_lock(library: Path, timeout_sec: float = 1800) -> Iterator[bool]:
    """Waits for the lock of one library, but not for ever, and says whether it is held.

    The operating system releases the lock of a killed process; a left-over file means nothing. One that cannot be
    opened, for it is another user's, or be locked keeps nobody from building: libraries appear as a whole. Nor does one
    that stays locked, as files do that a killed process made on file systems without locks.
    """
    # Any user may open it: in a folder that several share, the next to build need not be who built first.
    lock = filelock.FileLock(library.with_suffix(".lock"), timeout=timeout_sec, mode=0o666)
    try:
        lock.acquire()
    except (OSError, NotImplementedError):  # filelock.Timeout is an OSError
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def sweep(library: Path, locked: bool) -> None:
    """Removes what killed builds left, of this library where its lock is held (`locked`), of others after a day; and
    libraries of this one's kind but the `MAX_KEPT` used last and those used in the last `MAX_UNUSED_DAYS`.

    Locks stay: whoever waits for one holds a file that must keep its name. One line on stderr says what was removed.
    """
    removed = [*_sweep_unfinished(library, locked), *_sweep_libraries(library)]
    if removed:
        number, size = len(removed), sum(removed) / 1e6
        what = f"{number} unfinished or older build{'s' * (number > 1)} of the ops ({size:.1f} MB)"
        print(f"Removed {what} from {library.parent}", file=sys.stderr, flush=True)


def _sweep_unfinished(library: Path, locked: bool) -> Iterator[int]:
    """Sizes in bytes of the folders and files removed. No build takes a day, on whatever machine."""
    for path in sorted(library.parent.glob(".*-*")):
        with contextlib.suppress(OSError):  # gone by now, or another user's
            dead = locked and path.name.startswith(f".{library.stem}-")  # who made it held the lock
            dead = dead or time.time() - path.stat().st_mtime > _DAY_SEC
            if dead and _UNFINISHED.fullmatch(path.name):
                files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
                size = sum(file.stat().st_size for file in files)
                path.unlink() if path.is_file() else shutil.rmtree(path)
                yield size


def _sweep_libraries(library: Path) -> Iterator[int]:
    """Sizes in bytes of the libraries removed."""
    kind = library.name.partition("-")[0]
    used = {}
    for path in library.parent.glob(f"{kind}-*.so"):
        match = _LIBRARY.fullmatch(path.name)
        if match and match[1] == kind and path != library:
            with contextlib.suppress(OSError):
                used[path] = _last_use(path)
    oldest = time.time() - MAX_UNUSED_DAYS * _DAY_SEC
    for path in sorted(used, key=used.__getitem__, reverse=True)[MAX_KEPT - 1 :]:
        if used[path] < oldest:
            with contextlib.suppress(OSError, ImportError):  # gone by now, another user's, or in use
                yield _remove(path)


def _remove(library: Path) -> int:
    """Removes a library, unless a process uses it, and its notes; returns its size. Raises `OSError` otherwise."""
    import fcntl

    with open(library, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError where it is in use
        size = os.fstat(file.fileno()).st_size
        library.unlink()
        for note in (_note(library), library.with_name(library.name + ".passed")):
            note.unlink(missing_ok=True)
    return size


def _last_use(library: Path) -> float:
    """Time of the note; of a library that has none, of another user's, or of an older version, when it was read."""
    status = library.stat()
    times = [status.st_mtime, status.st_atime]
    with contextlib.suppress(OSError):
        times.append(_note(library).stat().st_mtime)
    return max(times)


def _note(library: Path) -> Path:
    return library.with_name(library.name + ".sum")


def _summary(library: Path) -> str:
    with open(library, "rb") as file:
        content = file.read()
    return f"{len(content)} {zlib.crc32(content):08x}\n"
