"""A folder of image files as they turn up in real life, and worse: `python tests/hostile_images.py FOLDER`.

Readable ones show one picture, or a single colour if they are of another size than 16x16, so that what a conversion to
16x16 makes of them is known exactly.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

from tests.cmyk_profile import cmyk_profile, printed

SIDE = 16
Y, X = np.mgrid[:SIDE, :SIDE]
PICTURE = np.dstack([16 * Y, 16 * X, 8 * (X + Y)]).astype(np.uint8)  # [H, W, 3], no symmetry
GREY = (16 * Y + X).astype(np.uint8)  # all values from 0 to 255


@dataclass(frozen=True)
class Hostile:
    """One file, and what a conversion to RGB 16x16 on white has to make of it.

    pixels: uint8 [16, 16, 3], or None if it is left out. reason: part of why. tolerance: of pixel values.
    """

    name: str
    pixels: np.ndarray | None
    reason: str = ""
    tolerance: int = 0


def png_chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    """A chunk of a PNG file."""
    right = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", right if crc is None else crc)


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: bytes, crc: int | None = None) -> bytes:
    """A PNG file by hand; `rows` with the filter byte of each row, `crc` of the pixel data if it is to be wrong."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(rows), crc)
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + pixels + png_chunk(b"IEND", b"")


def encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    """An image file in memory."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def matrix_profile(swap: bool) -> bytes:
    """An ICC profile (version 2, matrix and curves) with primaries of sRGB, gamma 2.2; red and blue may be swapped."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    red, green, blue = (0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139)
    if swap:
        red, blue = blue, red
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79),
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249),
        **{name: b"XYZ \0\0\0\0" + fixed(*v) for name, v in ((b"rXYZ", red), (b"gXYZ", green), (b"bXYZ", blue))},
        **{name: curve for name in (b"rTRC", b"gTRC", b"bTRC")},
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    size = 128 + len(table) + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    header += bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return header + bytes(128 - len(header)) + table + body


def over_white(pixels: np.ndarray, alpha: int) -> np.ndarray:
    """Pixels laid onto white with one alpha; exact where alpha is 0 or 255."""
    return np.rint(pixels * (alpha / 255) + 255 * (1 - alpha / 255)).astype(np.uint8)


