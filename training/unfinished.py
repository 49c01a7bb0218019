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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from dnnlib.util import UserError, atomic_write
from training.work_directory import JOURNAL_NAME, LOCK_NAME, WorkDirectory, shared_path

_VERSION = 1


class Unfinished:
    """The work directory of one target.

    Args:
        target: the data set to be.
        key: what decides the content (options, list of sources), as JSON-able values; work goes on only under an equal
            one. None: the directory has a name of its own, and nothing ever goes on from it.
        anew: begin anew if the key is another one.
        work: the target's, which this process has locked before; it is given back here. None: locked now.
    Attributes:
        root: the work directory.
        files: the sub-folder that becomes the target.
        state: that of the last journal, None at the beginning.
    Raises:
        UserError: another process is at work, there is unfinished work under another key, or nothing can be written.
    """

    def __init__(
        self, target: Path, key: Mapping[str, Any] | None, anew: bool = False, work: WorkDirectory | None = None
    ) -> None:
        self._key = None if key is None else json.loads(json.dumps(key))
        self._open: dict[str, BinaryIO] = {}
        self._marked: tuple[dict[str, int], dict[str, Any] | None] = {}, None
        self.state: dict[str, Any] | None = None
        self._work = work or WorkDirectory(target, own=key is None)
        self.root = self._work.root
        self.files = self.root / target.name
        try:
            if key is not None:
                self.state = self._recover(anew)
            self.files.mkdir(exist_ok=True)
        except OSError as err:
            self.close()
            raise UserError(f"cannot write {target}: {err.strerror or err}") from err
        except BaseException:
            self.close()
            raise

    def _recover(self, anew: bool) -> dict[str, Any] | None:
        journal = self.root / JOURNAL_NAME
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
        return [path for path in paths if path.is_file() and path.name not in (JOURNAL_NAME, LOCK_NAME)]

    def _clear(self) -> None:
        (self.root / JOURNAL_NAME).unlink(missing_ok=True)
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
            with atomic_write(self.root / JOURNAL_NAME, "w") as out:
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
        self._work.remove()

    def _close_files(self) -> None:
        for file in self._open.values():
            with contextlib.suppress(OSError):  # a full disk: what matters has been told by checkpoint
                file.close()

    def close(self) -> None:
        """Closes all files and gives the lock back; what is there stays. Closing twice does no harm."""
        self._close_files()
        self._work.release()


def clean_leftovers(target: Path) -> None:
    """Removes the work directory of a conversion that was killed when all but the cleaning up was done."""
    root = shared_path(target)
    # The journal may be gone already: what is not of a conversion is refused by the work directory itself.
    if target.exists() and root.is_dir() and not (root / target.name).exists():
        with contextlib.suppress(UserError, OSError):  # that, or somebody is at work in it after all
            WorkDirectory(target).remove()


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
