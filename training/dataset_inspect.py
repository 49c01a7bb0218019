"""Looking at data sets: contact sheets, what is in them, extraction, comparison."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tqdm
from PIL import Image

from dnnlib.util import UserError, atomic_write
from training.dataset import TFRecordDataset
from training.dataset_files import dataset_directory
from training.dataset_labels import label_parts, write_labels
from training.example import encode_image
from training.image_shapes import level_sizes
from training.tfrecord import frame
from training.work_directory import appears_whole

_CHUNK_BYTES = 16 << 20  # pixels read at once
_MOST_NAMED = 5  # differences


def to_pil(image: np.ndarray) -> Image.Image:
    """uint8 [C, H, W] as a picture: 1 channel grey, 3 RGB, 4 RGBA; of other numbers the first channel."""
    if image.shape[0] in (3, 4):
        return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    return Image.fromarray(np.ascontiguousarray(image[0]))


def save_png(image: Image.Image, path: os.PathLike | str) -> None:
    """Writes a PNG file, whole or not at all."""
    with atomic_write(path) as file:
        image.save(file, "png")


def contact_sheet(dataset: TFRecordDataset, columns: int, rows: int, max_side: int | None = None) -> Image.Image:
    """The first columns x rows images in the order of the file, row by row; free cells are white.

    Args:
        max_side: images are halved until their larger side is not above it; None: shown as they are.
    """
    count = min(columns * rows, dataset.num_images)
    columns = min(columns, count)
    rows = -(-count // columns)
    lod = 0
    sizes = level_sizes(*dataset.shape[1:])
    while max_side is not None and lod + 1 < len(sizes) and max(sizes[lod]) > max_side:
        lod += 1
    channels, height, width = dataset.lod_shape(lod)
    cells = np.full((rows * columns, channels, height, width), 255, np.uint8)
    dataset.read_into(np.arange(count), cells[:count])
    grid = cells.reshape(rows, columns, channels, height, width).transpose(2, 0, 3, 1, 4)
    return to_pil(grid.reshape(channels, rows * height, columns * width))


# ---------------------------------------------------------------- what is in it


def class_counts(dataset: TFRecordDataset) -> list[tuple[str, int]] | None:
    """(class, number of images) if the labels are one-hot, else None."""
    return label_counts(dataset) if label_kind(dataset.labels) == "one-hot" else None


def label_kind(labels: np.ndarray) -> str:
    """none, one-hot, multi-hot (zeros and ones) or continuous: what kind of labels float32 [N, label_size] are."""
    if labels.shape[1] == 0:
        return "none"
    one_hot = True
    for part in label_parts(labels):
        if not ((part == 0) | (part == 1)).all():
            return "continuous"
        one_hot = one_hot and bool((part.sum(axis=1) == 1).all())
    return "one-hot" if one_hot else "multi-hot"


def label_counts(dataset: TFRecordDataset) -> list[tuple[str, int]]:
    """(name, number of images that have it) of each component of labels of zeros and ones."""
    names = dataset.class_names or tuple(str(i) for i in range(dataset.label_size))
    counts = sum(part.sum(axis=0, dtype=np.float64) for part in label_parts(dataset.labels))
    return list(zip(names, counts.astype(int).tolist(), strict=True))


def label_statistics(labels: np.ndarray) -> np.ndarray:
    """Smallest, mean, largest value and standard deviation of each component: float64 [label_size, 4]."""
    low, high, total = np.inf, -np.inf, 0.0
    for part in label_parts(labels):
        low, high = np.minimum(low, part.min(axis=0)), np.maximum(high, part.max(axis=0))
        total = total + part.sum(axis=0, dtype=np.float64)
    mean = total / len(labels)
    squares = sum(np.square(part - mean).sum(axis=0) for part in label_parts(labels))
    return np.stack([low, mean, high, np.sqrt(squares / len(labels))], axis=1)


def set_per_image(labels: np.ndarray) -> tuple[float, float, float]:
    """Mean, smallest and largest sum of the numbers of a label."""
    sums = np.concatenate([part.sum(axis=1) for part in label_parts(labels)])
    return float(sums.mean(dtype=np.float64)), float(sums.min()), float(sums.max())


def mean_image(dataset: TFRecordDataset) -> np.ndarray:
    """The mean of all images, uint8 [C, H, W]."""
    step = max(1, _CHUNK_BYTES // int(np.prod(dataset.shape)))
    total = np.zeros(dataset.shape, np.float64)
    with tqdm.tqdm(total=dataset.num_images, unit="img", desc="averaging") as bar:
        for begin in range(0, dataset.num_images, step):
            images = dataset.read(np.arange(begin, min(begin + step, dataset.num_images)))
            total += images.sum(axis=0, dtype=np.float64)
            bar.update(len(images))
    return np.rint(total / dataset.num_images).astype(np.uint8)


def raw_bytes(shape: tuple[int, int, int]) -> int:
    """Bytes of one image of shape (C, H, W) in the published format: records of all levels."""
    sizes = level_sizes(*shape[1:])
    return sum(len(frame(encode_image(np.zeros((shape[0], *size), np.uint8)))) for size in sizes)


def disk_bytes(path: os.PathLike | str) -> int:
    """Size of all files of a data set directory, those of a held-out set included."""
    return sum(file.stat().st_size for file in dataset_directory(path).iterdir() if file.is_file())


# ---------------------------------------------------------------- extraction, comparison


def extract(dataset: TFRecordDataset, out_dir: os.PathLike | str, max_images: int | None = None) -> int:
    """Writes the images as img00000000.png, ... in the order of the file, and labels, if there are any, as labels.npy.

    The directory appears complete or not at all.

    Args:
        max_images: only the first ones.
    Returns:
        how many.
    Raises:
        UserError: the directory is not empty or cannot be written, PNG has no such number of channels, or a record is
            broken.
    """
    if dataset.num_channels not in (1, 3, 4):
        raise UserError(f"{dataset.path}: images of {dataset.num_channels} channels, PNG files have 1, 3 or 4")
    target = Path(os.path.realpath(out_dir))
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file; give the name of a new directory")
    if target.exists() and any(target.iterdir()):
        raise UserError(f"{target} is not empty; give the name of a new directory")
    count = min(dataset.num_images, max_images or dataset.num_images)
    with appears_whole(target) as content:
        for index in tqdm.trange(count, unit="img", desc="extracting"):
            to_pil(dataset.read(np.array([index]))[0]).save(content / f"img{index:08d}.png")
        if dataset.label_size:
            with open(content / "labels.npy", "xb") as file:
                write_labels(file, dataset.labels[:count])
    return count


@dataclass
class Differences:
    """How many things differ, and the indices of the first of them."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, index: int) -> None:
        """Takes one into account."""
        self.count += 1
        if len(self.first) < _MOST_NAMED:
            self.first.append(index)


