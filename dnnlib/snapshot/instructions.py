"""The instructions of a pickle one by one, the bytes of large arrays skipped instead of read.

`pickletools` (standard library) knows the instructions and decodes their arguments.
"""

from __future__ import annotations

import io
import pickletools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

MAX_OPS = 1_000_000  # networks take some ten thousand; each may cost a few hundred bytes
# Instructions that hold bytes, and how many bytes their length takes; the bytes themselves follow it.
_LENGTH_BYTES = {"SHORT_BINBYTES": 1, "BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8}
_KEPT_BYTES = 4096  # in outlines: biases, resampling filters and numbers are read, weights are not


class Payload:
    """Bytes of a file that nobody has read: where they are and how many."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size = file, start, size

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"<{self._size} bytes>"

    def part(self, begin: int, end: int) -> Payload:
        """Those from `begin` up to `end`, both within these."""
        if not 0 <= begin <= end <= self._size:
            raise ValueError(f"bytes {begin} to {end} of {self._size}")
        return Payload(self._file, self._start + begin, end - begin)

    def head(self, count: int) -> bytes:
        """The first `count`, or all if there are fewer; the file is left at the place where it was."""
        before = self._file.tell()
        self._file.seek(self._start)
        data = self._file.read(min(count, self._size))
        self._file.seek(before)
        return data


#: (start, size) of bytes in the file -> what stands for them.
Take = Callable[[int, int], Any]


def take_from(data: bytes) -> Take:
    """Views of a file's whole content: no second copy of the weights."""
    view = memoryview(data)
    return lambda start, size: view[start : start + size]


def take_outline(file: BinaryIO) -> Take:
    """`Payload`s in place of all bytes but short ones."""

    def take(start: int, size: int) -> Any:
        payload = Payload(file, start, size)
        return payload.head(size) if size <= _KEPT_BYTES else payload

    return take


class _Reader:
    """The file for `pickletools`: whatever length a damaged file declares, no more is asked for than there is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell, self.readline = file.tell, file.readline
        start = file.tell()
        self.end = file.seek(0, io.SEEK_END)
        file.seek(start)

    def read(self, count: int) -> bytes:
        if count > 1 << 16:
            count = min(count, self.end - self.tell())
        return self._file.read(count)

    def skip(self, length_bytes: int) -> tuple[int, int]:
        """(start, size) of bytes behind their length, which is read; ValueError if they are cut short."""
        head = self.read(length_bytes)
        start, size = self.tell(), int.from_bytes(head, "little")
        if len(head) < length_bytes or start + size > self.end:
            raise ValueError(f"expected {size} bytes, but only {max(self.end - start, 0)} remain")
        self._file.seek(start + size)
        return start, size


def instructions(file: BinaryIO, take: Take) -> Iterator[tuple[str, Any, int]]:
    """(name, argument, position) of each instruction of the pickle that begins where the file is, up to the last one.

    file: seekable; `take` says what stands for bytes. Raises ValueError, or what `pickletools` raises, where the pickle
    is damaged, and `TooManyInstructions`.
    """
    reader = _Reader(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of backslashes in damaged text
        for _ in range(MAX_OPS):
            position, code = reader.tell(), reader.read(1)
            if not code:
                raise ValueError("pickle exhausted before seeing STOP")
            op = pickletools.code2op.get(code.decode("latin-1"))
            if op is None:
                raise ValueError(f"at position {position}, opcode {code!r} unknown")
            if op.name in _LENGTH_BYTES:
                arg = take(*reader.skip(_LENGTH_BYTES[op.name]))
            else:
                arg = None if op.arg is None else op.arg.reader(reader)
            yield op.name, arg, position
            if op.name == "STOP":
                return
    raise TooManyInstructions(f"more than {MAX_OPS} instructions")


class TooManyInstructions(Exception):
    """A pickle that goes on for longer than network files do."""
