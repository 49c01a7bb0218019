"""The directory in which a data set grows until it is complete: a lock, and a journal from which work goes on.

For a target `NAME` it is `.NAME.unfinished` beside it. The files of the data set grow in its sub-folder `NAME`, which
is renamed at the end. The journal tells how long every file was when all of them were safe on the disk; what has been
appended since is cut off when work goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import filelock

from dnnlib.util import UserError, atomic_write

_JOURNAL = "journal.json"
_LOCK = "lock"
_VERSION = 1


class Unfinished:
    """The work directory of one target.

    Args:
        target: the data set to be.
        key: what decides the content (options, list of sources), as JSON-able values; work goes on only under an equal
            one. None: the directory has a name of its own, and nothing ever goes on from it.
        anew: begin anew if the key is another one.
    Attributes:
        root: the work directory.
        files: the sub-folder that becomes the target.
        state: that of the last journal, None at the beginning.
    Raises:
        UserError: another process is at work, there is unfinished work under another key, or nothing can be written.
    """

    def __init__(self, target: Path, key: Mapping[str, Any] | None, anew: bool = False) -> None:
        self._key = None if key is None else json.loads(json.dumps(key))
        self._open: dict[str, BinaryIO] = {}
        self._marked: tuple[dict[str, int], dict[str, Any] | None] = {}, None
        self._lock: filelock.BaseFileLock | None = None
        self.state: dict[str, Any] | None = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if key is None:
                self.root = Path(tempfile.mkdtemp(prefix=f".{target.name}.unfinished-", dir=target.parent))
            else:
                self.root = target.parent / f".{target.name}.unfinished"
                self._acquire(target)
            self.files = self.root / target.name
            if key is not None:
                self.state = self._recover(anew)
            self.files.mkdir(exist_ok=True)
        except OSError as err:
            self.close()
            raise UserError(f"cannot write {target}: {err.strerror or err}") from err
        except BaseException:
            self.close()
            raise

    def _acquire(self, target: Path) -> None:
        while True:
            self.root.mkdir(exist_ok=True)
            lock = filelock.FileLock(self.root / _LOCK)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout as err:
                raise UserError(f"another process is writing {target}; wait for it, or give another name") from err
            self._lock = lock
            if (self.root / _LOCK).exists():  # else the process that had it has just finished
                return
            lock.release()

    def _recover(self, anew: bool) -> dict[str, Any] | None:
        journal = self.root / _JOURNAL
        try:
            content = json.loads(journal.read_text("utf-8"))
            known = content["version"] == _VERSION and isinstance(content["state"], dict)
            before, sizes = content["key"], dict(content["sizes"])
        except FileNotFoundError:
            known = False
        except (ValueError, KeyError, TypeError) as err:
            raise UserError(f"cannot read {journal}: {err}; delete {self.root} to begin anew") from err
        if not known:
            self._clear()
            return None
        if before != self._key:
            different = sorted(k for k in {*before, *self._key} if before.get(k) != self._key.get(k))
            if not anew:
                raise UserError(
                    f"{self.root} holds a conversion with other options that was interrupted (different: "
                    f"{', '.join(different)}); repeat that command to finish it, or give --overwrite to begin anew"
                )
            self._clear()
            return None
        if any(not (self.root / name).is_file() or (self.root / name).stat().st_size < n for name, n in sizes.items()):
            self._clear()  # not what the journal speaks of
            return None
        for name, size in sizes.items():
            os.truncate(self.root / name, size)
        for path in self._contents():
            if path.relative_to(self.root).as_posix() not in sizes:
                path.unlink()
        self._marked = sizes, content["state"]
        return content["state"]

    def _contents(self) -> list[Path]:
        """Files, except for lock, journal, and what was put aside to be replaced."""
        paths = [*self.root.glob("*"), *self.files.glob("*")]
        return [path for path in paths if path.is_file() and path.name not in (_JOURNAL, _LOCK)]

    def _clear(self) -> None:
        (self.root / _JOURNAL).unlink(missing_ok=True)
        for path in self._contents():
            path.unlink()

    def open(self, name: str) -> BinaryIO:
        """A file to append to; `name` is relative to `root`. The same file for the same name."""
        if name not in self._open:
            self._open[name] = open(self.root / name, "ab", buffering=1 << 20)  # noqa: SIM115 (closed by close)
        return self._open[name]

    def mark(self, state: Mapping[str, Any]) -> None:
        """Notes that the files are consistent as they are now: `save` tells the journal of the last mark."""
        sizes = {**self._marked[0], **{name: file.tell() for name, file in self._open.items()}}
        self._marked = sizes, dict(state)

    def save(self) -> None:
        """Brings everything to the disk, and notes that work may go on from the last mark."""
        for file in self._open.values():
            file.flush()
            os.fsync(file.fileno())
        if self._key is not None and self._marked[1] is not None:
            sizes, state = self._marked
            with atomic_write(self.root / _JOURNAL, "w") as out:
                json.dump({"version": _VERSION, "key": self._key, "sizes": sizes, "state": state}, out)

    def publish(self, target: Path) -> None:
        """Gives the files their final name, in place of what is there, and removes the work directory."""
        old = self.root / "replaced"
        if target.exists():
            old.mkdir(exist_ok=True)
            shutil.rmtree(old / target.name, ignore_errors=True)
            os.replace(target, old / target.name)
        os.replace(self.files, target)
        self.remove()

    def remove(self) -> None:
        """Deletes the work directory."""
        self._close_files()
        # The lock goes last: whoever finds the directory without it waits for no one.
        for path in sorted(self.root.iterdir(), key=lambda path: path.name == _LOCK):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.close()
        with contextlib.suppress(OSError):  # another process has just begun in it
            self.root.rmdir()

    def _close_files(self) -> None:
        for file in self._open.values():
            with contextlib.suppress(OSError):  # a full disk: what matters has been told by checkpoint
                file.close()

    def close(self) -> None:
        """Closes all files and gives the lock back; what is there stays. Closing twice does no harm."""
        self._close_files()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def clean_leftovers(target: Path) -> None:
    """Removes the work directory of a conversion that was killed when all but the cleaning up was done."""
    root = target.parent / f".{target.name}.unfinished"
    if not (target.exists() and (root / _JOURNAL).exists() and not (root / target.name).exists()):
        return
    lock = filelock.FileLock(root / _LOCK)
    with contextlib.suppress(filelock.Timeout, OSError):  # somebody is at work in it after all
        lock.acquire(timeout=0)
        shutil.rmtree(root, ignore_errors=True)
        lock.release()


def make_temp_beside(target: Path) -> Path:
    """A new directory beside `target`, to be renamed to it when all is there; parents are made.

    Raises:
        UserError: nothing can be written there.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{target.name}.unfinished-", dir=target.parent))
    except OSError as err:
        raise UserError(f"cannot write {target}: {err.strerror or err}") from err


@contextlib.contextmanager
def appears_whole(target: Path) -> Iterator[Path]:
    """Context manager: a directory to fill, which gets the name `target` at the end of the block.

    If the block raises, or the process is interrupted, nothing of it is left; a process that is killed leaves a hidden
    directory beside `target`, and never one with its name. Parents are made; an empty `target` is replaced.

    Raises:
        UserError: nothing can be written there, or there is no room for all.
    """
    temp = make_temp_beside(target)
    try:
        content = temp / target.name  # mkdtemp's own directory is for this user alone
        content.mkdir()
        yield content
        os.replace(content, target)
    except OSError as err:
        raise UserError(f"cannot write {target}: {err.strerror or err}; with more room give the same command") from err
    finally:
        shutil.rmtree(temp, ignore_errors=True)
