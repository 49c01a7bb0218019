"""Run directories `results/00000-description`: creating the next one, finding one again."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import filelock

from dnnlib.util import UserError

_RUN_NAME = re.compile(r"(\d+)(?:-.*)?")
_LOCK_FILE = ".run-dir.lock"
_RUN_LOCK_FILE = ".run.lock"
_LOCK_SEC = 60
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)  # what file systems without them answer


def list_run_dirs(result_dir: os.PathLike | str) -> dict[Path, int]:
    """Run directories below `result_dir` and their numbers, in rising order; empty if there is no such folder."""
    root = Path(result_dir)
    if not root.is_dir():
        return {}
    found = {p: int(m[1]) for p in root.iterdir() if (m := _RUN_NAME.fullmatch(p.name)) and p.is_dir()}
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0].name)))


def check_result_dir(result_dir: os.PathLike | str) -> None:
    """Whether `create_run_dir` is likely to succeed; writes nothing. What takes long can be refused first.

    Raises:
        UserError: the folder, or the lowest one above it that exists, is no folder or cannot be written.
    """
    root = Path(result_dir)
    lowest = next(path for path in (root.absolute(), *root.absolute().parents) if os.path.lexists(path))
    if not lowest.is_dir():
        raise UserError(f"result directory {root} cannot be used: {lowest} exists and is no directory")
    if not os.access(lowest, os.W_OK | os.X_OK):
        raise UserError(f"result directory {root} cannot be written: no permission to write in {lowest}")


def create_run_dir(result_dir: os.PathLike | str, desc: str) -> Path:
    """Makes `result_dir/%05d-desc` with the next free number (highest existing + 1) and returns it.

    Safe against runs that start at the same moment: no two get one number. `result_dir` is made if missing;
    characters of `desc` that are awkward in a file name become underscores.

    Raises:
        UserError: the folder cannot be made or written.
    """
    root = Path(result_dir)
    name = re.sub(r"[^A-Za-z0-9._+=,@-]+", "_", desc).strip("_")[:150]
    try:
        root.mkdir(parents=True, exist_ok=True)
        # The lock belongs to the process, not to the file: a killed run leaves nothing behind that blocks others.
        with _locked(root / _LOCK_FILE, _LOCK_SEC):
            number = max(list_run_dirs(root).values(), default=-1) + 1
            run_dir = root / (f"{number:05d}-{name}" if name else f"{number:05d}")
            run_dir.mkdir()
    except FileExistsError as err:
        raise UserError(f"result directory {root} cannot be used: a file of that name exists ({err.filename})") from err
    except OSError as err:
        raise UserError(f"result directory {root} cannot be written: {err.strerror or err}") from err
    return run_dir


@contextlib.contextmanager
def hold_run_dir(run_dir: os.PathLike | str) -> Iterator[None]:
    """Keeps other processes from writing into the run directory for the length of the block.

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_locked(Path(run_dir) / _RUN_LOCK_FILE, 0))
        except filelock.Timeout as err:
            what = "another process trains there; wait for its end, or stop it"
            raise UserError(f"run directory {run_dir}: {what}") from err
        except OSError as err:
            raise UserError(f"run directory {run_dir} cannot be written: {err.strerror or err}") from err
        yield


@contextlib.contextmanager
def _locked(path: Path, timeout_sec: float) -> Iterator[None]:
    """Holds a lock; on file systems that have none, says so and goes on without."""
    lock = filelock.FileLock(path, timeout=timeout_sec)
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as err:
        if isinstance(err, OSError) and err.errno not in _NO_LOCKS:
            raise
        print(f"warning: no locks in {path.parent} ({err}): see to it that no other process writes there")
    try:
        yield
    finally:
        lock.release()


def find_run_dir(which: os.PathLike | str, result_dir: os.PathLike | str = "results", having: str = "") -> Path:
    """The run directory that a person means.

    Args:
        which: `latest` (highest number), a number like `12` or `00012`, or a path of a directory.
        result_dir: where `latest` and numbers are looked up.
        having: glob pattern of files that the run must hold; `latest` passes over runs that have none.
    Raises:
        UserError: no such run, several with that number, or nothing in it that matches `having`.
    """
    text = os.fspath(which)
    runs = list_run_dirs(result_dir)
    if text == "latest":
        for path in reversed(runs):
            if _has(path, having):
                return path
        what = f"no run in {result_dir} holds {having}" if runs else f"no run directories in {result_dir}"
        raise UserError(f"latest run: {what}")
    if text.isdecimal() and not Path(text).is_dir():
        matches = [path for path, number in runs.items() if number == int(text)]
        if not matches:
            names = ", ".join(path.name for path in runs) or "none"
            raise UserError(f"run {text}: not in {result_dir}, which holds: {names}")
        if len(matches) > 1:
            raise UserError(f"run {text}: several directories have this number: {', '.join(map(str, matches))}")
        path = matches[0]
    else:
        path = Path(text)
        if not path.is_dir():
            raise UserError(f"run directory {text}: no such directory (a path, a run number, or 'latest')")
    if not _has(path, having):
        raise UserError(f"run directory {path}: holds no {having}")
    return path


def _has(path: Path, pattern: str) -> bool:
    return not pattern or any(path.glob(pattern))