@dataclass(frozen=True)
class Comparison:
    """Differences of two data sets of one shape and number of images."""

    num_images: int
    images: Differences
    labels: Differences

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.images.count and not self.labels.count


def compare(a: TFRecordDataset, b: TFRecordDataset, ignore_labels: bool = False) -> Comparison:
    """Compares the pixels of record by record, at full resolution, whatever their encodings are.

    Raises:
        UserError: shape, number of images or label size differ, so that nothing can be compared.
    """
    for what, x, y in (
        ("shape", list(a.shape), list(b.shape)),
        ("number of images", a.num_images, b.num_images),
        *([] if ignore_labels else [("label size", a.label_size, b.label_size)]),
    ):
        if x != y:
            raise UserError(f"the data sets differ in {what}: {a.path} has {x}, {b.path} has {y}")
    result = Comparison(a.num_images, Differences(), Differences())
    for index in tqdm.trange(a.num_images, unit="img", desc="comparing"):
        one = np.array([index])
        if not np.array_equal(a.read(one), b.read(one)):
            result.images.add(index)
    start = 0
    for part, other in () if ignore_labels else zip(label_parts(a.labels), label_parts(b.labels), strict=True):
        for index in np.flatnonzero((part != other).any(axis=1)).tolist():
            result.labels.add(start + index)
        start += len(part)
    return result
