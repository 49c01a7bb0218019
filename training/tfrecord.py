"""TFRecord files, read and written without TensorFlow.

A file is a sequence of records: length (uint64), masked CRC32C of the length, data, masked CRC32C of the data, all
little endian. What is in the data of an image record: `example.py`.
"""

from __future__ import annotations

import os
import struct
import threading
import weakref
from pathlib import Path
from types import TracebackType

import google_crc32c
import numpy as np

from dnnlib.util import UserError
from training.example import decode_image

HEADER_BYTES = 12  # length and its CRC
FOOTER_BYTES = 4  # CRC of the data
OVERHEAD_BYTES = HEADER_BYTES + FOOTER_BYTES
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")


def masked_crc(data: bytes) -> int:
    """CRC32C, rotated right by 15 bits plus a constant: a CRC of data that holds CRCs is weak without the mask."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


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

    Opening a file of equally long records, as raw ones are, takes no longer for a million of them than for one. Every
    record is checked completely when it is read.

    Args:
        path: a file of uncompressed records.
    Attributes:
        lengths: int64 [N], bytes of data of each record.
        starts: int64 [N], where in the file each record begins.
    Raises:
        UserError: the file cannot be opened, is cut off, or holds no records of this kind.
    """

    def __init__(self, path: os.PathLike | str) -> None:
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
            size = os.fstat(self._fd).st_size
            lengths = self._equal_lengths(size)
            self.lengths = self._walk(size) if lengths is None else lengths
        except BaseException:
            self.close()
            raise
        self.starts = np.cumsum(self.lengths + OVERHEAD_BYTES) - self.lengths - OVERHEAD_BYTES

    def __len__(self) -> int:
        return len(self.lengths)

    def close(self) -> None:
        """Closing is optional: the file is closed when the object goes away."""
        self._close()

    def _equal_lengths(self, size: int) -> np.ndarray | None:
        """Lengths [N] if the size of the file and a sample of records say that all are equally long, else None."""
        header = self._pread(HEADER_BYTES, 0)
        if len(header) < HEADER_BYTES:
            return None
        (length,) = _LENGTH.unpack_from(header)
        stride = length + OVERHEAD_BYTES
        if stride > size or size % stride:
            return None
        count = size // stride
        sample = np.unique(np.linspace(0, count - 1, 64).astype(np.int64))
        if any(self._pread(HEADER_BYTES, index * stride) != header for index in sample.tolist()):
            return None
        return np.full(count, length, np.int64) if _header_holds(header) else None

    def _walk(self, size: int) -> np.ndarray:
        """Lengths of all records, one after the other."""
        lengths: list[int] = []
        pos = 0
        while pos < size:
            header = self._pread(HEADER_BYTES, pos)
            if len(header) < HEADER_BYTES:
                raise self.broken(len(lengths), f"the file ends after {len(header)} bytes of it")
            if not _header_holds(header):
                if not lengths:
                    raise UserError(
                        f"{self.path}: not an uncompressed TFRecord file (wrong checksum of the first length)"
                    )
                raise self.broken(len(lengths), "wrong checksum of its length")
            (length,) = _LENGTH.unpack_from(header)
            pos += length + OVERHEAD_BYTES
            if pos > size:
                raise self.broken(len(lengths), f"the file is cut off, {pos - size} bytes are missing")
            lengths.append(length)
        return np.array(lengths, np.int64)

    def broken(self, index: int, reason: str) -> UserError:
        """The error about a record."""
        return UserError(
            f"{self.path}: record {index} is broken: {reason}; copy the file again or rebuild the data set "
            f"(python dataset_tool.py verify {self.path.parent} checks all of it)"
        )

    def _pread(self, size: int, offset: int) -> bytes:
        if self._lock is None:
            return os.pread(self._fd, size, offset)
        with self._lock:
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.read(self._fd, size)

    def read(self, index: int) -> bytes:
        """Data of record `index`, its length and checksums verified.

        Raises:
            UserError: the record is broken; names file, record and remedy.
        """
        length = int(self.lengths[index])
        record = self._pread(length + OVERHEAD_BYTES, int(self.starts[index]))
        if len(record) != length + OVERHEAD_BYTES:
            raise self.broken(index, f"{length + OVERHEAD_BYTES - len(record)} bytes are missing")
        if _LENGTH.unpack_from(record)[0] != length or not _header_holds(record[:HEADER_BYTES]):
            raise self.broken(index, "wrong length or checksum of its length")
        data = record[HEADER_BYTES:-FOOTER_BYTES]
        if masked_crc(data) != _CRC.unpack_from(record, length + HEADER_BYTES)[0]:
            raise self.broken(index, "wrong checksum of its data")
        return data

    def read_image(self, index: int) -> np.ndarray:
        """Image of record `index`, uint8 [C, H, W], read-only.

        Raises:
            UserError: the record is broken or holds something else.
        """
        data = self.read(index)
        if self._layout is not None:
            prefix, size, shape = self._layout
            if len(data) == size and data.startswith(prefix):
                return np.frombuffer(data, np.uint8, offset=len(prefix)).reshape(shape)
        try:
            image = decode_image(data)
        except ValueError as err:
            raise self.broken(index, str(err)) from err
        start = image.ctypes.data - np.frombuffer(data, np.uint8).ctypes.data
        if start + image.size == len(data):
            self._layout = (data[:start], len(data), image.shape)
        return image

    def fingerprint(self, count: int) -> bytes:
        """Lengths and data checksums of the first `count` records: they stand for the content, which is not read."""
        ends = (self.starts + self.lengths + HEADER_BYTES)[:count]
        crcs = b"".join(self._pread(FOOTER_BYTES, end) for end in ends.tolist())
        return self.lengths[:count].astype("<i8").tobytes() + crcs


def _header_holds(header: bytes) -> bool:
    return _CRC.unpack_from(header, _LENGTH.size)[0] == masked_crc(header[: _LENGTH.size])
