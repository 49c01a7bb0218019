"""The instructions of a pickle one by one, the bytes of large arrays skipped instead of read.

`pickletools` (standard library) knows the instructions and decodes their arguments.
"""

from __future__ import annotations

import io
import pickletools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

MAX_OPS = 1_000_000  # networks take some ten thousand; each may cost a few hundred bytes
# Instructions that hold bytes, and how many bytes their length takes; the bytes themselves follow it.
_LENGTH_BYTES = {"SHORT_BINBYTES": 1, "BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8}
_KEPT_BYTES = 4096  # in outlines: biases, resampling filters and numbers are read, weights are not
# Instructions that hold text, and how many bytes its length takes. Protocols up to 2 write arrays as text, of the
# characters 0 to 255: in UTF-8, or, from Python 2, in one byte each.
_TEXT_LENGTH_BYTES = {"BINUNICODE": 4, "BINUNICODE8": 8, "BINSTRING": 4}
_KEPT_TEXT = 1 << 18  # in outlines: longer texts are arrays, shorter ones may be programs
_PIECE = 1 << 20


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


class TextPayload(Payload):
    """Text of a file, in UTF-8, that nobody has read. Its length is that of the bytes that its characters stand for."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        super().__init__(file, start, size)
        self._characters: int | None = None

    def __len__(self) -> int:
        if self._characters is None:
            self._characters = sum(_count_characters(piece) for piece in self._pieces())
        return self._characters

    def head(self, count: int) -> bytes:
        """The first `count` of the bytes that the characters stand for; without what stands for none."""
        text = super().head(2 * count).decode("utf-8", "ignore")
        return text.encode("latin1", "ignore")[:count]

    def part(self, begin: int, end: int) -> Payload:
        """Bytes whose number is known, but not their place."""
        if not 0 <= begin <= end <= len(self):
            raise ValueError(f"bytes {begin} to {end} of {len(self)}")
        return Payload(self._file, self._start, end - begin)

    def _pieces(self) -> Iterator[bytes]:
        before = self._file.tell()
        self._file.seek(self._start)
        for begin in range(0, self._size, _PIECE):
            yield self._file.read(min(_PIECE, self._size - begin))
        self._file.seek(before)


def _count_characters(data: bytes) -> int:
    """Of text in UTF-8: the bytes that are not the second, third or fourth of a character."""
    return int(np.count_nonzero((np.frombuffer(data, np.uint8) & 0xC0) != 0x80))


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
        self.file = file
        self.tell, self.readline = file.tell, file.readline
        start = file.tell()
        self.end = file.seek(0, io.SEEK_END)
        file.seek(start)

    def read(self, count: int) -> bytes:
        if count > 1 << 16:
            count = min(count, self.end - self.tell())
        return self.file.read(count)

    def skip(self, length_bytes: int) -> tuple[int, int]:
        """(start, size) of bytes behind their length, which is read; ValueError if they are cut short."""
        head = self.read(length_bytes)
        start, size = self.tell(), int.from_bytes(head, "little")
        if len(head) < length_bytes or start + size > self.end:
            raise ValueError(f"expected {size} bytes, but only {max(self.end - start, 0)} remain")
        self.file.seek(start + size)
        return start, size


def instructions(file: BinaryIO, take: Take, skip_text: bool = False) -> Iterator[tuple[str, Any, int]]:
    """(name, argument, position) of each instruction of the pickle that begins where the file is, up to the last one.

    file: seekable; `take` says what stands for bytes; skip_text: of texts of 256 KiB and more, too, a `Payload` stands
    for what they are. Raises ValueError, or what `pickletools` raises, where the pickle
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
            elif skip_text and op.name in _TEXT_LENGTH_BYTES:
                arg = _take_text(reader, op)
            else:
                arg = None if op.arg is None else op.arg.reader(reader)
            yield op.name, arg, position
            if op.name == "STOP":
                return
    raise TooManyInstructions(f"more than {MAX_OPS} instructions")


def _take_text(reader: _Reader, op: pickletools.OpcodeInfo) -> str | Payload:
    position = reader.tell()
    start, size = reader.skip(_TEXT_LENGTH_BYTES[op.name])
    if size >= _KEPT_TEXT:
        return (Payload if op.name == "BINSTRING" else TextPayload)(reader.file, start, size)
    reader.file.seek(position)
    return op.arg.reader(reader)


class TooManyInstructions(Exception):
    """A pickle that goes on for longer than network files do."""
