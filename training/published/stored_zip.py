"""Uncompressed zip archives of any number of members: `zipfile` would hold an object for each until the end."""

from __future__ import annotations

import shutil
import struct
import tempfile
import zlib
from types import TracebackType
from typing import BinaryIO

_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_END = struct.Struct("<4s4H2LH")
_VERSION, _VERSION64 = 20, 45
_UTF8 = 1 << 11
_DATE = 0x21  # 1 January 1980, the earliest there is: equal members make equal archives
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF


class StoredZip:
    """Writes an archive front to back; its directory waits in a temporary file. A context manager.

    Args:
        file: what to write to, from its present position, which must be 0.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._directory = tempfile.TemporaryFile()  # noqa: SIM115 (closed on exit)
        self._position = 0
        self._count = 0

    def write(self, name: str, data: bytes) -> None:
        """Adds a member; `name` is a relative path with slashes, `data` less than 4 GB.

        Raises:
            ValueError: more bytes.
        """
        self._write_head(name, len(data), zlib.crc32(data))
        self._file.write(data)

    def write_file(self, name: str, file: BinaryIO) -> None:
        """Adds the whole content of a file, less than 4 GB, as a member; it need not fit into memory.

        Raises:
            ValueError: more bytes.
        """
        file.seek(0)
        crc = size = 0
        while chunk := file.read(1 << 20):
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
        self._write_head(name, size, crc)
        file.seek(0)
        shutil.copyfileobj(file, self._file, 1 << 20)

    def _write_head(self, name: str, size: int, crc: int) -> None:
        """Writes what precedes a member, and notes it for the directory."""
        if size >= _FULL32:
            raise ValueError(f"{name}: {size} bytes, expected less than {_FULL32}")
        raw, flags = name.encode(), 0 if name.isascii() else _UTF8
        far = self._position >= _FULL32
        extra = struct.pack("<HHQ", 1, 8, self._position) if far else b""
        version = _VERSION64 if far else _VERSION
        common = (flags, 0, 0, _DATE, crc, size, size, len(raw))
        self._file.write(_LOCAL.pack(b"PK\x03\x04", _VERSION, *common, 0) + raw)
        place = _FULL32 if far else self._position
        entry = _ENTRY.pack(b"PK\x01\x02", version, version, *common, len(extra), 0, 0, 0, 0, place)
        self._directory.write(entry + raw + extra)
        self._position += _LOCAL.size + len(raw) + size
        self._count += 1

    def _finish(self) -> None:
        size = self._directory.tell()
        self._directory.seek(0)
        shutil.copyfileobj(self._directory, self._file, 1 << 20)
        count, start = self._count, self._position
        if count >= _FULL16 or start >= _FULL32 or size >= _FULL32:
            end = start + size
            head = (b"PK\x06\x06", _END64.size - 12, _VERSION64, _VERSION64, 0, 0)
            self._file.write(_END64.pack(*head, count, count, size, start) + _LOCATOR.pack(b"PK\x06\x07", 0, end, 1))
        few, small, near = min(count, _FULL16), min(size, _FULL32), min(start, _FULL32)
        self._file.write(_END.pack(b"PK\x05\x06", 0, 0, few, few, small, near, 0))

    def __enter__(self) -> StoredZip:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._directory.close()
