"""Whether a PNG file has EXIF data, told by the heads of its chunks: Pillow decodes the pixels to look behind them."""

from __future__ import annotations

from typing import BinaryIO

_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_RAW_PROFILE = b"Raw profile type exif\0"  # how ImageMagick writes it


def png_has_exif(file: BinaryIO) -> bool:
    """Whether a chunk of the PNG file holds EXIF data, or may; the file is left where it was.

    Of a file that is cut off or damaged: whether one of the chunks before that does.
    """
    before = file.tell()
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            start = file.tell()
            if kind == b"eXIf" or (kind in _TEXT and file.read(len(_RAW_PROFILE)) == _RAW_PROFILE):
                return True
            if kind == b"IEND":
                break
            file.seek(start + length + 4)
        return False
    finally:
        file.seek(before)
