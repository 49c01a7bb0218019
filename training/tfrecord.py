"""TFRecord files, read and written without TensorFlow.

A file is a sequence of records: length (uint64), masked CRC32C of the length, data, masked CRC32C of the data, all
little endian. What is in the data of an image record: `example.py`.
"""

from __future__ import annotations

import os
import struct
import threading
import weakref
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

import numpy as np

from dnnlib.util import UserError
from training.example import parse_image
from training.record_index import (
    FOOTER_BYTES,
    HEADER_BYTES,
    OVERHEAD_BYTES,
    BrokenRecord,
    RecordIndex,
    find_records,
    header_holds,
    masked_crc,
    salvage,
)

__all__ = ["OVERHEAD_BYTES", "RecordFile", "RecordWriter", "frame", "masked_crc"]

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_SHORT_BYTES = 1 << 14  # records that are read whole where only their ends are wanted
_WINDOW_BYTES = 1 << 18
_FILES_BEGIN = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")


def frame(payload: bytes) -> bytes:
    """One record around `payload`, as it stands in a file."""
    length = _LENGTH.pack(len(payload))
    return b"".join((length, _CRC.pack(masked_crc(length)), payload, _CRC.pack(masked_crc(payload))))


class RecordWriter:
    """Appends records to a new file. Use as a context manager; the file is complete only after `close`."""

    def __init__(self, path: os.PathLike | str) -> None:
        self.path = Path(path)
        self.num_records = 0
        self._file = open(self.path, "xb", buffering=1 << 20)  # noqa: SIM115 (closed by close)

    def write(self, payload: bytes) -> None:
        """Appends one record that holds `payload`."""
        self._file.write(frame(payload))
        self.num_records += 1

    def close(self) -> None:
        """Brings everything to the disk and closes the file; closing twice does no harm."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class RecordFile:
    """Random access to the records of a file. Safe to use from several threads.

    Opening finds the records without reading their data. Every record is checked completely when it is read.

    Args:
        path: a file of uncompressed records.
        damaged: accept a file that is cut off or has gaps; records that cannot be found raise when they are read.
    Attributes:
        lengths: int64 [N], bytes of data of each record.
        starts: int64 [N], where in the file each record begins.
    Raises:
        UserError: the file cannot be opened, or (unless `damaged`) is cut off or holds no records of this kind.
    """

    def __init__(self, path: os.PathLike | str, damaged: bool = False) -> None:
        self.path = Path(path)
        try:
            self._fd = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as err:
            raise UserError(f"cannot open {self.path}: {err.strerror or err}") from err
        self._close = weakref.finalize(self, os.close, self._fd)
        # What precedes the pixels of the last image parsed: records that begin alike need no parsing.
        self._layout: tuple[bytes, int, tuple[int, ...]] | None = None
        self._lock = None if hasattr(os, "pread") else threading.Lock()
        try:
            self._index = self._find(damaged)
        except BaseException:
            self.close()
            raise
        self.lengths, self.starts = self._index.lengths, self._index.starts

    def _find(self, damaged: bool) -> RecordIndex:
        status = os.fstat(self._fd)
        try:
            return find_records(self.path, self._pread, status.st_size, status.st_mtime_ns)
        except UserError:
            if not damaged:
                raise
            return salvage(self._pread, status.st_size)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def gaps(self) -> Collection[int]:
        """Records of a damaged file that cannot be found."""
        return self._index.gaps.keys()

    def close(self) -> None:
        """Closing is optional: the file is closed when the object goes away."""
        self._close()

    def broken(self, index: int, reason: str) -> BrokenRecord:
        """The error about a record of this file."""
        return BrokenRecord(self.path, index, reason)

    def _pread(self, size: int, offset: int) -> bytes:
        try:
            if self._lock is None:
                return os.pread(self._fd, size, offset)
            with self._lock:
                os.lseek(self._fd, offset, os.SEEK_SET)
                return os.read(self._fd, size)
        except OSError as err:
            raise UserError(f"cannot read {self.path}: {err.strerror or err}") from err

    def read_record(self, index: int) -> bytes:
        """Record `index` as it stands in the file, its length and checksums verified.

        Raises:
            UserError: the record is broken; names file, record and remedy.
        """
        if index in self._index.gaps:
            raise self.broken(index, self._index.gaps[index])
        length = int(self.lengths[index])
        record = self._pread(length + OVERHEAD_BYTES, int(self.starts[index]))
        if len(record) != length + OVERHEAD_BYTES:
            raise self.broken(index, f"{length + OVERHEAD_BYTES - len(record)} bytes are missing")
        if _LENGTH.unpack_from(record)[0] != length or not header_holds(record[:HEADER_BYTES]):
            raise self.broken(index, "wrong length or checksum of its length")
        if masked_crc(record[HEADER_BYTES:-FOOTER_BYTES]) != _CRC.unpack_from(record, length + HEADER_BYTES)[0]:
            raise self.broken(index, "wrong checksum of its data")
        return record

    def read(self, index: int) -> bytes:
        """Data of record `index`, see `read_record`."""
        return self.read_record(index)[HEADER_BYTES:-FOOTER_BYTES]

    def read_image(self, index: int, out: np.ndarray | None = None) -> np.ndarray:
        """Image of record `index`, uint8 [C, H, W]: decoded, or a read-only view of raw pixels.

        Args:
            out: uint8 [C, H, W] array to write to; the record must have its shape.
        Raises:
            UserError: the record is broken, holds something else, or has another shape than `out`.
        """
        data = self.read(index)
        if self._layout is not None:
            prefix, size, shape = self._layout
            start = len(prefix)
            # Pixels that begin like an image file are looked at more closely, see `parse_image`.
            if len(data) == size and data.startswith(prefix) and not data.startswith(_FILES_BEGIN, start):
                image = np.frombuffer(data, np.uint8, offset=start).reshape(shape)
                if out is None:
                    return image
                if shape == out.shape:
                    out[...] = image
                    return out
        try:
            record = parse_image(data)
            image = record.decode(out)
        except ValueError as err:
            raise self.broken(index, str(err)) from err
        if record.encoding == "raw" and len(data) - len(record.data) == _offset(record.data, data):
            self._layout = (data[: -len(record.data)], len(data), record.shape)
        return image

    def encoding(self, index: int = 0) -> str:
        """raw, png, jpeg or webp: what record `index` holds.

        Raises:
            UserError: the record is broken or holds something else.
        """
        try:
            return parse_image(self.read(index)).encoding
        except ValueError as err:
            raise self.broken(index, str(err)) from err

    def fingerprint(self, count: int) -> bytes:
        """Lengths and data checksums of the first `count` records: they stand for the content, which is not read.

        Raises:
            UserError: the file has become shorter since it was opened.
        """
        crcs = self._index.data_crcs
        crcs = self._equal_crcs(min(count, len(self))) if crcs is None else crcs[:count]
        return b"".join((np.ascontiguousarray(self.lengths[:count], "<i8"), np.ascontiguousarray(crcs, "<u4")))

    def _equal_crcs(self, count: int) -> np.ndarray:
        """Data checksums of the first records of a file in which all are equally long: uint32 [count].

        Short records are read many at once, which costs less than a call for each.
        """
        if not count:
            return np.zeros(0, "<u4")
        stride = int(self.lengths[0]) + OVERHEAD_BYTES
        crcs = np.empty(count, "<u4")
        at_once = max(1, _WINDOW_BYTES // stride) if stride <= _SHORT_BYTES else 1
        skip = 0 if at_once > 1 else stride - FOOTER_BYTES
        for first in range(0, count, at_once):
            here = min(at_once, count - first)
            wanted = here * stride - skip
            data = self._pread(wanted, first * stride + skip)
            if len(data) != wanted:
                raise self.broken(first + (len(data) + skip) // stride, f"{wanted - len(data)} bytes are missing")
            offset = stride - FOOTER_BYTES - skip
            crcs[first : first + here] = np.ndarray((here,), "<u4", data, offset, (stride,))
        return crcs


def _offset(part: memoryview, whole: bytes) -> int:
    """Where a view of `whole` begins."""
    return np.frombuffer(part, np.uint8).ctypes.data - np.frombuffer(whole, np.uint8).ctypes.data