class _Maker:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Hostile] = []

    def good(self, name: str | bytes, data: bytes, pixels: np.ndarray = PICTURE, tolerance: int = 0) -> None:
        self._write(name, data)
        rgb = np.broadcast_to(pixels if pixels.ndim == 3 else pixels[..., None], (SIDE, SIDE, 3))
        self.made.append(Hostile(os.fsdecode(name), rgb, "", tolerance))

    def bad(self, name: str | bytes, data: bytes, reason: str) -> None:
        assert reason, name  # any text would hold an empty one
        self._write(name, data)
        self.made.append(Hostile(os.fsdecode(name), None, reason))

    def _write(self, name: str | bytes, data: bytes) -> None:
        path = os.path.join(os.fsencode(self.folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)


def make_corpus(folder: Path) -> list[Hostile]:
    """Makes the files and tells what is expected of each; what is to be passed over without a word is not listed."""
    folder.mkdir(parents=True)
    maker = _Maker(folder)
    for part in (_broken, _raw, _kinds, _colours, _animations, _turned, _names, _no_files):
        part(maker)
    return maker.made


def _broken(m: _Maker) -> None:
    plain, jpeg = encoded(PICTURE, "png"), encoded(PICTURE, "jpeg")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    m.bad("truncated.jpg", encoded(noise, "jpeg")[:1500], "truncated")
    m.bad("truncated_in_header.jpg", jpeg[:100], "Truncated")
    m.bad("truncated.png", encoded(noise, "png")[:4000], "truncated")
    m.bad("without_its_end.png", plain[:-12], "truncated PNG: its end is missing")
    m.bad("half_a_checksum.png", plain[:-14], "truncated PNG: its end is missing")
    m.bad("truncated.webp", encoded(noise, "webp", lossless=True)[:4000], "decoder")
    m.bad("truncated.gif", encoded(noise, "gif")[:1000], "truncated")
    m.bad("truncated.bmp", encoded(noise, "bmp")[:1000], "truncated")
    m.bad("truncated.tiff", encoded(noise, "tiff")[:1000], "truncated")
    rows = b"".join(b"\0" + row.tobytes() for row in PICTURE)
    m.bad("wrong_header_crc.png", plain[:29] + b"\0\0\0\0" + plain[33:], "not an image")
    m.bad("wrong_data_crc.png", png(SIDE, SIDE, 8, 2, rows, crc=0), "wrong checksum of its chunk IDAT")
    m.bad(
        "wrong_comment_crc.png", png(SIDE, SIDE, 8, 2, rows, png_chunk(b"tEXt", b"Comment\0a", crc=0)), "not an image"
    )
    damaged = bytearray(encoded(noise, "png"))
    damaged[2000] ^= 255
    m.bad("damaged_data.png", bytes(damaged), "wrong checksum of its chunk IDAT")
    m.bad("zero_bytes.png", b"", "the file is empty")
    m.bad("one_byte.jpg", b"\xff", "not an image")
    m.bad("text.jpg", b"this is no picture\n" * 9, "not an image")
    m.bad("page.png", b"<!DOCTYPE html><html>404</html>", "not an image")
    m.bad("drawing.jpg", b"<svg xmlns='http://www.w3.org/2000/svg' width='16' height='16'/>", "not an image")
    m.bad("document.jpg", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", "not an image")
    m.bad("noise.png", noise.tobytes(), "not an image")
    m.bad("signature_only.png", plain[:8], "not an image")
    m.bad("signature_only.jpg", b"\xff\xd8\xff", "not an image")
    m.bad("signature_only.gif", b"GIF89a", "not an image")
    m.bad("zero_width.png", png(0, 16, 8, 2, b"\0" * 16), "not an image")
    m.bad(
        "negative_width.bmp",
        b"BM" + struct.pack("<IHHIIiiHH", 0, 0, 0, 54, 40, -5, 5, 1, 24) + bytes(600),
        "pixels, refused",
    )
    m.bad("bomb.png", png(40000, 40000, 1, 0, b"\0" * 100), "pixels, refused")
    m.bad("small_bomb.png", png(12000, 9000, 1, 0, b"\0" * 100), "12000x9000 is more than")
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 << 20)))
    m.bad("text_bomb.png", png(SIDE, SIDE, 8, 2, rows, text), "too large")
    m.bad(
        "tiff_without_end.tif",
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 8),
        "not an image",
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("inside.png", plain)
    m.bad("zip_inside.zip", archive.getvalue(), "no image by its ending .zip")
    m.bad("zip_named.jpg", archive.getvalue(), "not an image")
    m.bad("notes.txt", b"notes", "no image by its ending .txt")
    m.good("behind_the_end.png", plain + b"something else" * 99)
    m.bad("before_the_start.jpg", b"junk" + jpeg, "not an image")


def _raw(m: _Maker) -> None:
    """A TIFF file with a preview first, as cameras write them."""
    preview, rest = PICTURE[::4, ::4].copy(), {"save_all": True, "append_images": [Image.fromarray(PICTURE)]}
    reason = "camera RAW, whose preview is all that can be read here"
    m.bad("reduced.NEF", encoded(preview, "tiff", tiffinfo={254: 1, 271: "NIKON CORPORATION"}, **rest), reason)
    m.bad("raw.dng", encoded(preview, "tiff", tiffinfo={50706: b"\1\4\0\0"}, **rest), reason)
    m.bad("raw.CR2", tiff(preview, before=b"CR\2\0" + bytes(4)), reason)
    marked = PICTURE.copy()
    marked[0, 0], marked[0, 1, 0] = (67, 82, 2), 0
    m.good("pixels_like_the_mark.tif", tiff(marked), marked)


def tiff(pixels: np.ndarray, before: bytes | None = None) -> bytes:
    """A plain TIFF file of uint8 [H, W, 3].

    Args:
        before: what is between header and directory, None: the pixels, as many programs write it.
    """
    data, count = pixels.tobytes(), 9
    directory = 8 + len(data if before is None else before)
    bits = directory + 2 + 12 * count + 4
    strip = 8 if before is None else bits + 6
    height, width = pixels.shape[:2]
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 4, 1, 1), (262, 4, 1, 2), (273, 4, 1, strip),
        (277, 4, 1, 3), (278, 4, 1, height), (279, 4, 1, len(data)),
    ]  # fmt: skip
    listed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    block = struct.pack("<H", count) + listed + bytes(4) + struct.pack("<3H", 8, 8, 8)
    start = b"II*\0" + struct.pack("<I", directory)
    return start + (data + block if before is None else before + block + data)


