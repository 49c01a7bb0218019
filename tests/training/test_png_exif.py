"""EXIF data of PNG files is found without decoding their pixels."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from training.image_files import read_header
from training.png_exif import png_has_exif


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def exif(orientation):
    made = Image.Exif()
    made[274] = orientation
    return made.tobytes().removeprefix(b"Exif\0\0")


def png(place=None, orientation=6):
    """A PNG of 12x5; place: of its EXIF data among the chunks."""
    stream = io.BytesIO()
    Image.fromarray(np.arange(180, dtype=np.uint8).reshape(5, 12, 3)).save(stream, "png")
    data = stream.getvalue()
    if place is None:
        return data
    at = data.index(b"IDAT") - 4 if place == "before" else data.index(b"IEND") - 4
    return data[:at] + chunk(b"eXIf", exif(orientation)) + data[at:]


@pytest.mark.parametrize("place", ["before", "behind"])
def test_found_wherever_it_is(tmp_path, place):
    file = io.BytesIO(png(place))
    file.seek(3)
    assert png_has_exif(file) and file.tell() == 3
    (tmp_path / "a.png").write_bytes(png(place))
    header = read_header(tmp_path / "a.png")
    assert (header.width, header.height) == (5, 12)


def test_found_as_text(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n 8\n00000000\n", zip=True)
    stream = io.BytesIO()
    Image.new("RGB", (3, 3)).save(stream, "png", pnginfo=text)
    assert png_has_exif(stream)
    other = PngImagePlugin.PngInfo()
    other.add_text("Comment", "Raw profile type exif")
    stream = io.BytesIO()
    Image.new("RGB", (3, 3)).save(stream, "png", pnginfo=other)
    assert not png_has_exif(stream)


@pytest.mark.parametrize("cut", [0, 7, 10, 20, 40, 60])
def test_files_that_end_early(cut):
    assert not png_has_exif(io.BytesIO(png()[:cut]))


def test_pixels_are_not_decoded(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png())
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("decoded"))
    header = read_header(tmp_path / "a.png")
    assert (header.width, header.height, header.grey) == (12, 5, False)
