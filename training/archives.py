"""Reading files and members of archives. Members are read where they are, nothing is unpacked, no name is trusted."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dnnlib.util import UserError
from training.dataset_items import Item, Part
from training.zip_directory import MEMBER, Entry, find_directory, read_directory
from training.zip_scan import scan_members

MAX_FILE_BYTES = 1 << 30  # larger files are not images, or archive members that are made to fill the memory
ZIP_ENDINGS = (".zip", ".cbz")
BEYOND = "the archive is cut off or damaged: the member would reach beyond its end"
_LARGEST = (1 << 63) - 1  # size that a list of members holds
_LEAST_DICT = 4096  # of LZMA, bytes
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_DECOMPRESSORS = {8: lambda: zlib.decompressobj(-15), 12: bz2.BZ2Decompressor}
_BLOCK_BYTES = {8: 1 << 12, 12: 1 << 20}  # that have to be read before the first byte comes out, at most


def open_regular(path: str) -> BinaryIO:
    """A regular file, opened for reading; a pipe or device would make us wait for ever.

    Raises:
        UserError: something else, or too large. OSError: it cannot be opened.
    """
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"not a regular file but a {kind_of_file(status.st_mode)}")
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def kind_of_file(mode: int) -> str:
    """What `st_mode` says a thing is, in a word."""
    for name, test in (("folder", stat.S_ISDIR), ("pipe", stat.S_ISFIFO), ("socket", stat.S_ISSOCK)):
        if test(mode):
            return name
    return "device"


def read_item(item: Item) -> bytes:
    """The whole image file of an item.

    Raises:
        UserError: too large, not a regular file, or a broken member. OSError: it cannot be read.
    """
    with open_regular(item.path) as file:
        if item.part is not None:
            return _read_part(file, item.part)
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            raise UserError(f"{size} bytes, expected at most {MAX_FILE_BYTES} in an image file")
        return file.read()


def open_item(item: Item) -> BinaryIO:
    """The image file of an item, to look at its beginning."""
    if item.part is not None:
        return io.BytesIO(read_item(item))
    return open_regular(item.path)


def _read_part(file: BinaryIO, part: Part) -> bytes:
    full = part.size if part.full_size < 0 else part.full_size
    if max(part.size, full) > MAX_FILE_BYTES:
        raise UserError(f"{max(part.size, full)} bytes, expected at most {MAX_FILE_BYTES} in an image file")
    _seek_part(file, part)
    data = file.read(part.size)
    if len(data) < part.size:
        raise UserError(f"the archive is cut off: {part.size - len(data)} bytes of the member are missing")
    if part.method == 14:
        data = _read_lzma(data, full)
    elif part.method != 0:
        if part.method not in _DECOMPRESSORS:
            raise UserError(f"compressed with method {part.method}, which is not known here")
        data = _decompress(_DECOMPRESSORS[part.method](), data, full)
    if len(data) != full or (part.crc is not None and zlib.crc32(data) != part.crc):
        raise UserError("the member of the archive is damaged (wrong length or checksum)")
    return data


def _seek_part(file: BinaryIO, part: Part) -> None:
    """Goes to the first of the member's compressed bytes."""
    file.seek(part.start)
    if part.crc is None:
        return
    head = file.read(_LOCAL_HEADER.size)  # a member of a zip archive: behind a header of its own
    if len(head) < _LOCAL_HEADER.size or not head.startswith(MEMBER):
        raise UserError("the archive is damaged: no member where its directory says")
    _, name_size, extra_size = _LOCAL_HEADER.unpack(head)
    file.seek(name_size + extra_size, os.SEEK_CUR)


def read_start(file: BinaryIO, part: Part, size: int) -> bytes:
    """The first bytes of a member, fewer if it is shorter; of the file no more is read than they need.

    Args:
        file: the archive, open.
    Raises:
        UserError: the archive is damaged there, or the member is compressed in a way that is not known here.
    """
    _seek_part(file, part)
    if part.method == 0:
        return file.read(min(size, part.size))
    slack = _BLOCK_BYTES.get(part.method)
    if slack is None:
        return _read_part(file, part)[:size]
    return _decompress(_DECOMPRESSORS[part.method](), file.read(min(part.size, size + slack)), size - 1)


def _decompress(decompressor, data: bytes, full: int) -> bytes:
    try:
        return decompressor.decompress(data, full + 1)
    except (zlib.error, OSError, lzma.LZMAError, EOFError) as err:
        raise UserError(f"the member of the archive is damaged ({err})") from err


def _read_lzma(data: bytes, full: int) -> bytes:
    """Method 14: version, size and properties of LZMA, then a stream without a header."""
    try:
        (size,) = struct.unpack_from("<H", data, 2)
        first, dict_size = struct.unpack_from("<BI", data[4 : 4 + size])
        lc, rest = first % 9, first // 9
        dict_size = max(min(dict_size, full), _LEAST_DICT)  # nothing refers further back than to the first byte
        chain = [{"id": lzma.FILTER_LZMA1, "lc": lc, "lp": rest % 5, "pb": rest // 5, "dict_size": dict_size}]
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, None, chain)
    except (struct.error, lzma.LZMAError) as err:
        raise UserError(f"the member of the archive is damaged (no LZMA properties: {err})") from err
    return _decompress(decompressor, data[4 + size :], full)


def zip_members(path: Path) -> Iterator[tuple[str, Part | str]]:
    """(name, where it is, or why it cannot be read) of every file in a zip archive.

    Raises:
        UserError: no readable zip archive. One that is cut off gives what it has, and then the reason.
    """
    count = 0
    try:
        with open_regular(str(path)) as file:
            total = os.fstat(file.fileno()).st_size
            for entry in _zip_entries(file):
                count += 1
                if entry.name.endswith("/"):
                    continue
                if entry.encrypted:
                    yield entry.name, "encrypted"
                elif entry.start + entry.packed_size > total:
                    yield entry.name, BEYOND
                elif entry.size > _LARGEST:
                    yield entry.name, f"the archive is damaged: {entry.size} bytes in a member"
                else:
                    yield entry.name, Part(entry.start, entry.packed_size, entry.method, entry.size, entry.crc)
    except (OSError, ValueError) as err:
        if not count:
            raise UserError(f"cannot read the archive {path}: {err}") from err
        yield f"(after member {count})", f"the archive is cut off or damaged ({err})"


def _zip_entries(file: BinaryIO) -> Iterator[Entry]:
    """By the directory of the archive, or without it if it is gone."""
    try:
        where = find_directory(file)
    except ValueError:
        file.seek(0)
        if file.read(len(MEMBER)) != MEMBER:
            raise
        where = None
    return scan_members(file, MAX_FILE_BYTES) if where is None else read_directory(file, where)
