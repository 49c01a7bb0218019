"""A great many pieces of bytes on the disk: eight bytes of memory for each."""

from __future__ import annotations

import tempfile
import weakref
from array import array
from collections.abc import Sequence


class BlobFile(Sequence[bytes]):
    """Pieces of bytes in a temporary file that has no name. A piece that is replaced leaves a hole."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=1 << 16)  # noqa: SIM115 (closed with the object)
        weakref.finalize(self, self._file.close)
        self._starts = array("q")
        self._end = 0
        self._writing = True

    def __len__(self) -> int:
        return len(self._starts)

    def append(self, data: bytes) -> None:
        """Adds a piece at the end."""
        self._starts.append(self._put(data))

    def __setitem__(self, index: int, data: bytes) -> None:
        self._starts[index] = self._put(data)

    def _put(self, data: bytes) -> int:
        if not self._writing:
            self._file.seek(self._end)
            self._writing = True
        start = self._end
        self._end += self._file.write(len(data).to_bytes(4, "little") + data)
        return start

    def __getitem__(self, index: int) -> bytes:
        self._writing = False
        self._file.seek(self._starts[index])  # what is buffered is written first
        return self._file.read(int.from_bytes(self._file.read(4), "little"))
