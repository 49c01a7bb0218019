"""Labels of a great many images, float32 [N, label_size]: on the disk, and only in parts in memory.

What was read of a mapped file counts as memory of the process, so passes over all labels give every part back.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dnnlib.util import UserError

_PART_BYTES = 4 << 20
_AROUND_BYTES = 2 << 20  # of a mapped file that a kernel may map around one number that is read
_SCATTERED_BYTES = 32 << 20


def label_parts(labels: np.ndarray) -> Iterator[np.ndarray]:
    """Labels [N, label_size] in parts [n, label_size], in order; a part holds until the next is asked for."""
    step = rows_per_part(labels.shape[1])
    for start in range(0, len(labels), step):
        yield labels[start : start + step]
        give_back(labels)


def label_rows(labels: np.ndarray, indices: np.ndarray) -> Iterator[np.ndarray]:
    """Labels [label_size] one by one, in the order of the indices, int [n]."""
    step = scattered_rows(labels.shape[1])
    for start in range(0, len(indices), step):
        yield from labels[indices[start : start + step]]
        give_back(labels)


def rows_per_part(label_size: int) -> int:
    """How many labels of so many numbers make a part."""
    return max(1, _PART_BYTES // (4 * max(1, label_size)))


def scattered_rows(label_size: int) -> int:
    """How many labels of so many numbers make a part where they lie anywhere: each brings its surroundings along."""
    return max(1, _SCATTERED_BYTES // (_AROUND_BYTES + 4 * label_size))


def give_back(labels: np.ndarray) -> None:
    """Frees the memory that a mapped file has taken up; nothing is lost, and nothing happens to other arrays."""
    owner: Any = labels
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = getattr(owner, "base", None)
    if owner is not None and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def scratch_labels(num_images: int, label_size: int) -> np.ndarray:
    """Zeros float32 [num_images, label_size] to fill, in a temporary file without a name unless they are few.

    Raises:
        UserError: no room on the disk.
    """
    size = 4 * num_images * label_size
    if size <= _PART_BYTES:
        return np.zeros((num_images, label_size), np.float32)
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):  # a mapped file that finds no room ends the process
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.float32, "w+", shape=(num_images, label_size))
    except OSError as err:
        raise UserError(
            f"{tempfile.gettempdir()}: {num_images} labels of {label_size} numbers take {size} bytes "
            f"({err.strerror or err}); make room or set TMPDIR to another folder"
        ) from err


def one_hot_labels(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Labels of classes int [N], see `scratch_labels`: float32 [N, num_classes]."""
    labels = scratch_labels(len(classes), num_classes)
    start = 0
    for part in label_parts(labels):
        part[np.arange(len(part)), classes[start : start + len(part)]] = 1
        start += len(part)
    return labels


def select_labels(labels: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Some labels, int [n], in that order: of classes int [N] or of vectors, see `scratch_labels`."""
    if labels.ndim == 1:
        return labels[indices]
    chosen = scratch_labels(len(indices), labels.shape[1])
    step = scattered_rows(labels.shape[1])
    for start in range(0, len(indices), step):
        chosen[start : start + step] = labels[indices[start : start + step]]
        give_back(labels)
        give_back(chosen)
    return chosen


def check_finite(labels: np.ndarray, where: object) -> None:
    """Whether all labels are numbers that a data set may hold.

    Raises:
        UserError: some are not finite; names `where` and the first.
    """
    start = 0
    for part in label_parts(labels):
        finite = np.isfinite(part).all(axis=1)
        if not finite.all():
            raise UserError(f"{where}: label {start + int(np.argmin(finite))} is not finite")
        start += len(part)


def read_labels(path: Path, num_images: int) -> np.ndarray:
    """Labels float32 [num_images, label_size] of a *.npy file, mapped, not to be written.

    Raises:
        UserError: unreadable, or no labels of so many images.
    """
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as err:
        raise UserError(f"cannot read labels {path}: {err}") from err
    if not isinstance(stored, np.ndarray) or stored.ndim != 2 or stored.dtype.kind not in "fiub":
        kind = f"{stored.dtype} {list(stored.shape)}" if isinstance(stored, np.ndarray) else "an archive"
        raise UserError(f"{path}: found {kind}, expected numbers of shape [{num_images}, label_size]")
    if len(stored) != num_images:
        raise UserError(f"{path}: {len(stored)} labels for {num_images} images; expected as many labels as images")
    if stored.dtype == np.dtype("<f4") and stored.flags.c_contiguous:
        check_finite(stored, path)
        return stored
    labels = scratch_labels(*stored.shape)
    start = 0
    for part in label_parts(labels):
        part[...] = stored[start : start + len(part)]
        give_back(stored)
        start += len(part)
    check_finite(labels, path)
    return labels


def write_label_header(file: BinaryIO, num_images: int, label_size: int, descr: str = "<f4") -> None:
    """Writes what precedes the numbers in a *.npy file."""
    header = {"descr": descr, "fortran_order": False, "shape": (num_images, label_size)}
    np.lib.format.write_array_header_1_0(file, header)


def write_labels(file: BinaryIO, labels: np.ndarray, keep: np.ndarray | None = None) -> None:
    """Writes labels as a *.npy file. keep: int [n], only these, in this order; None: all."""
    size = labels.shape[1]
    write_label_header(file, len(labels) if keep is None else len(keep), size)
    if keep is None:
        for part in label_parts(labels):
            file.write(np.ascontiguousarray(part, "<f4").tobytes())
        return
    step = scattered_rows(size)
    for start in range(0, len(keep), step):
        file.write(np.ascontiguousarray(labels[keep[start : start + step]], "<f4").tobytes())
        give_back(labels)