def _kinds(m: _Maker) -> None:
    for name, kind in (("a.bmp", "bmp"), ("a.tga", "tga"), ("a.ppm", "ppm"), ("a.pcx", "pcx"), ("a.tif", "tiff")):
        m.good(name, encoded(PICTURE, kind))
    m.good("a.ico", encoded(PICTURE, "ico", sizes=[(16, 16)]))
    m.good("lossless.webp", encoded(PICTURE, "webp", lossless=True))
    m.good("packed.tif", encoded(PICTURE, "tiff", compression="tiff_lzw"))
    m.good("interlaced_named_wrongly.jpg", encoded(PICTURE, "png"))
    for name, options in (
        ("progressive.jpg", {"progressive": True}),
        ("subsampled_420.jpg", {"subsampling": 2}),
        ("subsampled_422.jpg", {"subsampling": 1}),
        ("low_quality.jpeg", {"quality": 1}),
        ("restart_markers.JPG", {"restart_marker_blocks": 1}),
    ):
        data = encoded(PICTURE, "jpeg", **options)
        m.good(name, data, np.asarray(Image.open(io.BytesIO(data))))
    m.good("lossy_named.png", data, np.asarray(Image.open(io.BytesIO(data))))
    m.good("no_ending", encoded(PICTURE, "png"))
    colour = np.full((1, 1, 3), (9, 200, 77), np.uint8)
    solid = np.broadcast_to(colour, (SIDE, SIDE, 3))
    m.good("one_pixel.png", encoded(colour, "png"), solid)
    m.good("very_wide.png", encoded(np.broadcast_to(colour, (2, 30000, 3)).copy(), "png"), solid)
    m.good("very_tall.png", encoded(np.broadcast_to(colour, (30000, 2, 3)).copy(), "png"), solid)
    m.good("odd_size.png", encoded(np.broadcast_to(colour, (17, 31, 3)).copy(), "png"), solid)


