"""Looking at data sets: contact sheets, checks of every record, comparison, extraction."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tqdm
from PIL import Image

from dnnlib.util import UserError, atomic_write
from training.dataset import TFRecordDataset
from training.dataset_files import content_hash, dataset_directory, find_levels, load_labels, read_info
from training.pyramid import halve
from training.tfrecord import RecordFile


def to_pil(image: np.ndarray) -> Image.Image:
    """uint8 [C, H, W] as a picture: 1 channel grey, 3 RGB, 4 RGBA; of other numbers the first channel."""
    if image.shape[0] in (3, 4):
        return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    return Image.fromarray(np.ascontiguousarray(image[0]))


def save_png(image: Image.Image, path: os.PathLike | str) -> None:
    """Writes a PNG file, whole or not at all."""
    with atomic_write(path) as file:
        image.save(file, "png")


def contact_sheet(dataset: TFRecordDataset, columns: int, rows: int) -> Image.Image:
    """The first columns x rows images in the order of the file, row by row; free cells are white."""
    count = min(columns * rows, dataset.num_images)
    columns = min(columns, count)
    rows = -(-count // columns)
    cells = np.full((rows * columns, *dataset.shape), 255, np.uint8)
    cells[:count] = dataset.read(np.arange(count))
    channels, height, width = dataset.shape
    grid = cells.reshape(rows, columns, channels, height, width).transpose(2, 0, 3, 1, 4)
    return to_pil(grid.reshape(channels, rows * height, columns * width))


def class_counts(dataset: TFRecordDataset) -> list[tuple[str, int]] | None:
    """(class, number of images) if the labels are one-hot, else None."""
    labels = dataset.labels
    if dataset.label_size == 0 or not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()):
        return None
    names = dataset.class_names or tuple(str(i) for i in range(dataset.label_size))
    return list(zip(names, labels.sum(axis=0).astype(int).tolist(), strict=True))


def extract(dataset: TFRecordDataset, out_dir: os.PathLike | str, max_images: int | None = None) -> int:
    """Writes the images as img00000000.png, ... in the order of the file; returns how many.

    Raises:
        UserError: the directory cannot be made or is not empty.
    """
    out = Path(out_dir)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise UserError(f"cannot make {out}: {err.strerror or err}") from err
    if any(out.iterdir()):
        raise UserError(f"{out} is not empty; give the name of a new directory")
    count = min(dataset.num_images, max_images or dataset.num_images)
    for index in tqdm.trange(count, unit="img", desc="extracting"):
        save_png(to_pil(dataset.read(np.array([index]))[0]), out / f"img{index:08d}.png")
    return count


@dataclass(frozen=True)
class Comparison:
    """Differences of two data sets of one shape and number of images."""

    num_images: int
    images: tuple[int, ...]  # indices of different images
    labels: tuple[int, ...]  # indices of different labels

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.images and not self.labels


def compare(a: TFRecordDataset, b: TFRecordDataset, ignore_labels: bool = False) -> Comparison:
    """Compares record by record, at full resolution.

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
    images = []
    for index in tqdm.trange(a.num_images, unit="img", desc="comparing"):
        one = np.array([index])
        if not np.array_equal(a.read(one), b.read(one)):
            images.append(index)
    labels = [] if ignore_labels else np.flatnonzero((a.labels != b.labels).any(axis=1)).tolist()
    return Comparison(a.num_images, tuple(images), tuple(labels))


def verify(path: os.PathLike | str, say: Callable[[str], None] = print, max_problems: int = 20) -> list[str]:
    """Reads everything in a data set directory and checks that it fits together.

    Checked: checksums, shapes and number of the records of every level, that each level is the 2x2 mean of the one
    above (within the rounding of both), labels, `dataset.json`.

    Args:
        say: gets a line per level.
        max_problems: stop looking for broken records in a level after so many.
    Returns:
        One line per problem; empty if all is well.
    """
    problems: list[str] = []
    directory = dataset_directory(path)
    levels = find_levels(directory)
    largest = next(iter(levels.values()))
    total, channels = len(largest), largest.read_image(0).shape[0]
    for side, records in levels.items():
        broken = 0
        above = levels.get(2 * side)
        if len(records) != total:
            problems.append(f"{records.path.name}: {len(records)} images, {largest.path.name} has {total}")
        for index in tqdm.trange(len(records), unit="img", desc=f"{side}x{side}"):
            try:
                image = records.read_image(index)
            except UserError as err:
                problem = str(err)
            else:
                problem = _image_problem(image, (channels, side, side))
                if not problem and above is not None and index < len(above):
                    problem = _level_problem(image, above, index)
                problem = problem and f"{records.path}: record {index}: {problem}"
            if problem:
                problems.append(problem)
                broken += 1
                if broken == max_problems:
                    problems.append(f"{records.path}: {broken} broken records, the rest is not checked")
                    break
        say(f"{records.path.name}: {len(records)} images of {side}x{side}, {broken} broken")
    problems += _info_problems(directory, levels, total, channels)
    return problems


def _image_problem(image: np.ndarray, expected: tuple[int, int, int]) -> str:
    return "" if image.shape == expected else f"shape {list(image.shape)}, expected {list(expected)}"


def _level_problem(image: np.ndarray, above: RecordFile, index: int) -> str:
    try:
        larger = above.read_image(index)
    except UserError:
        return ""  # reported with its own level
    if larger.shape != (image.shape[0], 2 * image.shape[1], 2 * image.shape[2]):
        return ""
    # Both levels are rounded from unrounded ones, so they may be apart by half a value each.
    off = float(np.abs(halve(larger) - image).max())
    return "" if off <= 1 else f"differs by {off:g} from the 2x2 mean of the level above, expected at most 1"


def _info_problems(directory: Path, levels: dict[int, RecordFile], total: int, channels: int) -> list[str]:
    problems: list[str] = []
    labels = None
    try:
        labels = load_labels(directory, total)
        info = read_info(directory)
    except UserError as err:
        return [str(err)]
    if info is None:
        return problems
    label_size = 0 if labels is None else labels.shape[1]
    table = np.zeros((total, 0), np.float32) if labels is None else labels
    found_hash = content_hash(next(iter(levels.values())), table, total)
    for what, said, found in (
        ("resolution", info.resolution, next(iter(levels))),
        ("channels", info.channels, channels),
        ("num_images", info.num_images, total),
        ("label_size", info.label_size, label_size),
        ("levels", info.levels, tuple(levels)),
        ("content_hash", info.content_hash, found_hash),
    ):
        if said != found:
            problems.append(f"dataset.json: {what} is {said}, the files have {found}")
    if info.class_names and len(info.class_names) != label_size:
        problems.append(f"dataset.json: {len(info.class_names)} class names for labels of {label_size} numbers")
    return problems
