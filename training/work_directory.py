"""Hidden directories beside a target in which it grows, each with a lock that a killed process cannot keep.

One per target, `.NAME.unfinished`, from which interrupted work may go on; or one for each process,
`.NAME.unfinished-XXXXXXXX`, that nothing goes on from: what a killed process has left of these is removed by the next
one with the same target.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import filelock

from dnnlib.util import UserError

LOCK_NAME = "lock"
JOURNAL_NAME = "journal.json"  # in a directory from which work may go on
_RANDOM = "[a-z0-9_]{8}"  # what tempfile puts at the end of a name


class WorkDirectory:
    """A work directory, locked for this process.

    A context manager: if it has not been given back before, it is at the end, and what is in it deleted unless a
    journal tells that work may go on from there.

    Args:
        target: what will be made; its parents are made.
        own: a directory for this process alone, instead of the one of the target.
    Attributes:
        root: the directory.
    Raises:
        UserError: another process is at work in it, nothing can be written there, or something else has its name.
    """

    def __init__(self, target: Path, own: bool = False) -> None:
        self._lock: filelock.BaseFileLock | None = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_orphans(target)
            while not self._acquire(target, own):
                pass
        except OSError as err:
            raise UserError(f"cannot write {target}: {err.strerror or err}") from err

    def _acquire(self, target: Path, own: bool) -> bool:
        """Makes and locks the directory. False: another process has just removed it."""
        if own:
            self.root = Path(tempfile.mkdtemp(prefix=f".{target.name}.unfinished-", dir=target.parent))
        else:
            self.root = shared_path(target)
            _check_own(self.root)
            self.root.mkdir(exist_ok=True)
        lock = filelock.FileLock(self.root / LOCK_NAME)
        try:
            lock.acquire(timeout=0)
        except FileNotFoundError:
            return False
        except filelock.Timeout as err:
            if own:  # whoever clears up has taken it for an orphan
                return False
            raise UserError(f"another process is writing {target}; wait for it, or give another name") from err
        if not (self.root / LOCK_NAME).exists():  # the process that had it has just finished
            lock.release()
            return False
        self._lock = lock
        return True

    def remove(self) -> None:
        """Deletes the directory with all that is in it, and gives the lock back."""
        _empty(self.root)
        self.release()
        with contextlib.suppress(OSError):  # another process has just begun in it
            self.root.rmdir()

    def release(self) -> None:
        """Gives the lock back; what is in the directory stays. Twice does no harm."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> WorkDirectory:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._lock is not None:
            if (self.root / JOURNAL_NAME).exists():
                self.release()
            else:
                self.remove()


def shared_path(target: Path) -> Path:
    """The one work directory of a target."""
    return target.parent / f".{target.name}.unfinished"


def _check_own(root: Path) -> None:
    """Whether there is nothing, or what a process has left that was at work there: it may be emptied.

    Raises:
        UserError: it is something else that has this name.
    """
    if root.is_symlink() or root.is_file():
        found = f"is a {'link' if root.is_symlink() else 'file'}"
    else:
        names = os.listdir(root) if root.exists() else []
        if not names or LOCK_NAME in names or JOURNAL_NAME in names:
            return
        found = f"holds {min(names)}"
    raise UserError(f"{root} {found}, expected what an interrupted command has left, or nothing; move it away")


def _empty(root: Path) -> None:
    # The lock goes last: whoever finds the directory without it waits for no one.
    for path in sorted(root.iterdir(), key=lambda path: path.name == LOCK_NAME):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def remove_orphans(target: Path) -> None:
    """Removes the directories that killed processes have made for `target` and for themselves alone."""
    pattern = re.compile(re.escape(f".{target.name}.unfinished-") + _RANDOM)
    with os.scandir(target.parent) as entries:
        named = [entry for entry in entries if pattern.fullmatch(entry.name)]
        found = [Path(entry.path) for entry in named if entry.is_dir(follow_symlinks=False)]
    for path in found:
        with contextlib.suppress(OSError, filelock.Timeout):  # somebody is at work in it, or it is another user's
            _remove_orphan(path)


def _remove_orphan(root: Path) -> None:
    if os.listdir(root) and not (root / LOCK_NAME).exists():
        return  # not made here
    with filelock.FileLock(root / LOCK_NAME, timeout=0):
        _empty(root)
    root.rmdir()


@contextlib.contextmanager
def appears_whole(target: Path) -> Iterator[Path]:
    """Context manager: a directory to fill, which gets the name `target` at the end of the block.

    If the block raises, or the process is interrupted, nothing of it is left; a process that is killed leaves a hidden
    directory beside `target`, which the next one removes, and never one with its name. Parents are made; an empty
    `target` is replaced.

    Raises:
        UserError: another process is writing `target`, nothing can be written there, or there is no room for all.
    """
    # That of the target only tells others that somebody is at work: another command may go on from what is in it.
    with WorkDirectory(target), WorkDirectory(target, own=True) as work:
        try:
            content = work.root / target.name  # mkdtemp's own directory is for this user alone
            content.mkdir()
            yield content
            os.replace(content, target)
        except OSError as err:
            reason = err.strerror or err
            raise UserError(f"cannot write {target}: {reason}; with more room give the same command") from err
