"""Grids of images: how many fit, which ones to show, and the picture file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dnnlib.util import UserError, atomic_write, list_nearest
from training.dataset import TFRecordDataset
from training.dataset_inspect import label_kind
from training.dataset_labels import label_parts

# Pixels to fill (width, height) and the fewest columns and rows, by name (spec 4.6); never more than 32 of either.
GRID_SIZES = {"1080p": (1920, 1080, 3, 2), "4k": (3840, 2160, 7, 4), "8k": (7680, 4320, 7, 4)}
_MOST = 32
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


class SnapshotGrid(NamedTuple):
    """What a run shows in every grid: reals once, fakes of the same latents and labels each time."""

    size: tuple[int, int]  # columns, rows
    reals: np.ndarray  # uint8 [n, C, H, W], row by row
    labels: np.ndarray  # float32 [n, label_size], those of the reals
    latents: np.ndarray  # float32 [n, latent_size], N(0, 1)


def grid_dimensions(size: str | tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """(columns, rows) of a grid of images of width x height pixels.

    size: `1080p`, `4k`, `8k` (as many images as fill such a screen, within limits), or (columns, rows).

    Raises:
        UserError: another name.
    """
    if not isinstance(size, str):
        return int(size[0]), int(size[1])
    if size not in GRID_SIZES:
        raise UserError(f"unknown grid size {size!r}: {list_nearest(size, GRID_SIZES)}, or columns x rows")
    screen_width, screen_height, least_columns, least_rows = GRID_SIZES[size]
    columns, rows = screen_width // width, screen_height // height
    return min(max(columns, least_columns), _MOST), min(max(rows, least_rows), _MOST)


def setup_snapshot_grid(
    dataset: TFRecordDataset, grid_size: str | tuple[int, int], latent_size: int, seed: int
) -> SnapshotGrid:
    """Choose reals, labels and latents of the grid; the same for the same data, size and seed.

    Unlabelled data: images at random, none twice while there are enough. One-hot labels: one class per row, classes
    in order, again from the first if there are more rows.
    """
    _, height, width = dataset.shape
    columns, rows = grid_dimensions(grid_size, width, height)
    rng = np.random.RandomState(seed)
    latents = rng.randn(columns * rows, latent_size).astype(np.float32)
    members = _images_by_class(dataset.labels)
    if members:
        chosen = [_draw(rng, members[row % len(members)], columns) for row in range(rows)]
        indices = np.concatenate(chosen)
    else:
        indices = _draw(rng, np.arange(dataset.num_images), columns * rows)
    return SnapshotGrid((columns, rows), dataset.read(indices), dataset.labels[indices], latents)


def _images_by_class(labels: np.ndarray) -> list[np.ndarray]:
    """Image indices of every class that has images; empty for labels that are not one-hot.

    Labels may be more than fits into memory and are looked at in parts.
    """
    if label_kind(labels) != "one-hot":
        return []
    classes = np.concatenate([part.argmax(axis=1).astype(np.int32) for part in label_parts(labels)])
    order = np.argsort(classes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)


def _draw(rng: np.random.RandomState, indices: np.ndarray, count: int) -> np.ndarray:
    """`count` of `indices` in random order; all of them before any comes again."""
    rounds = -(-count // len(indices))
    return np.concatenate([rng.permutation(indices) for _ in range(rounds)])[:count]


def save_image_grid(
    images: np.ndarray,
    path: str | os.PathLike,
    grid_size: tuple[int, int] | None = None,
    drange: tuple[float, float] = (-1, 1),
) -> None:
    """Write images as one picture, atomically.

    Args:
        images: [n, C, H, W], C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA. uint8 values are pixels; others are scaled
            from `drange` to [0, 255] and rounded to the nearest. Missing images leave black cells.
        path: `.png`, or `.jpg` (alpha is laid on white there).
        grid_size: (columns, rows); None: nearly square, wider than high.
        drange: values that become black and white.

    Raises:
        UserError: another ending, number of channels, or more images than cells.
    """
    path, images = Path(path), np.asarray(images)
    picture_format = _FORMATS.get(path.suffix.lower())
    if picture_format is None:
        raise UserError(f"{path}: unknown picture format {path.suffix!r}, expected one of {', '.join(_FORMATS)}")
    if images.ndim != 4 or images.shape[1] not in _MODES or not len(images):
        raise UserError(f"{path}: found images of shape {list(images.shape)}, expected [n, 1 to 4 channels, H, W]")
    columns, rows = square_grid(len(images)) if grid_size is None else grid_size
    if len(images) > columns * rows:
        raise UserError(f"{path}: {len(images)} images do not fit {columns} columns x {rows} rows")
    picture = _to_picture(_tile(_to_pixels(images, drange), columns, rows))
    if picture_format == "JPEG":
        picture = _without_alpha(picture)
    with atomic_write(path) as file:
        picture.save(file, format=picture_format, **({"quality": 95} if picture_format == "JPEG" else {}))


def square_grid(count: int) -> tuple[int, int]:
    """(columns, rows) of the smallest nearly square grid with `count` cells."""
    columns = int(np.ceil(np.sqrt(count)))
    return columns, -(-count // columns)


def _to_pixels(images: np.ndarray, drange: tuple[float, float]) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    scaled = (images.astype(np.float32) - drange[0]) * (255 / (drange[1] - drange[0]))
    # A diverged network makes NaN, which has no pixel value; the grid shows it black.
    return np.rint(np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255)).astype(np.uint8)


def _tile(pixels: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """uint8 [n, C, H, W] -> [rows * H, columns * W, C]."""
    count, channels, height, width = pixels.shape
    cells = np.zeros((rows * columns, channels, height, width), np.uint8)
    cells[:count] = pixels
    cells = cells.reshape(rows, columns, channels, height, width)
    return cells.transpose(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)


def _to_picture(pixels: np.ndarray) -> Image.Image:
    channels = pixels.shape[2]
    picture = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if channels == 1 else pixels))
    if picture.mode != _MODES[channels]:
        raise ValueError(f"pillow made {picture.mode} of {channels} channels")
    return picture


def _without_alpha(picture: Image.Image) -> Image.Image:
    if picture.mode not in ("LA", "RGBA"):
        return picture
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("L" if picture.mode == "LA" else "RGB")
