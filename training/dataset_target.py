"""What is looked at before a data set is written: whether it may be, in which sizes, and how large it becomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dnnlib.util import UserError
from training.dataset_files import INFO_NAME, SKIPPED_NAME, check_name
from training.example import encode_image
from training.image_shapes import check_size, level_sizes
from training.tfrecord import frame
from training.unfinished import clean_leftovers

_OWN_FILES = (".tfrecords", ".labels", INFO_NAME, SKIPPED_NAME)


def expected_bytes(shape: tuple[int, int, int], num_images: int, label_size: int = 0) -> int:
    """Size on disk of the raw records and labels of a data set of images of shape (C, H, W)."""
    sizes = level_sizes(*shape[1:])
    records = sum(len(frame(encode_image(np.zeros((shape[0], *size), np.uint8)))) for size in sizes)
    return num_images * (records + 4 * label_size)


def check_resolution(resolution: int) -> int:
    """The resolution, if square images of that side can be stored.

    Raises:
        UserError: not a small number times a power of two, or too small.
    """
    check_size(resolution, resolution)
    return resolution


def check_target(path: Path, overwrite: bool) -> None:
    """Whether a data set may be written to `path`.

    Raises:
        UserError: see `check_name`; it is a file, not empty, or (to overwrite) holds something that is not part of a
            data set.
    """
    check_name(path)
    clean_leftovers(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, expected the name of a directory to make")
    content = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
    if content and not overwrite:
        raise UserError(f"{path} is not empty (it holds {content[0]}); give another name, or --overwrite to replace it")
    foreign = [name for name in content if not name.endswith(_OWN_FILES)]
    if foreign:
        raise UserError(f"{path} holds {foreign[0]}, which is not part of a data set; it is not overwritten")
