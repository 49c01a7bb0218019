"""Images are recognized by their first bytes, and texts that begin alike are not."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from training.first_bytes import begins_like_image

SIGNED = (
    "AVIF", "BLP", "BMP", "DDS", "DIB", "EPS", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "MSP", "PCX", "PNG", "PPM",
    "QOI", "SGI", "TIFF", "WEBP", "XBM",
)  # fmt: skip
MODES = {"MSP": "1", "XBM": "1", "BLP": "P"}


def looks(data: bytes) -> bool:
    return begins_like_image(lambda size: data[:size])


def encoded(kind: str, side: int = 32) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).convert(MODES.get(kind, "RGB")).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", SIGNED)
def test_formats_with_a_signature_are_recognized(kind):
    Image.init()
    if kind not in Image.SAVE or kind not in Image.OPEN:
        pytest.skip(f"this Pillow was built without {kind}")
    assert looks(encoded(kind))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF"])
def test_what_is_left_of_an_image_is_one_to_report(kind):
    assert looks(encoded(kind)[:20])


def test_an_image_of_too_many_pixels_is_one_to_report():
    header = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, *[0] * 6)
    assert looks(header)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\n", b"P", b"P3", b"P3 of us were there", b"BM", b"BMW: keys are under the mat", b"#define SIDE 256\n",
        b'{"labels": [["a.png", 0]]}', b"file,class\na.png,cat\n", b"SIMPLE as that", b"%PDF-1.7\n", b"GIF: a history",
        b"RIFF\x24\0\0\0WAVEfmt ", b"\0\0\0\x20ftypisom\0\0\2\0", b"\x0a\0\0\0\x07\0\0\0", b"II", b"\x89HDF\r\n\x1a\n",
        b"GRIB\0\0\0\1", b"\0\0\1\xb3" + bytes(20), b"\xd7\xcd\xc6\x9a\0\0" + bytes(40),
    ],
)  # fmt: skip
def test_other_files_are_not(text):
    assert not looks(text)
    assert not looks(text + b" and so on, for more than sixteen bytes, with numbers 1 2 3")


def test_little_is_read_of_what_is_no_image():
    asked = []

    def read(size: int) -> bytes:
        asked.append(size)
        return b"name,class\n"[:size]

    assert not begins_like_image(read)
    assert max(asked) <= 16
