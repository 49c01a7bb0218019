"""Large records on their way from worker processes to the one that writes them.

A pipe between processes passes 64 kB at a time and copies everything several times. So they go through files in the
work directory of the data set that both sides have mapped into their memory: written once, and used again and again,
because fresh pages for every image cost as much as decoding it. An interrupted conversion cleans them up.
"""

from __future__ import annotations

import itertools
import mmap
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

LEAST_BYTES = 1 << 19  # smaller records go through the pipe
_MOST_MAPPED = 64 << 20  # bytes of files that the reader keeps mapped, about
_FREE, _FULL = 0, 1  # the first byte of a file: whether the reader has taken what is behind it

_files: dict[str, mmap.mmap] = {}  # of this worker process, by path


@dataclass(frozen=True)
class Spooled:
    """Records in a file, from its second byte on: its path, and the length of each record."""

    path: str
    sizes: tuple[int, ...]


class SpoolReader:
    """Takes spooled records out of their files. A context manager."""

    def __init__(self) -> None:
        self._files: dict[str, mmap.mmap] = {}
        self._views: list[memoryview] = []
        self._taken: mmap.mmap | None = None

    def take(self, spooled: Spooled) -> list[memoryview]:
        """The records, valid until the next call; then their file may be filled again.

        Raises:
            OSError: the file is not there. ValueError: it is too short.
        """
        self._release()
        mapped = self._files.get(spooled.path)
        if mapped is None:
            while self._files and sum(map(len, self._files.values())) > _MOST_MAPPED:
                self._files.pop(next(iter(self._files))).close()
            with open(spooled.path, "r+b") as file:
                mapped = self._files[spooled.path] = mmap.mmap(file.fileno(), 0)
        ends = [1 + end for end in itertools.accumulate(spooled.sizes)]
        if len(mapped) < max(ends, default=1):
            raise ValueError(f"{spooled.path}: {max(ends) - len(mapped)} bytes are missing")
        whole = memoryview(mapped)
        self._taken = mapped
        self._views = [whole[end - size : end] for size, end in zip(spooled.sizes, ends, strict=True)]
        whole.release()
        return list(self._views)

    def _release(self) -> None:
        for view in self._views:
            view.release()
        self._views = []
        if self._taken is not None:
            self._taken[0] = _FREE
            self._taken = None

    def __enter__(self) -> SpoolReader:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._release()
        for mapped in self._files.values():
            mapped.close()
        self._files.clear()


def spool(records: Sequence[bytes], folder: str | None) -> Sequence[bytes] | Spooled:
    """In a worker process, large records in a file in `folder`; else the records as they are."""
    total = sum(map(len, records))
    if folder is None or multiprocessing.parent_process() is None or total < LEAST_BYTES:
        return records
    path = next((path for path, one in _files.items() if one[0] == _FREE and len(one) > total), None)
    if path is None:
        try:
            path = _new_file(folder, 1 + total + total // 8)
        except OSError:  # no room: then that of the data set is not there either, and its writer says so
            return records
    mapped = _files[path]
    start = 1
    for record in records:
        mapped[start : start + len(record)] = record
        start += len(record)
    mapped[0] = _FULL
    return Spooled(path, tuple(map(len, records)))


def _new_file(folder: str, size: int) -> str:
    """Maps a new file, and returns its path. Its room on the disk is reserved: a write cannot fail."""
    descriptor, path = tempfile.mkstemp(prefix="spool-", dir=folder)
    with open(descriptor, "r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            file.write(bytes(size))
            file.flush()
        _files[path] = mmap.mmap(descriptor, size)
    return path