def _colours(m: _Maker) -> None:
    wide = GREY.astype(np.uint16) * 257
    odd = GREY.astype(np.uint16) * 256 + 255 - GREY  # of 16 bits the upper eight remain, grey or coloured
    m.good("grey16_odd.png", encoded(odd, "png"), GREY)
    rows = b"".join(b"\0" + row.astype(">u2").repeat(3).tobytes() for row in odd)
    m.good("rgb16_odd.png", png(SIDE, SIDE, 16, 2, rows), GREY)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in odd)
    clear = png_chunk(b"tRNS", struct.pack(">H", odd[3, 5]))
    m.good("grey16_one_clear.png", png(SIDE, SIDE, 16, 0, rows, clear), np.where(odd == odd[3, 5], np.uint8(255), GREY))
    m.good("grey.png", encoded(GREY, "png"), GREY)
    m.good("grey16.png", encoded(wide, "png"), GREY)
    m.good("grey16.tif", encoded(wide, "tiff"), GREY)
    big_endian = io.BytesIO()
    Image.frombytes("I;16B", (SIDE, SIDE), wide.astype(">u2").tobytes()).save(big_endian, "tiff")
    m.good("grey16_big_endian.tif", big_endian.getvalue(), GREY)
    m.good("grey16.pgm", b"P5 16 16 65535\n" + wide.astype(">u2").tobytes(), GREY)
    deep = b"".join(b"\0" + row.astype(">u2").tobytes() for row in PICTURE.astype(np.uint16) * 257)
    m.good("rgb16.png", png(SIDE, SIDE, 16, 2, deep))
    bits = (X + Y) % 3 == 0
    m.good("one_bit.png", encoded(bits, "png"), bits * np.uint8(255))
    m.good("one_bit.tif", encoded(bits, "tiff", compression="group4"), bits * np.uint8(255))
    m.good("grey_opaque.png", encoded(np.dstack([GREY, 0 * GREY + 255]), "png"), GREY)
    m.good("grey_clear.png", encoded(np.dstack([GREY, 0 * GREY]), "png"), 0 * GREY + 255)
    m.good("clear.png", encoded(np.dstack([PICTURE, 0 * GREY]), "png"), 0 * GREY + 255)
    fifth = np.dstack([PICTURE, 0 * GREY + 51])
    m.good("fifth.png", encoded(fifth, "png"), over_white(PICTURE, 51), tolerance=1)
    m.good("fifth.webp", encoded(fifth, "webp", lossless=True, exact=True), over_white(PICTURE, 51), tolerance=1)
    keyed = png_chunk(b"tRNS", struct.pack(">HHH", *PICTURE[3, 5].tolist()))
    rows = b"".join(b"\0" + row.tobytes() for row in PICTURE)
    expected = PICTURE.copy()
    expected[3, 5] = 255
    m.good("one_clear_colour.png", png(SIDE, SIDE, 8, 2, rows, keyed), expected)
    quarters = (X // 8 + 2 * (Y // 8)).astype(np.uint8)
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    indexed = Image.fromarray(quarters)
    indexed.putpalette(palette.tobytes())
    seen = np.where(quarters[..., None] == 1, np.uint8(255), palette[quarters])
    for kind in ("png", "gif"):
        for name, options, pixels in (
            ("palette", {}, palette[quarters]), ("palette_clear", {"transparency": 1}, seen),
        ):  # fmt: skip
            out = io.BytesIO()
            indexed.save(out, kind, **options)
            m.good(f"{name}.{kind}", out.getvalue(), pixels)
    cmyk = Image.fromarray(PICTURE).convert("CMYK")
    inks = np.asarray(cmyk).astype(int)
    rgb = 255 - inks[..., :3]  # no black ink in it
    for name, kind, options in (
        ("cmyk.tif", "tiff", {}),
        ("cmyk_profile_of_rgb.tif", "tiff", {"icc_profile": matrix_profile(True)}),
    ):
        out = io.BytesIO()
        cmyk.save(out, kind, **options)
        m.good(name, out.getvalue(), rgb.astype(np.uint8))
    out = io.BytesIO()
    Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)).save(out, "jpeg", icc_profile=b"broken", quality=100)
    m.good("cmyk_broken_profile.jpg", out.getvalue(), np.full((SIDE, SIDE, 3), (255, 0, 0), np.uint8), tolerance=1)
    inks, colours = printed()
    out = io.BytesIO()
    Image.frombytes("CMYK", (SIDE, SIDE), inks.tobytes()).save(out, "tiff", icc_profile=cmyk_profile())
    m.good("cmyk_profile.tif", out.getvalue(), colours, tolerance=1)
    out = io.BytesIO()
    one = Image.new("CMYK", (SIDE, SIDE), tuple(inks[4, 0].tolist()))
    one.save(out, "jpeg", icc_profile=cmyk_profile(), quality=100)
    m.good("cmyk_profile.jpg", out.getvalue(), np.broadcast_to(colours[4, 0], (SIDE, SIDE, 3)), tolerance=2)
    m.good("profile_of_srgb.png", encoded(PICTURE, "png", icc_profile=_srgb()))
    m.good("profile_broken.png", encoded(PICTURE, "png", icc_profile=b"nonsense" * 50))
    swapped = matrix_profile(True)
    # 2.2 is not quite the curve of sRGB: it differs in the dark.
    corners = np.where(PICTURE > 127, np.uint8(255), np.uint8(0))
    m.good("profile_swaps.png", encoded(corners, "png", icc_profile=swapped), corners[..., ::-1], tolerance=2)
    m.good("profile_swaps.tif", encoded(corners, "tiff", icc_profile=swapped), corners[..., ::-1], tolerance=2)
    m.bad("float.tif", encoded(GREY.astype(np.float32), "tiff"), "floating point pixels have no defined range")
    nan = GREY.astype(np.float32)
    nan[3, 3] = np.nan
    m.bad("nan.tif", encoded(nan, "tiff"), "floating point pixels have no defined range")
    m.bad("int32.tif", encoded(GREY.astype(np.int32) * 70000, "tiff"), "32-bit integer pixels")
    m.bad("negative.tif", encoded(-GREY.astype(np.int32), "tiff"), "32-bit integer pixels")


