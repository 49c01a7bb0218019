"""Large records on their way from worker processes to the one that writes them.

A pipe between processes passes 64 kB at a time and copies everything several times; a file is written and read at once.
It lives for a moment, in the work directory of the data set, where an interrupted conversion cleans up.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_BYTES = 1 << 19  # smaller records go through the pipe


@dataclass(frozen=True)
class Spooled:
    """Records in a file: its path, and the length of each record."""

    path: str
    sizes: tuple[int, ...]


class SpoolReader:
    """Reads spooled records into memory that is used again and again: fresh memory costs as much as the copying."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def take(self, spooled: Spooled) -> list[memoryview]:
        """The records, valid until the next call; the file is gone afterwards.

        Raises:
            OSError: the file is not there, or shorter than it was.
        """
        total = sum(spooled.sizes)
        if len(self._buffer) < total:
            self._buffer = bytearray(total)
        data = memoryview(self._buffer)[:total]
        start = 0
        with open(spooled.path, "rb", buffering=0) as file:
            while start < total:
                if not (count := file.readinto(data[start:])):
                    raise OSError(f"{spooled.path}: {total - start} bytes are missing")
                start += count
        os.unlink(spooled.path)
        ends = list(itertools.accumulate(spooled.sizes))
        return [data[end - size : end] for size, end in zip(spooled.sizes, ends, strict=True)]


def spool(records: Sequence[bytes], folder: str | None) -> Sequence[bytes] | Spooled:
    """In a worker process, large records as a file in `folder`; else the records as they are."""
    if folder is None or multiprocessing.parent_process() is None or sum(map(len, records)) < LEAST_BYTES:
        return records
    descriptor, path = tempfile.mkstemp(prefix="spool-", dir=folder)
    with open(descriptor, "wb", buffering=0) as file:
        for record in records:
            view = memoryview(record)
            while view:
                view = view[file.write(view) :]
    return Spooled(path, tuple(map(len, records)))
