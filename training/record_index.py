"""Where the records of a file are: lengths and checksums, found by hopping from one to the next.

What took long is kept in the user's cache, never beside the data; a file of another size or time is walked again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from dnnlib.util import UserError, atomic_write, make_cache_dir_path

HEADER_BYTES = 12  # length and its CRC
FOOTER_BYTES = 4  # CRC of the data
OVERHEAD_BYTES = HEADER_BYTES + FOOTER_BYTES
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
# From the checksum of one record's data to the data of the next.
_SEAM = np.dtype([("data_crc", "<u4"), ("length", "<u8"), ("length_crc", "<u4")])
_WINDOW_BYTES = 1 << 18  # read at once while records are short
_SHORT_BYTES = 1 << 14
_TINY_BYTES = 64  # lengths below are checked at once: zeros at the end of a file would be a very long walk
_SLOW_SECONDS = 3.0  # walks that take longer are kept

Read = Callable[[int, int], bytes]  # (size, offset), less at the end of the file


@dataclass
class RecordIndex:
    """Where records are, all of them whole as far as that can be seen without their data.

    lengths: int64 [N], bytes of data. starts: int64 [N], offset of each record. data_crcs: uint32 [N], or None where
    records are equally long and only a sample of them was looked at. gaps: {record: why it cannot be found}, only
    after `salvage`; such a record has length 0.
    """

    lengths: np.ndarray
    starts: np.ndarray
    data_crcs: np.ndarray | None
    gaps: dict[int, str]


@dataclass
class _Walk:
    """How far one went: offsets of records, where the next would begin, and why it does not (empty: the end)."""

    starts: np.ndarray
    lengths: np.ndarray
    data_crcs: np.ndarray
    end: int
    reason: str


def masked_crc(data: bytes) -> int:
    """CRC32C, rotated right by 15 bits plus a constant: a CRC of data that holds CRCs is weak without the mask."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def header_holds(header: bytes) -> bool:
    """Whether the checksum of a record's length is right."""
    return _CRC.unpack_from(header, _LENGTH.size)[0] == masked_crc(header[: _LENGTH.size])


def find_records(path: Path, read: Read, size: int, mtime_ns: int) -> RecordIndex:
    """Finds all records. A file of equally long ones, as raw ones are, takes no longer for a million than for one.

    Raises:
        UserError: cut off, a length with a wrong checksum, or no such file at all.
    """
    index = _equal_lengths(read, size) or _load(path, size, mtime_ns)
    if index is None:
        begin = time.monotonic()
        walk = _walk(read, size, 0)
        if walk.reason:
            if not len(walk.lengths) and walk.reason.startswith("wrong"):
                raise UserError(f"{path}: not an uncompressed TFRecord file (wrong checksum of the first length)")
            raise BrokenRecord(path, len(walk.lengths), walk.reason)
        index = RecordIndex(walk.lengths, walk.starts, walk.data_crcs, {})
        if time.monotonic() - begin > _SLOW_SECONDS:
            _save(index, path, size, mtime_ns)
    return index


class BrokenRecord(UserError):
    """A record that cannot be used: names file, record, reason, and the command that checks the data set."""

    def __init__(self, path: Path, index: int, reason: str) -> None:
        folder = str(path.parent)
        quoted = f"'{folder}'" if " " in folder else folder
        super().__init__(
            f"{path}: record {index} is broken: {reason}; copy the file again or rebuild the data set "
            f"(python dataset_tool.py verify {quoted} checks all of it)"
        )
        self.reason = reason


def _equal_lengths(read: Read, size: int) -> RecordIndex | None:
    """The index if the size of the file and a sample of records say that all are equally long."""
    header = read(HEADER_BYTES, 0)
    if len(header) < HEADER_BYTES:
        return None
    (length,) = _LENGTH.unpack_from(header)
    stride = length + OVERHEAD_BYTES
    if stride > size or size % stride:
        return None
    count = size // stride
    sample = np.unique(np.linspace(0, count - 1, 64).astype(np.int64))
    if not header_holds(header) or any(read(HEADER_BYTES, i * stride) != header for i in sample.tolist()):
        return None
    return RecordIndex(np.full(count, length, np.int64), np.arange(count, dtype=np.int64) * stride, None, {})


def _walk(read: Read, size: int, first: int) -> _Walk:
    """Hops from record to record, from offset `first` on, until something is wrong or the file ends."""
    starts, seams = array("q"), bytearray(FOOTER_BYTES)  # compact: there may be many millions
    pos, window, base, reason, length = first, b"", 0, "", 0
    while pos < size:
        at = pos - base
        if at < 0 or at + HEADER_BYTES > len(window):
            base = pos
            window = read(_WINDOW_BYTES if length <= _SHORT_BYTES else HEADER_BYTES, base)
            at = 0
        if at + HEADER_BYTES > len(window):
            reason = f"the file ends after {len(window)} bytes of it"
            break
        (length,) = _LENGTH.unpack_from(window, at)
        end = pos + length + OVERHEAD_BYTES
        seams += window[at : at + HEADER_BYTES]
        if length < _TINY_BYTES and not header_holds(window[at : at + HEADER_BYTES]):
            reason = "wrong checksum of its length"
            break
        if end > size:
            reason = f"the file is cut off, {end - size} bytes are missing"
            break
        starts.append(pos)
        at = end - FOOTER_BYTES - base
        if at + OVERHEAD_BYTES > len(window):
            base = end - FOOTER_BYTES  # a seam begins with the checksum of the record before
            window = read(_WINDOW_BYTES if length <= _SHORT_BYTES else OVERHEAD_BYTES, base)
            at = 0
        seams += window[at : at + FOOTER_BYTES]
        pos = end
    seams += bytes(-len(seams) % _SEAM.itemsize)
    table = np.frombuffer(seams, _SEAM)
    count = len(starts)
    headers = table[: count + reason.startswith("the file is cut off")]
    wrong = np.flatnonzero(_masked_crcs(headers["length"]) != headers["length_crc"])
    if len(wrong):  # what follows a wrong length means nothing
        count, reason = int(wrong[0]), "wrong checksum of its length"
        pos = starts[count] if count < len(starts) else pos
    return _Walk(
        np.array(starts[:count], np.int64),
        table["length"][:count].astype(np.int64),
        table["data_crc"][1 : count + 1].copy(),
        pos,
        reason,
    )


