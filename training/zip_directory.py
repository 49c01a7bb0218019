"""The directory of a zip archive, entry by entry: `zipfile` would hold an object for each of a million members."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_END = struct.Struct("<4s4H2LH")  # end of the directory
_LOCATOR = struct.Struct("<4sLQL")  # of the end for archives beyond 4 GB, right before it
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
MEMBER, _MARK = b"PK\x03\x04", b"PK\x01\x02"  # before a member, and before its entry in the directory
_LONGEST_COMMENT = 0xFFFF
UTF8, ENCRYPTED = 1 << 11, 1  # flags of a member


@dataclass(frozen=True)
class Entry:
    """A member as the directory tells it. Sizes in bytes; `start`: of its local header in the file."""

    name: str
    start: int
    packed_size: int
    size: int
    method: int
    crc: int
    encrypted: bool


def read_directory(file: BinaryIO, where: tuple[int, int, int] | None = None) -> Iterator[Entry]:
    """All members, in the order of the directory.

    Args:
        where: see `find_directory`; None: it is to be found.
    Raises:
        ValueError: no zip archive, cut off or damaged.
    """
    start, size, shift = where or find_directory(file)
    pos = start
    while pos < start + size:
        file.seek(pos)
        head = file.read(_ENTRY.size)
        if len(head) < _ENTRY.size or not head.startswith(_MARK):
            raise ValueError("its directory is damaged")
        _, _, _, flags, method, _, _, crc, packed, full, *lengths, _, _, _, offset = _ENTRY.unpack(head)
        name, extra = file.read(lengths[0]), file.read(lengths[1])
        pos += _ENTRY.size + sum(lengths)
        full, packed, offset = large_values(extra, (full, packed, offset))
        text = name.decode("utf-8", "replace") if flags & UTF8 else name.decode("cp437")
        yield Entry(text, offset + shift, packed, full, method, crc, bool(flags & ENCRYPTED))


def find_directory(file: BinaryIO) -> tuple[int, int, int]:
    """(where it begins, its size, how much there is before the archive), in bytes.

    Raises:
        ValueError: no zip archive, or cut off.
    """
    total = file.seek(0, os.SEEK_END)
    begin = max(0, total - _LONGEST_COMMENT - _END.size)
    file.seek(begin)
    tail = file.read()
    what, found = "no zip archive, or cut off: it has no directory at its end", len(tail)
    while (found := tail.rfind(b"PK\x05\x06", 0, found)) >= 0:  # comments and archives inside may have others
        rest = len(tail) - found - _END.size
        if rest < 0:
            continue
        *_, size, offset, comment = _END.unpack_from(tail, found)
        end, size, offset = _large_end(file, begin + found, size, offset)
        start, shift = end - size, end - size - offset
        # Behind other bytes, it may be that of an archive that is a member of a larger one, which is cut off.
        alone = not shift or (shift > 0 and comment == rest and not _begins_with(file, 0, MEMBER))
        if alone and comment <= rest and _is_directory(file, start, size):
            return start, size, shift
        what = "cut off or damaged: its directory is not where it should be"
    raise ValueError(what)


def _large_end(file: BinaryIO, end: int, size: int, offset: int) -> tuple[int, int, int]:
    """(where the directory ends, its size, its place): of an archive beyond 4 GB there is another record of these."""
    place = end - _LOCATOR.size - _END64.size
    if place >= 0:
        file.seek(place)
        block = file.read(_END64.size + _LOCATOR.size)
        if block.startswith(b"PK\x06\x06") and block[_END64.size :].startswith(b"PK\x06\x07"):
            *_, size, offset = _END64.unpack_from(block)
            end = place
    return end, size, offset


def _is_directory(file: BinaryIO, start: int, size: int) -> bool:
    return not size or (start >= 0 and _begins_with(file, start, _MARK))


def _begins_with(file: BinaryIO, start: int, mark: bytes) -> bool:
    file.seek(start)
    return file.read(len(mark)) == mark


def large_values(extra: bytes, values: tuple[int, int, int]) -> list[int]:
    """Size, packed size and offset; those that do not fit into 32 bits are in the extra field, in this order."""
    result = list(values)
    pos = 0
    while 0xFFFFFFFF in values and pos + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, pos)
        if kind == 1:
            numbers = iter(struct.unpack_from(f"<{min(length, len(extra) - pos - 4) // 8}Q", extra, pos + 4))
            result = [next(numbers, value) if value == 0xFFFFFFFF else value for value in values]
            break
        pos += 4 + length
    return result
