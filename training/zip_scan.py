"""Members of a zip archive without its directory, which is at the end and is what a cut takes away first.

Each member has a header of its own. Where that leaves the size open, as archives written in one go do, a compressed
member is decompressed to find its end.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from training.zip_directory import ENCRYPTED, MEMBER, UTF8, Entry, large_values

_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTOR = b"PK\x07\x08"
_SIZES_BEHIND = 1 << 3  # flag: checksum and sizes come behind the member
_DEFLATED = 8
_READ_BYTES = 1 << 20


def scan_members(file: BinaryIO, most: int) -> Iterator[Entry]:
    """Members by their own headers, in the order of the file, as far as they are whole.

    Args:
        most: bytes that are decompressed in search of the end of a member.
    Raises:
        ValueError: there is no header where the next member should be, or one that does not tell where it ends. So it
            always is in the end.
    """
    total = file.seek(0, os.SEEK_END)
    pos = 0
    while True:
        file.seek(pos)
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size:
            raise ValueError("it has no directory at its end")
        if not head.startswith(MEMBER):
            raise ValueError("its directory cannot be found, and there is no member where the next one should be")
        _, _, flags, method, _, _, crc, packed, full, name_size, extra_size = _LOCAL.unpack(head)
        name, extra = file.read(name_size), file.read(extra_size)
        start, pos = pos, pos + _LOCAL.size + name_size + extra_size
        full, packed, _ = large_values(extra, (full, packed, 0))
        text = name.decode("utf-8", "replace") if flags & UTF8 else name.decode("cp437")
        if flags & _SIZES_BEHIND:
            if method != _DEFLATED or flags & ENCRYPTED:
                raise ValueError(f"it has no directory at its end, and nothing else tells where its member {text} ends")
            packed, full = _inflate(file, pos, most)
            if full > most:
                raise ValueError(f"its member {text} has more than {most} bytes, and nothing else tells where it ends")
            length, crc = _descriptor(file, pos + packed, packed)
            pos += packed + length
        else:
            pos += packed
        if pos > total:
            raise ValueError(f"it ends inside its member {text}")
        yield Entry(text, start, packed, full, method, crc, bool(flags & ENCRYPTED))


def _inflate(file: BinaryIO, pos: int, most: int) -> tuple[int, int]:
    """(packed size, size) of the compressed stream that begins there; of one larger than `most`, of its beginning.

    Raises:
        ValueError: it has no end.
    """
    file.seek(pos)
    stream = zlib.decompressobj(-15)
    packed = full = 0
    data = b""
    try:
        while not stream.eof and full <= most:
            if not data:
                data = file.read(_READ_BYTES)
                if not data:
                    raise ValueError("it ends inside its last member")
                packed += len(data)
            out = stream.decompress(data, _READ_BYTES)
            data = stream.unconsumed_tail
            full += len(out)
    except zlib.error as err:
        raise ValueError(f"a member that cannot be decompressed: {err}") from err
    return packed - len(stream.unused_data), full


def _descriptor(file: BinaryIO, pos: int, packed: int) -> tuple[int, int]:
    """(its size, checksum of the member) of what is behind a member: with or without signature, of 32 or 64 bits.

    Raises:
        ValueError: it is cut off.
    """
    file.seek(pos)
    data = file.read(24)
    if len(data) < 12:  # the shortest form
        raise ValueError("it ends inside its last member")
    begin = 8 if data.startswith(_DESCRIPTOR) else 4
    wide = data[begin : begin + 8] == struct.pack("<Q", packed)
    # Of 32 bits the next four bytes are the size, which is not zero where something was compressed.
    return begin + (16 if wide else 8), int.from_bytes(data[begin - 4 : begin], "little")
