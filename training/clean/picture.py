"""A decoded image as filters see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from training.dataset_build import Item
from training.image_files import ImageSpec, read_image

Decode = Callable[[Item], np.ndarray]  # item -> uint8 [C, H, W], C = 1 or 3; can be pickled


@dataclass(frozen=True)
class Picture:
    """An image with its name."""

    name: str
    pixels: np.ndarray  # uint8 [H, W, 3], RGB

    @cached_property
    def image(self) -> Image.Image:
        """The same as a Pillow image, RGB."""
        return Image.fromarray(self.pixels)

    @cached_property
    def grey(self) -> np.ndarray:
        """Luminance (ITU-R 601), uint8 [H, W]."""
        return np.asarray(self.image.convert("L"))

    @property
    def width(self) -> int:
        """In pixels."""
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        """In pixels."""
        return self.pixels.shape[0]

    def shrunk(self, longest: int) -> np.ndarray:
        """uint8 [h, w, 3]: the pixels, shrunk so that no side is longer than `longest`; small ones as they are."""
        factor = longest / max(self.width, self.height)
        if factor >= 1:
            return self.pixels
        size = (max(1, round(self.width * factor)), max(1, round(self.height * factor)))
        return np.asarray(self.image.resize(size, Image.Resampling.BOX, reducing_gap=2.0))


def decode_file(item: Item) -> np.ndarray:
    """The image of an item: uint8 [3, H, W], upright, opaque. Raises what `read_image` raises."""
    return read_image(item, ImageSpec(None, 3))


def open_picture(item: Item, decode: Decode = decode_file) -> Picture:
    """Decodes an item. Raises whatever the decoder raises about a broken file."""
    pixels = decode(item)
    if pixels.shape[0] == 1:
        pixels = np.repeat(pixels, 3, axis=0)
    return Picture(item.name, np.ascontiguousarray(pixels[:3].transpose(1, 2, 0)))
