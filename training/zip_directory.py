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
        if len(head) < _ENTRY.size or not head.startswith(b"PK\x01\x02"):
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
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or found + _END.size > len(tail):
        raise ValueError("no zip archive, or cut off: it has no directory at its end")
    *_, size, offset, _ = _END.unpack_from(tail, found)
    end = begin + found
    place = end - _LOCATOR.size - _END64.size
    if place >= 0:
        file.seek(place)
        block = file.read(_END64.size + _LOCATOR.size)
        if block.startswith(b"PK\x06\x06") and block[_END64.size :].startswith(b"PK\x06\x07"):
            *_, size, offset = _END64.unpack_from(block)
            end = place
    shift = end - size - offset
    if shift < 0:
        raise ValueError("cut off or damaged: its directory is not where it should be")
    return end - size, size, shift


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
