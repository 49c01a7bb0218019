"""From a folder of PNG files, such as `unpack` makes, back to records; with a held-out part and mirror images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnnlib.util import UserError
from training.dataset_build import BuildReport, published_order
from training.dataset_labels import label_rows
from training.dataset_target import check_target
from training.encodings import Encoding
from training.published.png_layout import PngTable, read_labels
from training.published.writing import SetContent, Stream, labels_digest, write_stream


@dataclass(frozen=True)
class PackOptions:
    """How a folder is packed."""

    num_train: int | None = None  # None: all that are not held out
    num_validation: int = 0  # the images after those for training
    mirror: bool = False  # each image for training is followed by its mirror image
    seed: int | None = None  # of the order; None: that of the names
    overwrite: bool = False
    encoding: Encoding = Encoding()


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


def pack(
    folder: os.PathLike | str,
    path: os.PathLike | str,
    options: PackOptions | None = None,
    say: Callable[[str], None] = print,
) -> BuildReport:
    """Writes a data set of the PNG files below a folder, with the labels that lie beside them.

    What was interrupted goes on with the same arguments.

    Args:
        folder: all files of one shape.
        path: directory to make.
    Raises:
        UserError: see `PngTable`, `read_labels`, `choose`, `write_stream`.
    """
    options = options or PackOptions()
    check_target(Path(os.path.realpath(path)), options.overwrite)
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

    versions = {"list of images": names_digest(table.names), "labels": labels_digest(labels)}
    content = SetContent(class_names, facts, versions)
    images = _stream(table, labels, train, options.mirror)
    rest = _stream(table, labels, held_out) if len(held_out) else None
    return write_stream(path, images, rest, content, options.overwrite, options.encoding, say)


def _stream(table: PngTable, labels: np.ndarray, indices: np.ndarray, mirror: bool = False) -> Stream:
    versions = 1 + mirror  # of each image

    def pairs(start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rest = indices[start // versions :]
        done = start % versions  # of the first image
        for index, label in zip(rest.tolist(), label_rows(labels, rest), strict=True):
            image = table[index]
            both = (image, np.ascontiguousarray(image[:, :, ::-1]))
            for version in both[done:versions]:
                yield version, label
            done = 0

    return Stream(pairs, len(indices) * versions, table.shape[1:], labels.shape[1])


def names_digest(names: Iterable[str]) -> str:
    """Tells a list of names from others."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()
