"""CelebA: the aligned and cropped pictures of 178x218, of which a square of 128x128 around the face is used."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from dnnlib.util import UserError
from training.archives import open_regular
from training.dataset_build import BuildOptions, BuildReport, Item
from training.image_files import planes
from training.published.writing import build_items, tell_count

NUM_IMAGES = 202_599
WIDTH, HEIGHT, SIDE = 178, 218, 128
_FOLDERS = ("", "img_align_celeba", "img_align_celeba_png")
_ENDINGS = (".png", ".jpg")


def list_pictures(folder: os.PathLike | str) -> list[Item]:
    """The pictures, sorted by name.

    Args:
        folder: img_align_celeba (JPEG) or img_align_celeba_png, or the folder one of them is in.
    Raises:
        UserError: none of them.
    """
    root = Path(folder)
    for sub in _FOLDERS:
        if (root / sub).is_dir():
            paths = [path for path in (root / sub).iterdir() if path.suffix.lower() in _ENDINGS]
            if paths:
                return [Item(path.name, str(path)) for path in sorted(paths, key=lambda path: path.name)]
    what = "holds no pictures" if root.is_dir() else "is not a folder"
    raise UserError(f"{root} {what}; expected img_align_celeba with 000001.jpg, ..., unpacked")


def render(item: Item, cx: int, cy: int) -> np.ndarray:
    """The square of 128x128 with its centre at column cx, row cy: uint8 [3, 128, 128].

    Raises:
        UserError, OSError or what the decoder raises: broken, of another size, or not a regular file.
    """
    with open_regular(item.path) as file, Image.open(file) as image:
        if image.size != (WIDTH, HEIGHT):
            raise UserError(f"{image.width}x{image.height}, expected {WIDTH}x{HEIGHT}: not of img_align_celeba")
        left, top = cx - SIDE // 2, cy - SIDE // 2
        square = image.convert("RGB").crop((left, top, left + SIDE, top + SIDE))
    return planes(square)


def create_celeba(
    path: os.PathLike | str,
    folder: os.PathLike | str,
    cx: int,
    cy: int,
    options: BuildOptions,
    say: Callable[[str], None] = print,
) -> BuildReport:
    """CelebA as published: RGB 128x128, no labels.

    Args:
        path: directory to make.
        folder: see `list_pictures`.
        cx, cy: column and row of the centre of the square, in pixels.
    Raises:
        UserError: the square leaves the picture; or see `list_pictures` and `build`.
    """
    for name, value, size in (("cx", cx, WIDTH), ("cy", cy, HEIGHT)):
        if not SIDE // 2 <= value <= size - SIDE // 2:
            raise UserError(
                f"--{name} is {value}, expected {SIDE // 2} to {size - SIDE // 2}: the square of {SIDE}x{SIDE} "
                f"would leave the picture of {WIDTH}x{HEIGHT}"
            )
    items = list_pictures(folder)
    tell_count(len(items), NUM_IMAGES, say)
    facts = {"kind": "celeba", "folder": str(folder), "cx": cx, "cy": cy}
    return build_items(path, items, partial(render, cx=cx, cy=cy), SIDE, facts, options, say)
