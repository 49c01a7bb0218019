"""Camera RAW files are TIFF files inside, of which general decoders see the preview: a thumbnail, as a rule."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

_SUBFILE_TYPE, _PHOTOMETRIC, _DNG_VERSION = 254, 262, 50706  # tags of TIFF
_REDUCED = 1  # bit of the type: a smaller copy of another image of the file
_SENSOR = (32803, 34892)  # photometric interpretations: colour filter array, linear RAW
# A CR2 file, whose preview has no mark: header of TIFF with the directory at 16, and before it CR and the version.
_CANON_HEADER, _CANON_AT, _CANON = b"II*\0\x10\0\0\0", 8, b"CR\2\0"


def is_camera_raw(image: Image.Image, file: BinaryIO) -> bool:
    """Whether an open image is the preview of a RAW file, or the unprocessed values of its sensor.

    Args:
        file: what the image is read from; may be read from anywhere.
    """
    if image.format != "TIFF":
        return False
    tags = image.tag_v2
    subfile = tags.get(_SUBFILE_TYPE, 0)
    if _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in _SENSOR or (isinstance(subfile, int) and subfile & _REDUCED):
        return True
    file.seek(0)
    return file.read(_CANON_AT + len(_CANON)) == _CANON_HEADER + _CANON
