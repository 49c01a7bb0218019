"""SVHN (format 2): cropped house numbers, 32x32, from the MATLAB file in which they are distributed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dnnlib.util import UserError
from training.dataset_build import BuildReport
from training.published.writing import ImageSource, WriteOptions, tell_count, write_source

NUM_IMAGES = 73_257
_FILE = "train_32x32.mat"
_CLASSES = tuple(str(digit) for digit in range(10))


def load_svhn(source: os.PathLike | str) -> ImageSource:
    """Training images and their digits, in the order of the file.

    Args:
        source: train_32x32.mat, or the folder it is in.
    Raises:
        UserError: not there, damaged, or of another content.
    """
    path = Path(source)
    path = path / _FILE if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path} is not there; expected {_FILE} of SVHN, format 2 (cropped digits)")
    import scipy.io  # here: every command of the tool would take longer to start

    try:
        content = scipy.io.loadmat(path, variable_names=("X", "y"))
    except Exception as err:  # the reader raises anything on damaged files
        reason = " ".join(str(err).split())[:120]
        raise UserError(f"cannot read {path}: {type(err).__name__}: {reason}; expected {_FILE} of SVHN") from err
    images, labels = content.get("X"), content.get("y")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
        raise UserError(f"{path}: 'X' is {_kind(images)}, expected uint8 [32, 32, 3, N]")
    if images.shape[:3] != (32, 32, 3) or images.shape[3] == 0:
        raise UserError(f"{path}: 'X' has shape {list(images.shape)}, expected [32, 32, 3, N]")
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iuf" or labels.size != images.shape[3]:
        raise UserError(f"{path}: 'y' is {_kind(labels)}, expected {images.shape[3]} numbers")
    digits = labels.reshape(-1).astype(np.int64)
    if digits.min() < 0 or digits.max() > 10:
        odd = digits.min() if digits.min() < 0 else digits.max()
        raise UserError(f"{path}: label {odd}, expected 1 to 10 (10: the digit 0)")
    facts = {"kind": "svhn", "file": str(path)}
    return ImageSource(images.transpose(3, 2, 0, 1), digits % 10, _CLASSES, facts)


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return "missing" if value is None else type(value).__name__


def create_svhn(
    path: os.PathLike | str,
    source: os.PathLike | str,
    options: WriteOptions | None = None,
    say: Callable[[str], None] = print,
) -> BuildReport:
    """SVHN as published: RGB 32x32, one-hot labels of the ten digits.

    Args:
        path: directory to make.
        source: see `load_svhn`.
    """
    images = load_svhn(source)
    tell_count(images.images.shape[0], NUM_IMAGES, say)
    return write_source(path, images, options or WriteOptions(), say)
