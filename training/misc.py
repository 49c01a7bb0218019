"""Helpers of StyleGAN2 scripts under their published names: `from training import misc`.

They stand on `dnnlib.tflib.pickles` and `training.image_grid`, which new code uses directly.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from dnnlib.tflib import pickles
from dnnlib.util import UserError
from training import image_grid

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def load_pkl(file_or_url: os.PathLike | str | BinaryIO) -> Any:
    """Networks of a pickle, usually (G, D, Gs); see `dnnlib.tflib.pickles.load`. Nothing from the file is executed."""
    return pickles.load(file_or_url)


def save_pkl(obj: Any, filename: os.PathLike | str) -> None:
    """Write a network or a tuple of them, atomically; see `dnnlib.tflib.pickles.save`."""
    pickles.save(obj, filename)


def adjust_dynamic_range(data: Any, drange_in: Sequence[float], drange_out: Sequence[float]) -> Any:
    """Map values linearly so that the interval `drange_in` becomes `drange_out`, without clipping.

    data: array or tensor of any shape; integers become float32. Raises `UserError` for an empty `drange_in`.
    """
    low_in, high_in = (float(x) for x in drange_in)
    low_out, high_out = (float(x) for x in drange_out)
    if low_in == high_in:
        raise UserError(f"adjust_dynamic_range: drange_in is empty, found {list(drange_in)}")
    if isinstance(data, np.ndarray) and data.dtype.kind in "iub":
        data = data.astype(np.float32)
    scale = (high_out - low_out) / (high_in - low_in)
    return data * scale + (low_out - low_in * scale)


def create_image_grid(images: Any, grid_size: Sequence[int] | None = None) -> np.ndarray:
    """Images side by side, row by row.

    images: [n, H, W] or [n, C, H, W] of any type; grid_size: (columns, rows), None: nearly square, wider than high.
    Returns [rows * H, columns * W] or [C, rows * H, columns * W]; cells without image are zero. Raises `UserError` for
    another number of dimensions, and for more images than cells.
    """
    images = np.asarray(images)
    if images.ndim not in (3, 4) or not len(images):
        raise UserError(f"image grid: found images of shape {list(images.shape)}, expected [n, H, W] or [n, C, H, W]")
    count, (height, width) = len(images), images.shape[-2:]
    columns, rows = image_grid.square_grid(count) if grid_size is None else (int(x) for x in grid_size)
    if count > columns * rows:
        raise UserError(f"image grid: {count} images do not fit {columns} columns x {rows} rows")
    grid = np.zeros([*images.shape[1:-2], rows * height, columns * width], images.dtype)
    for index, image in enumerate(images):
        y, x = index // columns * height, index % columns * width
        grid[..., y : y + height, x : x + width] = image
    return grid


def convert_to_pil_image(image: Any, drange: Sequence[float] = (0, 1)) -> Image.Image:
    """A picture of one image: [H, W] or [C, H, W] with C = 1, 3 or 4; `drange` becomes black and white."""
    image = np.asarray(image)
    planes = image[None] if image.ndim == 2 else image
    if planes.ndim != 3 or planes.shape[0] not in _MODES:
        raise UserError(f"picture: found shape {list(image.shape)}, expected [H, W] or [1, 3 or 4 channels, H, W]")
    pixels = np.rint(np.clip(adjust_dynamic_range(planes, drange, (0, 255)), 0, 255)).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))


def save_image_grid(
    images: Any, filename: os.PathLike | str, drange: Sequence[float] = (0, 1), grid_size: Sequence[int] | None = None
) -> None:
    """Write images [n, C, H, W] as one picture; `drange` holds the values of black and white, [0, 255] for pixels.

    grid_size: (columns, rows). Errors: those of `training.image_grid.save_image_grid`.
    """
    low, high = (float(x) for x in drange)
    images = np.asarray(images)
    if images.dtype == np.uint8 and (low, high) != (0, 255):
        images = images.astype(np.float32)  # pixels would be taken as they are
    image_grid.save_image_grid(images, filename, None if grid_size is None else tuple(grid_size), (low, high))