def salvage(read: Read, size: int) -> RecordIndex:
    """Finds what can be found in a damaged file: behind a gap, the next whole header.

    A gap counts as one record, or where all records before it are equally long and that many fit, as so many.
    """
    parts: list[_Walk] = []
    gaps: dict[int, str] = {}
    count = pos = 0
    while pos < size:
        walk = _walk(read, size, pos)
        parts.append(walk)
        count += len(walk.lengths)
        if not walk.reason:
            break
        lengths = np.concatenate([part.lengths for part in parts])
        known = lengths[lengths > 0]
        stride = int(known[0]) + OVERHEAD_BYTES if len(known) and (known == known[0]).all() else None
        pos = _next_header(read, size, walk.end, stride)
        lost = pos - walk.end
        missing = lost // stride if stride and lost % stride == 0 else 1
        gaps.update({count + i: walk.reason for i in range(missing)})
        zeros = np.zeros(missing, np.int64)
        parts.append(_Walk(zeros + walk.end, zeros, zeros.astype(np.uint32), pos, ""))
        count += missing
    if not parts:
        return RecordIndex(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint32), {})
    return RecordIndex(
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.starts for part in parts]),
        np.concatenate([part.data_crcs for part in parts]),
        gaps,
    )


def _next_header(read: Read, size: int, begin: int, stride: int | None) -> int:
    """Offset of the next record behind a broken one that begins at `begin`; `size` if there is none."""
    if (
        stride is not None
        and begin + stride + HEADER_BYTES <= size
        and header_holds(read(HEADER_BYTES, begin + stride))
    ):
        return begin + stride
    base = begin + 1
    while base + OVERHEAD_BYTES <= size:
        window = np.frombuffer(read(_WINDOW_BYTES, base), np.uint8)
        places = len(window) - HEADER_BYTES + 1
        if places < 1:
            break
        rows = np.lib.stride_tricks.sliding_window_view(window, HEADER_BYTES)
        lengths = np.ascontiguousarray(rows[:, :8]).view("<u8")[:, 0]
        ends = base + np.arange(places, dtype=np.uint64) + np.uint64(OVERHEAD_BYTES)
        fits = np.flatnonzero(lengths <= np.uint64(size) - np.minimum(ends, np.uint64(size)))
        crcs = np.ascontiguousarray(rows[fits, 8:]).view("<u4")[:, 0]
        hits = fits[_masked_crcs(lengths[fits]) == crcs]
        if len(hits):
            return base + int(hits[0])
        base += places
    return size


def _crc_tables() -> np.ndarray:
    """uint32 [8, 256]: what byte b at place i of eight zero bytes adds to their CRC32C (which is affine)."""
    zero = google_crc32c.value(bytes(8))
    rows = [[google_crc32c.value(bytes(i) + bytes([b]) + bytes(7 - i)) ^ zero for b in range(256)] for i in range(8)]
    return np.array(rows, np.uint32)


def _masked_crcs(lengths: np.ndarray) -> np.ndarray:
    """`masked_crc` of many lengths at once: uint32 [N] of uint64 [N]."""
    octets = np.ascontiguousarray(lengths, "<u8").view(np.uint8).reshape(-1, 8)
    crc = np.full(len(octets), google_crc32c.value(bytes(8)), np.uint32)
    tables = _crc_tables()
    for place in range(8):
        crc ^= tables[place][octets[:, place]]
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)


# ---------------------------------------------------------------- cache


def _cache_path(path: Path, size: int, mtime_ns: int) -> str:
    key = hashlib.sha256(f"{os.path.realpath(path)}\n{size}\n{mtime_ns}".encode("utf-8", "surrogateescape"))
    return make_cache_dir_path("records", f"{key.hexdigest()[:32]}.npy")


def _save(index: RecordIndex, path: Path, size: int, mtime_ns: int) -> None:
    """Keeps an index; a cache that cannot be written costs time only."""
    table = np.zeros(len(index.lengths), [("length", "<i8"), ("data_crc", "<u4")])
    table["length"], table["data_crc"] = index.lengths, index.data_crcs
    target = _cache_path(path, size, mtime_ns)
    with contextlib.suppress(OSError, UserError):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with atomic_write(target) as file:
            np.save(file, table)


def _load(path: Path, size: int, mtime_ns: int) -> RecordIndex | None:
    """A kept index, if there is one that fits the size of the file."""
    try:
        table = np.load(_cache_path(path, size, mtime_ns), allow_pickle=False)
        lengths, crcs = table["length"].astype(np.int64), table["data_crc"].astype(np.uint32)
    except (OSError, ValueError, IndexError, EOFError):
        return None
    ends = np.cumsum(lengths + OVERHEAD_BYTES)
    if not len(ends) or (lengths < 0).any() or ends[-1] != size:
        return None
    return RecordIndex(lengths, ends - lengths - OVERHEAD_BYTES, crcs, {})
