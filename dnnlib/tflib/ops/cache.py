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

# Of each kind (processor, GPU kernels, what joins the two): today's, and those of the versions one goes back to.
MAX_KEPT = 3
_DAY_SEC = 86400.0
_BUILD_FOLDER = re.compile(r"\.(\w+-[0-9a-f]{20})-\w{8}")


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
    with contextlib.suppress(OSError):
        _hold(library, library.stat().st_ino)
    return library


@functools.cache
def _hold(library: Path, inode: int) -> int:
    """A descriptor with a shared lock on the library, never closed. Raises `OSError` where there are no such locks."""
    import fcntl  # here, because Windows, where nothing is built, has none

    descriptor = os.open(library, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def build_lock(library: Path, timeout_sec: float = -1) -> Iterator[bool]:
    """Waits for the lock of one library (-1: for ever) and says whether it is held.

    The operating system releases the lock of a killed process; a left-over file means nothing. One that cannot be
    opened, for it is another user's, or be locked keeps nobody from building: libraries appear as a whole.
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
    """Removes what builds that were killed left, and all libraries of this one's kind but it and those used last.

    locked: whether this process holds the lock of this library. One line on stderr says what was removed.
    """
    removed = [*_sweep_builds(library, locked), *_sweep_libraries(library)]
    if removed:
        number, size = len(removed), sum(removed) / 1e6
        what = f"{number} unfinished or older build{'s' * (number > 1)} of the ops ({size:.1f} MB)"
        print(f"Removed {what} from {library.parent}", file=sys.stderr, flush=True)


def _sweep_builds(library: Path, locked: bool) -> Iterator[int]:
    """Sizes in bytes of the folders removed."""
    for folder in sorted(library.parent.glob(".*-*-*")):
        match = _BUILD_FOLDER.fullmatch(folder.name)
        if match is None:
            continue
        other = library.with_name(f"{match[1]}.so")
        with contextlib.suppress(OSError):  # gone by now, or another user's
            # Who built without a lock has finished after a day, or never will.
            dead = time.time() - folder.stat().st_mtime > _DAY_SEC
            if other == library:
                dead = dead or locked
            elif not dead:
                with build_lock(other, 0) as dead:
                    pass
                if dead and not other.exists():
                    other.with_suffix(".lock").unlink(missing_ok=True)
            if dead:
                size = sum(path.stat().st_size for path in folder.rglob("*"))
                shutil.rmtree(folder)
                yield size


def _sweep_libraries(library: Path) -> Iterator[int]:
    """Sizes in bytes of the libraries removed."""
    kind = library.name.partition("-")[0]
    others = [path for path in library.parent.glob(f"{kind}-*.so") if path != library]
    used = {}
    for path in others:
        with contextlib.suppress(OSError):
            used[path] = _last_use(path)
    for path in sorted(used, key=used.__getitem__, reverse=True)[MAX_KEPT - 1 :]:
        with contextlib.suppress(OSError):  # gone by now, or another user's
            if not _is_held(path):
                size = path.stat().st_size
                path.unlink()
                for note in (*path.parent.glob(f"{path.name}.*"), path.with_suffix(".lock")):
                    note.unlink(missing_ok=True)
                yield size


def _last_use(library: Path) -> float:
    """Time of the note; of a library that has none, of another user's, or of an older version, when it was read."""
    status = library.stat()
    times = [status.st_mtime, status.st_atime]
    with contextlib.suppress(OSError):
        times.append(_note(library).stat().st_mtime)
    return max(times)


def _is_held(library: Path) -> bool:
    """Whether some process uses the library. Raises `OSError` where it cannot be opened."""
    import fcntl

    with open(library, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _note(library: Path) -> Path:
    return library.with_name(library.name + ".sum")


def _summary(library: Path) -> str:
    with open(library, "rb") as file:
        content = file.read()
    return f"{len(content)} {zlib.crc32(content):08x}\n"
