"""Decoding image files of any common kind into uint8 arrays of one size and number of channels."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from dnnlib.util import UserError

FILTERS = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}
MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485  # larger ones may be decompression bombs
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
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

    resolution: int | None  # side after crop and resize; None: as they are
    channels: int  # 1 or 3
    filter: str = "lanczos"


@dataclass(frozen=True)
class ImageHeader:
    """What a file says about its image before it is decoded."""

    width: int  # with the EXIF orientation applied
    height: int
    grey: bool

    @property
    def size(self) -> str:
        """Width x height, in pixels, for messages."""
        return f"{self.width}x{self.height}"


def _open(path: str) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about oddities of the file; what matters raises
        try:
            image = Image.open(path)
        except UnidentifiedImageError:
            reason = "the file is empty" if os.path.getsize(path) == 0 else "not an image, or of an unknown format"
            raise UserError(reason) from None
        except Image.DecompressionBombError:
            raise UserError(f"more than {MAX_PIXELS} pixels, refused as a decompression bomb") from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise UserError(f"{image.width}x{image.height} is more than {MAX_PIXELS} pixels, refused")
    return image


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # whatever a malformed EXIF block makes the parser raise; the image itself may be fine
        return 1
    return value if value in _UPRIGHT else 1


def read_header(path: str) -> ImageHeader:
    """Size and kind of an image file, without decoding it.

    Raises:
        UserError, OSError or what the decoder raises: the file is no readable image.
    """
    with _open(path) as image:
        width, height = image.size
        if _orientation(image) >= 5:
            width, height = height, width
        return ImageHeader(width, height, image.mode in _GREY_MODES)


def read_image(path: str, spec: ImageSpec) -> np.ndarray:
    """Decodes an image file: uint8 [C, H, W].

    EXIF orientation is applied, transparency is laid onto white, 16 bits become 8. With a resolution, the largest
    central square is resized to it.

    Raises:
        UserError, OSError or what the decoder raises: the file is broken or of a kind that has no clear meaning.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _open(path) as image:
            image.load()
            turn = _UPRIGHT.get(_orientation(image))
            upright = image if turn is None else image.transpose(turn)
        plain = to_8_bit(upright).convert("L" if spec.channels == 1 else "RGB")
    if spec.resolution is not None:
        plain = crop_and_resize(plain, spec.resolution, spec.filter)
    pixels = np.asarray(plain)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def to_8_bit(image: Image.Image) -> Image.Image:
    """Any mode as L or a colour mode of 8 bits, opaque."""
    if image.mode.startswith("I"):  # 16 bits of grey, which some versions of Pillow hold in 32
        values = np.asarray(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > 0xFFFF):
            raise UserError("32-bit integer pixels, expected 8 or 16 bits: convert the file first")
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if image.mode == "F":
        raise UserError("floating point pixels have no defined range: convert the file to 8 or 16 bits first")
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image


def crop_and_resize(image: Image.Image, side: int, filter_name: str = "lanczos") -> Image.Image:
    """The largest central square, resized to `side` pixels."""
    width, height = image.size
    square = min(width, height)
    left, top = (width - square) // 2, (height - square) // 2
    if square != width or square != height:
        image = image.crop((left, top, left + square, top + square))
    return image if square == side else image.resize((side, side), FILTERS[filter_name])