def _srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _animations(m: _Maker) -> None:
    others = [Image.fromarray(255 - PICTURE), Image.fromarray(PICTURE[::-1])]
    options = {"save_all": True, "append_images": others, "duration": 50}
    m.good("animated.png", encoded(PICTURE, "png", **options))
    m.good("animated.webp", encoded(PICTURE, "webp", lossless=True, **options))
    first = Image.fromarray(PICTURE).quantize(256)
    out = io.BytesIO()
    first.save(out, "gif", save_all=True, append_images=[other.quantize(256) for other in others], duration=50)
    m.good("animated.gif", out.getvalue(), np.asarray(first.convert("RGB")))
    m.good("pages.tif", encoded(PICTURE, "tiff", save_all=True, append_images=others))


def _turned(m: _Maker) -> None:
    """The tag says where row 0 and column 0 of the file are in the upright picture (EXIF 2.3, tag 0x112)."""
    p = PICTURE
    swap = p.transpose(1, 0, 2)
    stored = {
        1: p, 2: p[:, ::-1], 3: p[::-1, ::-1], 4: p[::-1], 5: swap, 6: swap[::-1], 7: swap[::-1, ::-1],
        8: swap[:, ::-1],
    }  # fmt: skip
    for tag, pixels in stored.items():
        exif = Image.Exif()
        exif[0x112] = tag
        m.good(f"turned{tag}.png", encoded(np.ascontiguousarray(pixels), "png", exif=exif))
        m.good(f"turned{tag}.tif", encoded(np.ascontiguousarray(pixels), "tiff", exif=exif))
    exif = Image.Exif()
    exif[0x112] = 6
    data = encoded(np.ascontiguousarray(PICTURE), "jpeg", exif=exif)
    m.good("turned.jpg", data, np.rot90(np.asarray(Image.open(io.BytesIO(data))), -1))
    exif[0x112] = 99
    m.good("turned_nonsense.png", encoded(PICTURE, "png", exif=exif))
    data = encoded(PICTURE, "jpeg", exif=b"Exif\0\0" + b"\xff" * 3000)
    m.good("exif_broken.jpg", data, np.asarray(Image.open(io.BytesIO(data))))
    data = encoded(PICTURE, "jpeg", exif=b"Exif\0\0II*\0\x08\0\0\0" + bytes(65000))
    m.good("exif_huge.jpg", data, np.asarray(Image.open(io.BytesIO(data))))
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "long " * 100000, zip=True)
    m.good("long_comment.png", encoded(PICTURE, "png", pnginfo=info))


def _names(m: _Maker) -> None:
    data = encoded(PICTURE, "png")
    for name in (
        "new\nline.png", "tab\tand\rreturn.png", "😀👩‍🔬.png", "снимок.png", "写真.png", "صورة.png", "a,\"b\";'c'.png",
        " .png", "-rf.png", "%s{0}$HOME`ls`.png", "back\\slash.png", "n" * 240 + ".png", "UPPER.PNG",
        "two.dots..png", "#1.png",
        "deep/" * 20 + "a.png", "folder.png/inside.jpg", "e\u0301.png", "\u00e9.png",
    ):  # fmt: skip
        m.good(name, data)
    m.good(b"not_utf8_\xe9\xff.png", data)
    m.bad("new\nline.jpg", b"", "the file is empty")
    m.bad(b"not_utf8_\xe9.jpg", b"", "the file is empty")


def _no_files(m: _Maker) -> None:
    """What is no file at all; and what has to be passed over without a word."""
    data = encoded(PICTURE, "png")
    m._write(".hidden.png", data)
    m._write(".hidden/a.png", data)
    m._write("__MACOSX/._a.png", data)
    (m.folder / "empty.png").mkdir()
    os.symlink(".", m.folder / "circle")
    m.made.append(Hostile("circle", None, "a link to the input itself"))
    os.symlink("deep", m.folder / "again")
    m.made.append(Hostile("again", None, "a link to deep, whose files are there under their own names"))
    os.symlink("no_ending", m.folder / "link.png")
    m.made.append(Hostile("link.png", PICTURE))
    os.symlink("nowhere.png", m.folder / "dangling.png")
    m.made.append(Hostile("dangling.png", None, "a link to nothing"))
    os.symlink("itself.png", m.folder / "itself.png")
    m.made.append(Hostile("itself.png", None, "a link to nothing"))
    os.mkfifo(m.folder / "pipe.png")
    m.made.append(Hostile("pipe.png", None, "not a regular file but a pipe"))


if __name__ == "__main__":
    for entry in make_corpus(Path(sys.argv[1])):
        print(f"{entry.name!r}: {'readable' if entry.pixels is not None else entry.reason or 'left out'}")
