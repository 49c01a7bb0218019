"""Whether a file whose name does not tell begins as an image does, by Pillow's own signatures."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable, Iterator

from PIL import Image, ImageFile

_PREFIX_BYTES = 16  # what Pillow's readers ask for to recognize their format
_WINDOW_BYTES = 1 << 20  # enough for the header of any format with a short signature
# Signatures that no other file has. A damaged image is then one to report, not one to pass over.
_UNMISTAKABLE = frozenset(
    ("AVIF", "DDS", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PNG", "PSD", "QOI", "TIFF", "WEBP")
)
_NO_PIXELS = frozenset(("MPEG",))  # Pillow knows what it is, and cannot decode it


def begins_like_image(read_start: Callable[[int], bytes]) -> bool:
    """Whether a file is in a format that Pillow recognizes by its first bytes and can decode.

    Formats without a signature (TGA, PCD and a few others) are known by their endings alone.

    Args:
        read_start: number of bytes -> so many from the beginning of the file, fewer if it is shorter.
    """
    prefix = read_start(_PREFIX_BYTES)
    formats = list(_formats(prefix))
    if not formats:
        return False
    # Two or three letters may begin a text, too: "BM" is a bitmap, or a note on a BMW.
    return not _UNMISTAKABLE.isdisjoint(formats) or _opens(read_start(_WINDOW_BYTES), formats)


def can_decode(name: str) -> bool:
    """Whether Pillow decodes a format, and does not only know what it is or write it."""
    if name not in Image.OPEN or name in _NO_PIXELS:
        return False
    factory, _ = Image.OPEN[name]
    return not (isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile))


def _formats(prefix: bytes) -> Iterator[str]:
    Image.init()
    for name in Image.ID:
        _, accept = Image.OPEN[name]
        if accept is None or not can_decode(name):
            continue
        try:
            found = accept(prefix)
        except (IndexError, TypeError, SyntaxError, struct.error):  # as Pillow itself: the file is too short
            continue
        if found:
            yield name


def _opens(start: bytes, formats: list[str]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            Image.open(io.BytesIO(start), formats=formats).close()
        except Image.DecompressionBombError:  # an image, to be refused by whoever decodes it
            return True
        except Exception:  # readers raise anything on what is not theirs
            return False
    return True
