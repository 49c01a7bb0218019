"""From a folder of PNG files, such as `unpack` makes, back to records; with a held-out part and mirror images."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dnnlib.util import UserError
from training.dataset_build import BuildReport, published_order
from training.dataset_files import INFO_NAME, read_info
from training.dataset_writer import check_target
from training.published.png_layout import PngTable, read_labels
from training.published.writing import write_stream

VALIDATION_PREFIX = "validation-"


@dataclasses.dataclass(frozen=True)
class PackOptions:
    """How a folder is packed."""

    num_train: int | None = None  # None: all that are not held out
    num_validation: int = 0  # the images after those for training
    mirror: bool = False  # each image for training is followed by its mirror image
    seed: int | None = None  # of the order; None: that of the names
    overwrite: bool = False


def choose(count: int, options: PackOptions) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images for training, and of those held out.

    Raises:
        UserError: not so many images.
    """
    if options.seed is not None and not 0 <= options.seed < 2**32:
        raise UserError(f"--seed is {options.seed}, expected 0 to {2**32 - 1}")
    train = count - options.num_validation if options.num_train is None else options.num_train
    if train < 1 or train + options.num_validation > count:
        raise UserError(
            f"{max(train, 0)} images for training and {options.num_validation} for validation, but there are {count}; "
            f"lower --num_train or --num_validation"
        )
    order = np.arange(count) if options.seed is None else published_order(count, options.seed)
    return order[:train], order[train : train + options.num_validation]


def pack(folder: os.PathLike | str, path: os.PathLike | str, options: PackOptions | None = None) -> BuildReport:
    """Writes a data set of the PNG files below a folder, with the labels that lie beside them.

    Args:
        folder: all files of one shape.
        path: directory to make.
    Raises:
        UserError: see `PngTable`, `read_labels`, `choose`, `write_stream`.
    """
    options = options or PackOptions()
    target = Path(os.path.realpath(path))
    check_target(target, options.overwrite)
    table = PngTable(folder)
    labels, class_names = read_labels(table)
    train, held_out = choose(len(table.names), options)
    facts = {
        "kind": "pack",
        "folder": str(folder),
        "num_train": len(train),
        "num_validation": len(held_out),
        "mirror": options.mirror,
        "seed": options.seed,
    }

    def write(where: Path, indices: np.ndarray, mirror: bool, overwrite: bool = False) -> BuildReport:
        return write_stream(
            where,
            table.shape[1:],
            _pairs(table, labels, indices, mirror),
            len(indices) * (1 + mirror),
            labels.shape[1],
            class_names,
            facts,
            overwrite,
        )

    if not len(held_out):
        return write(target, train, options.mirror, options.overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.unfinished-", dir=target.parent) as temp:
        report = write(Path(temp, "new", target.name), train, options.mirror)
        validation = write(Path(temp, VALIDATION_PREFIX + target.name), held_out, False)
        _join(report.path, validation.path, len(held_out))
        if target.exists():
            os.replace(target, Path(temp, "old"))
        os.replace(report.path, target)
    return dataclasses.replace(report, path=target)


def _pairs(
    table: PngTable, labels: np.ndarray, indices: np.ndarray, mirror: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for index in indices.tolist():
        image = table[index]
        yield image, labels[index]
        if mirror:
            yield np.ascontiguousarray(image[:, :, ::-1]), labels[index]


def _join(train: Path, validation: Path, num_validation: int) -> None:
    """Moves the files of the held-out set beside those for training, and says so in `dataset.json`."""
    for file in validation.iterdir():
        if file.suffix in (".tfrecords", ".labels"):
            os.replace(file, train / file.name)
    info = dataclasses.replace(read_info(train), num_validation=num_validation)
    (train / INFO_NAME).write_text(info.to_json(), "utf-8")
