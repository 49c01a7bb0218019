"""Decoding image files of any common kind into uint8 arrays of one size and number of channels."""

from __future__ import annotations

import io
import os
import warnings
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from dnnlib.util import UserError
from training.archives import open_item, read_item
from training.camera_raw import is_camera_raw
from training.color_profiles import to_srgb
from training.dataset_items import Item, StoredFile
from training.fits import FILTERS, crop_and_resize, fit_image, result_size
from training.png_exif import png_has_exif
from training.sharpen import sharpen

__all__ = [
    "FILTERS", "ImageHeader", "ImageSpec", "crop_and_resize", "open_image", "planes", "read_header", "read_image",
    "render_item",
]  # fmt: skip

MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485  # larger ones may be decompression bombs
WHITE = (255, 255, 255)
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Modes of files that a reader turns into the channels of the data set just as they are turned here.
_STORED_MODES = {1: ("L",), 3: ("RGB", "L", "P"), 4: ("RGBA",)}
NO_RANGE = "floating point pixels have no defined range: convert the file to 8 or 16 bits first"
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {  # what turns an image of an EXIF orientation upright; those from 5 on swap width and height
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class ImageSpec:
    """What images are converted to."""

    size: tuple[int, int] | None  # (height, width) that is fitted to; None: as they are
    channels: int  # 1, 3 or 4
    filter: str = "lanczos"
    fit: str = "center-crop"
    background: tuple[int, int, int] = WHITE  # behind transparency, and of padding
    take_over: str | None = None  # format of files (png, jpeg, webp) that are kept as they are if they fit
    sharpen: float = 0.0  # amount of unsharp masking

    @property
    def result_size(self) -> tuple[int, int] | None:
        """(height, width) of the result, None: that of the file."""
        return None if self.size is None else result_size(*self.size, self.fit)


@dataclass(frozen=True)
class ImageHeader:
    """What a file says about its image before it is decoded."""

    width: int  # with the EXIF orientation applied
    height: int
    grey: bool
    clear: bool = False  # it may be transparent somewhere

    @property
    def size(self) -> str:
        """Width x height, in pixels, for messages."""
        return f"{self.width}x{self.height}"


def open_image(file: BinaryIO) -> Image.Image:
    """An image that is not decoded yet; warnings about it are the caller's.

    Raises:
        UserError: of no known format, camera RAW, or of too many pixels.
    """
    try:
        image = Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        reason = "not an image, or of an unknown format" if file.read(1) else "the file is empty"
        raise UserError(reason) from None
    except Image.DecompressionBombError:
        raise UserError(f"more than {MAX_PIXELS} pixels, refused as a decompression bomb") from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise UserError(f"{image.width}x{image.height} is more than {MAX_PIXELS} pixels, refused")
    if is_camera_raw(image, file):
        image.close()
        raise UserError("camera RAW, whose preview is all that can be read here: develop it to TIFF, PNG or JPEG first")
    return image


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # whatever a malformed EXIF block makes the parser raise; the image itself may be fine
        return 1
    return value if value in _UPRIGHT else 1


def read_header(source: str | os.PathLike | Item) -> ImageHeader:
    """Size and kind of an image file, without decoding it.

    Raises:
        UserError, OSError or what the decoder raises: the file is no readable image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about oddities of the file; what matters raises
        with open_item(_as_item(source)) as file, open_image(file) as image:
            if image.mode == "F":
                raise UserError(NO_RANGE)
            width, height = image.size
            if image.format == "TIFF":  # Pillow has swapped them already
                width, height = image.tag_v2.get(256, width), image.tag_v2.get(257, height)
            if (image.format != "PNG" or png_has_exif(file)) and _orientation(image) >= 5:
                width, height = height, width
            return ImageHeader(width, height, image.mode in _GREY_MODES, _may_be_clear(image))


def _may_be_clear(image: Image.Image) -> bool:
    return image.mode in _ALPHA_MODES or "transparency" in image.info


def _as_item(source: str | os.PathLike | Item) -> Item:
    return source if isinstance(source, Item) else Item(os.fspath(source), os.fspath(source))


def read_image(source: str | os.PathLike | Item, spec: ImageSpec) -> np.ndarray:
    """Decodes an image file: uint8 [C, H, W].

    Of animations the first frame. EXIF orientation is applied, colours become sRGB, 16 bits become 8, transparency is
    laid onto the background unless there are 4 channels; then the image is fitted to the size.

    Raises:
        UserError, OSError or what the decoder raises: the file is broken or of a kind that has no clear meaning.
    """
    image = render_item(_as_item(source), spec)
    return image.pixels if isinstance(image, StoredFile) else image


def render_item(item: Item, spec: ImageSpec) -> np.ndarray | StoredFile:
    """What `read_image` gives, or the file itself if it is of the format to take over and nothing has to change."""
    data = read_item(item)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_image(io.BytesIO(data)) as image:
            wanted = spec.take_over is not None and (image.format or "").lower() == spec.take_over
            known = wanted and image.mode in _STORED_MODES[spec.channels] and getattr(image, "n_frames", 1) == 1
            turn = None if image.format == "TIFF" else _UPRIGHT.get(_orientation(image))  # Pillow turns TIFFs itself
            whole = image.format != "PNG" or _check_png(data)
            image.load()
            if not whole:  # though the pixels are all there
                raise UserError("truncated PNG: its end is missing")
            upright = image if turn is None else image.transpose(turn)
        coloured = to_srgb(upright)
        plain = to_channels(coloured, spec.channels, spec.background)
    fitted = plain if spec.size is None else fit_image(plain, *spec.size, spec.fit, spec.filter, spec.background)
    if spec.sharpen:
        fitted = sharpen(fitted, spec.sharpen)
    pixels = planes(fitted) if spec.take_over is None else _view(fitted)
    untouched = coloured is image and fitted is plain and "transparency" not in image.info
    return StoredFile(data, pixels) if untouched and known else pixels


def planes(image: Image.Image) -> np.ndarray:
    """uint8 [C, H, W], as raw records hold it."""
    return np.stack([np.asarray(band) for band in image.split()])


def _view(image: Image.Image) -> np.ndarray:
    """uint8 [C, H, W], a view of [H, W, C], as encoders want it."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _check_png(data: bytes) -> bool:
    """Checksums of the chunks that matter: Pillow leaves those of the pixels unchecked.

    Returns:
        whether the file goes on to its end; if not, the decoder may tell better what is missing.
    Raises:
        UserError: one is wrong.
    """
    pos = 8
    while pos + 12 <= len(data):
        length = int.from_bytes(data[pos : pos + 4], "big")
        kind = data[pos + 4 : pos + 8]
        end = pos + 8 + length
        critical = kind[:1].isupper()
        if critical and zlib.crc32(memoryview(data)[pos + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            if end + 4 <= len(data):
                raise UserError(f"damaged PNG: wrong checksum of its chunk {kind.decode('latin-1')}")
            return False
        if kind == b"IEND":
            return True
        pos = end + 4
    return False


def to_channels(image: Image.Image, channels: int, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """An image of any mode as L, RGB or RGBA (1, 3 or 4 channels).

    Raises:
        UserError: pixels without a defined range.
    """
    plain = to_8_bit(image)
    clear = _may_be_clear(plain)
    if clear and channels != 4:
        canvas = Image.new("RGBA", plain.size, (*background, 255))
        plain = Image.alpha_composite(canvas, plain.convert("RGBA")).convert("RGB")
    mode = _MODES[channels]
    return plain if plain.mode == mode and not (clear and mode == "RGB") else plain.convert(mode)


def to_8_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as L, or LA if one grey is transparent; all else as it is.

    Of 16 bits the upper eight remain, as Pillow has it where there are colours.

    Raises:
        UserError: pixels without a defined range.
    """
    if image.mode.startswith("I"):  # 16 bits of grey, which some versions of Pillow hold in 32
        values = np.asarray(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > 0xFFFF):
            raise UserError("32-bit integer pixels, expected 8 or 16 bits: convert the file first")
        grey = Image.fromarray((values >> 8).astype(np.uint8))
        if "transparency" in image.info:
            opaque = np.where(values == image.info["transparency"], np.uint8(0), np.uint8(255))
            grey = Image.merge("LA", (grey, Image.fromarray(opaque)))
        return grey
    if image.mode == "F":
        raise UserError(NO_RANGE)
    return image
