"""Where published data sets meet the writer: images come from here in the published order, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import tqdm

from dnnlib.util import UserError
from training.dataset import TFRecordDataset
from training.dataset_build import (
    PUBLISHED_SEED,
    BuildOptions,
    BuildReport,
    Item,
    build,
    held_out_order,
    published_order,
)
from training.dataset_labels import label_rows, one_hot_labels
from training.dataset_writer import DatasetWriter
from training.encodings import Encoding


class ImageTable(Protocol):
    """Images by index, all of one shape: an array, or what reads them from a file when asked."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""

    def __getitem__(self, index: int, /) -> np.ndarray:
        """uint8 [C, H, W]."""


class DatasetTable:
    """The images of a data set, in the order of its records, by index. `shape`: (N, C, H, W)."""

    def __init__(self, dataset: TFRecordDataset) -> None:
        self._dataset = dataset
        self.shape: tuple[int, ...] = (dataset.num_images, *dataset.shape)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._dataset.read(np.array([index]))[0]


@dataclass(frozen=True)
class ImageSource:
    """Images with what belongs to them."""

    images: ImageTable
    labels: np.ndarray | None = None  # int64 [N]: classes; float32 [N, label_size]: as they are
    class_names: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)  # for `dataset.json`


@dataclass(frozen=True)
class Stream:
    """Images to write, one after the other."""

    pairs: Iterable[tuple[np.ndarray, np.ndarray]]  # uint8 [C, H, W], float32 [label_size]
    count: int  # of the pairs
    shape: tuple[int, ...]  # (C, H, W)
    label_size: int = 0


@dataclass(frozen=True)
class WriteOptions:
    """What a person may choose about writing an `ImageSource`."""

    shuffle: bool = True
    seed: int = PUBLISHED_SEED
    max_images: int | None = None
    overwrite: bool = False
    num_validation: int = 0  # images held out, chosen as `dataset_build.build` does
    encoding: Encoding = Encoding()


def label_vectors(labels: np.ndarray | None, count: int, num_classes: int = 0) -> np.ndarray:
    """Labels as a data set holds them: float32 [count, label_size], one-hot for classes, width 0 for none.

    Args:
        num_classes: for classes; at least the largest + 1.
    """
    if labels is None:
        return np.zeros((count, 0), np.float32)
    if labels.ndim == 1:
        return one_hot_labels(labels, max(num_classes, int(labels.max(initial=-1)) + 1))
    return np.asarray(labels, np.float32)


def write_source(path: os.PathLike | str, source: ImageSource, options: WriteOptions) -> BuildReport:
    """Writes a data set: record i is image `published_order(N, seed)[i]`, or image i if not shuffled.

    Images that are held out are passed over.

    Raises:
        UserError: no images, none left after holding out, a size that cannot be, or see `DatasetWriter`.
    """
    count = source.images.shape[0]
    if not 0 <= options.seed < 2**32:
        raise UserError(f"--seed is {options.seed}, expected 0 to {2**32 - 1}")
    if options.num_validation >= max(count, 1):
        raise UserError(f"{options.num_validation} images to hold out, but there are only {count} in all")
    order = published_order(count, options.seed) if options.shuffle else np.arange(count)
    held_out = held_out_order(count, options.seed)[: options.num_validation]
    order = order[~np.isin(order, held_out)][: options.max_images]
    labels = label_vectors(source.labels, count, len(source.class_names))
    facts = {**source.facts, "shuffle": options.shuffle, "seed": options.seed, "max_images": options.max_images}

    def stream(indices: np.ndarray) -> Stream:
        rows = zip(indices.tolist(), label_rows(labels, indices), strict=True)
        pairs = ((source.images[i], label) for i, label in rows)
        return Stream(pairs, len(indices), source.images.shape[1:], labels.shape[1])

    rest = stream(held_out) if options.num_validation else None
    names = source.class_names
    return write_stream(path, stream(order), rest, names, facts, options.overwrite, options.encoding)


def write_stream(
    path: os.PathLike | str,
    images: Stream,
    held_out: Stream | None = None,
    class_names: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    encoding: Encoding | None = None,
) -> BuildReport:
    """Writes a data set of images as they come.

    Args:
        images: of the training set.
        held_out: of the held-out set, in the files `validation-*`.
    Raises:
        UserError: a size that cannot be, or see `DatasetWriter`.
    """
    parts = [(images, False)] + ([] if held_out is None else [(held_out, True)])
    count = sum(part.count for part, _ in parts)
    writer = DatasetWriter(path, images.shape, encoding, images.label_size, class_names, facts, overwrite)
    with writer, tqdm.tqdm(total=count, unit="img", desc=writer.path.name) as bar:
        for part, validation in parts:
            for image, label in part.pairs:
                writer.add(image, label if part.label_size else None, validation)
                bar.update()
    return BuildReport(writer.path, writer.num_images, (), 0, writer.num_validation)


def build_items(
    path: os.PathLike | str,
    items: Sequence[Item],
    render: Callable[[Item], np.ndarray],
    resolution: int,
    facts: Mapping[str, Any],
    options: BuildOptions,
    say: Callable[[str], None],
) -> BuildReport:
    """Converts files that have to be decoded, by several processes: `dataset_build.build` for RGB squares."""
    options = replace(options, shape=(3, resolution, resolution), class_names=(), source=facts)
    return build(path, items, render, options, (), say)


def tell_count(found: int, published: int, say: Callable[[str], None]) -> None:
    """Says so if there are not as many images as were published."""
    if found != published:
        say(f"Found {found} images; the published data set has {published}.")
