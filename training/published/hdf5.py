"""HDF5 files of images as Progressive GAN laid them out: one data set `data{W}x{H}` [N, C, H, W] per level.

The labels of NAME.h5 are in NAME-labels.npy beside it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tqdm

from dnnlib.util import UserError, atomic_write
from training.dataset_build import BuildReport
from training.dataset_labels import check_finite, write_labels
from training.image_shapes import check_size
from training.label_sources import MOST_CLASSES
from training.published.writing import ImageSource, WriteOptions, label_vectors, write_source
from training.pyramid import pyramid
from training.work_directory import WorkDirectory

_KEY = re.compile(r"data(\d{1,5})x(\d{1,5})")
_GZIP_LEVEL = 4
_CHUNK_IMAGES = 64  # written at a time


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError as err:
        raise UserError("HDF5 files are read and written by the package h5py: pip install h5py") from err
    return h5py


def labels_path(path: os.PathLike | str) -> Path:
    """Where the labels of an HDF5 file are."""
    path = Path(path)
    return path.with_name(f"{path.stem}-labels.npy")


class _Checked:
    """An HDF5 data set of images whose failures name the file and the image."""

    def __init__(self, data: Any, path: Path) -> None:
        self._data, self._path = data, path
        self.shape: tuple[int, ...] = data.shape

    def __getitem__(self, index: int) -> np.ndarray:
        try:
            return self._data[index]
        except OSError as err:
            raise UserError(f"{self._path}: image {index} cannot be read ({err}); fetch the file again") from err


@contextmanager
def open_images(path: os.PathLike | str) -> Iterator[ImageSource]:
    """Context manager: the images of the largest level, read when asked for, and their labels.

    Raises:
        UserError: not there, not HDF5, without images of this layout, or labels that do not fit them.
    """
    path = Path(path)
    h5py = _h5py()
    if not path.is_file():
        raise UserError(f"{path} is not there; expected an HDF5 file of images")
    try:
        file = h5py.File(path, "r")
    except OSError as err:
        raise UserError(f"cannot read {path}: {err}; expected an HDF5 file of images") from err
    with file:
        data = _largest(file, path)
        labels = _read_labels(path, data.shape[0])
        facts = {"kind": "hdf5", "file": str(path), "key": data.name[1:]}
        status = path.stat()
        yield ImageSource(
            _Checked(data, path), labels, facts=facts, version=f"{status.st_size} bytes of {status.st_mtime_ns}"
        )


def _largest(file: Any, path: Path) -> Any:
    found = [file[key] for key in file if _KEY.fullmatch(key) and hasattr(file[key], "dtype")]
    if not found:
        keys = ", ".join(sorted(file)[:10]) or "nothing"
        raise UserError(f"{path}: no data set such as data1024x1024, found {keys}; expected images [N, C, H, W]")
    odd = [data for data in found if data.dtype != np.uint8 or data.ndim != 4 or data.shape[0] == 0]
    if odd:
        raise UserError(
            f"{path}: {odd[0].name[1:]} is {odd[0].dtype} {list(odd[0].shape)}, expected uint8 [N, C, H, W]"
        )
    return max(found, key=lambda data: data.shape[3])


def _read_labels(path: Path, count: int) -> np.ndarray | None:
    file = labels_path(path)
    if not file.is_file():
        return None
    try:
        labels = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as err:
        raise UserError(f"cannot read labels {file}: {err}; delete the file to use the images without labels") from err
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "fiub" or labels.ndim not in (1, 2):
        raise UserError(f"{file}: expected an array of numbers, [N] classes or [N, label_size]")
    if len(labels) != count:
        raise UserError(f"{file}: {len(labels)} labels for {count} images; expected as many labels as images")
    if labels.ndim == 2:
        check_finite(labels, file)
        return labels.astype(np.float32)
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= MOST_CLASSES:
        raise UserError(f"{file}: expected whole numbers from 0 to {MOST_CLASSES - 1} as classes")
    return labels.astype(np.int64)


def create_from_hdf5(
    path: os.PathLike | str,
    source: os.PathLike | str,
    options: WriteOptions | None = None,
    say: Callable[[str], None] = print,
) -> BuildReport:
    """A data set of the images of an HDF5 file.

    Args:
        path: directory to make.
        source: see `open_images`.
    """
    with open_images(source) as images:
        return write_source(path, images, options or WriteOptions(), say)


def export_hdf5(path: os.PathLike | str, source: ImageSource, compress: bool = False) -> int:
    """Writes images as an HDF5 file of all levels, and labels beside it; returns how many images.

    Args:
        path: file to make; it must not be there.
        source: images [C, H, W] of a size that data sets can have (`check_size`).
        compress: with gzip.
    Raises:
        UserError: the file is there, or cannot be written; or the images have another size.
    """
    path = Path(path)
    h5py = _h5py()
    check_size(*source.images.shape[2:], "images of")
    for target in (path, labels_path(path)):
        if target.exists():
            raise UserError(f"{target} is there already; give another name or delete it")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: no folder {path.parent}")
    count = source.images.shape[0]
    with WorkDirectory(path, own=True) as work:
        unfinished = work.root / path.name
        try:
            with h5py.File(unfinished, "w") as file:
                _write_levels(file, source, compress)
        except OSError as err:
            raise UserError(f"cannot write {path}: {err}") from err
        if source.labels is not None:
            with atomic_write(labels_path(path)) as out:
                write_labels(out, label_vectors(source.labels, count, len(source.class_names)))
        os.replace(unfinished, path)
    return count


def _write_levels(file: Any, source: ImageSource, compress: bool) -> None:
    count, channels = source.images.shape[:2]
    packing = {"compression": "gzip", "compression_opts": _GZIP_LEVEL} if compress else {}
    levels: list[Any] = []
    with tqdm.tqdm(total=count, unit="img", desc="writing") as bar:
        for start in range(0, count, _CHUNK_IMAGES):
            images = np.stack([source.images[i] for i in range(start, min(start + _CHUNK_IMAGES, count))])
            for number, level in enumerate(pyramid(images)):
                height, width = level.shape[2:]
                if number == len(levels):
                    shape = (count, channels, height, width)
                    chunks = (1, *shape[1:]) if compress else None
                    levels.append(
                        file.create_dataset(f"data{width}x{height}", shape, np.uint8, chunks=chunks, **packing)
                    )
                levels[number][start : start + len(level)] = level
            bar.update(len(images))
