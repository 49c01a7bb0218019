"""Large records on their way from worker processes to the one that writes them.

A pipe between processes passes 64 kB at a time and copies everything several times; a file is written and read at once.
It lives for a moment, in the work directory of the data set, where an interrupted conversion cleans up.
"""

from __future__ import annotations

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

    def take(self) -> list[memoryview]:
        """The records; the file is gone afterwards."""
        with open(self.path, "rb") as file:
            data = memoryview(file.read())
        os.unlink(self.path)
        records, start = [], 0
        for size in self.sizes:
            records.append(data[start : start + size])
            start += size
        return records


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
