"""Where published data sets meet the writer: images come from here in the published order, and nowhere else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import PIL
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
    saved_when_stopped,
)
from training.dataset_items import counted
from training.dataset_labels import label_parts, label_rows, one_hot_labels
from training.dataset_writer import DatasetWriter
from training.encodings import Encoding

_DIGEST_IMAGES = 1024  # at a time


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
    version: str = ""  # tells the images from others in the same place; arrays need none


@dataclass(frozen=True)
class Stream:
    """Images to write, one after the other."""

    # From an index on: uint8 [C, H, W], float32 [label_size].
    pairs: Callable[[int], Iterable[tuple[np.ndarray, np.ndarray]]]
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


def images_digest(images: np.ndarray) -> str:
    """Tells images in memory, [N, ...], from others."""
    digest = hashlib.sha256(str(images.shape).encode())
    for start in range(0, len(images), _DIGEST_IMAGES):
        digest.update(np.ascontiguousarray(images[start : start + _DIGEST_IMAGES]))
    return digest.hexdigest()


def labels_digest(labels: np.ndarray) -> str:
    """Tells labels, float32 [N, label_size], from others."""
    digest = hashlib.sha256()
    for part in label_parts(labels):
        digest.update(np.ascontiguousarray(part))
    return digest.hexdigest()


def write_source(
    path: os.PathLike | str, source: ImageSource, options: WriteOptions, say: Callable[[str], None] = print
) -> BuildReport:
    """Writes a data set: record i is image `published_order(N, seed)[i]`, or image i if not shuffled.

    Images that are held out are passed over. What was interrupted goes on with the same arguments.

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
    version = images_digest(source.images) if isinstance(source.images, np.ndarray) else source.version

    def stream(indices: np.ndarray) -> Stream:
        def pairs(start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for index, label in zip(indices[start:].tolist(), label_rows(labels, indices[start:]), strict=True):
                yield source.images[index], label

        return Stream(pairs, len(indices), source.images.shape[1:], labels.shape[1])

    content = SetContent(source.class_names, facts, {"images": version, "labels": labels_digest(labels)})
    rest = stream(held_out) if options.num_validation else None
    return write_stream(path, stream(order), rest, content, options.overwrite, options.encoding, say)


@dataclass(frozen=True)
class SetContent:
    """What a data set of a stream holds besides images and labels.

    facts: for `dataset.json`. versions: tell the images and labels from others with the same facts.
    """

    class_names: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def key(self, images: Stream, held_out: Stream | None, encoding: Encoding) -> dict[str, Any]:
        """What the bytes of the data set depend on."""
        return {
            "shape": images.shape,
            "number of images": [images.count, held_out.count if held_out else 0],
            "label_size": images.label_size,
            "class_names": list(self.class_names),
            "encoding": [encoding.name, encoding.quality],
            "version of Pillow": PIL.__version__,
            **self.versions,
            **{f"source {name}": value for name, value in self.facts.items()},
        }


def write_stream(
    path: os.PathLike | str,
    images: Stream,
    held_out: Stream | None = None,
    content: SetContent | None = None,
    overwrite: bool = False,
    encoding: Encoding | None = None,
    say: Callable[[str], None] = print,
) -> BuildReport:
    """Writes a data set of images as they come. What was interrupted goes on with the same arguments.

    Args:
        images: of the training set.
        held_out: of the held-out set, in the files `validation-*`.
    Raises:
        UserError: a size that cannot be, an image that cannot be read, or see `DatasetWriter`.
    """
    content, encoding = content or SetContent(), encoding or Encoding()
    parts = [(images, False)] + ([] if held_out is None else [(held_out, True)])
    total = sum(part.count for part, _ in parts)
    key = content.key(images, held_out, encoding)
    writer = DatasetWriter(
        path, images.shape, encoding, images.label_size, content.class_names, content.facts, overwrite, key
    )
    with writer:
        done = writer.num_images + writer.num_validation
        if done:
            say(f"Going on after {counted(done, 'image')} of an interrupted conversion.")
        bar = tqdm.tqdm(total=total, initial=done, unit="img", desc=writer.path.name)
        with saved_when_stopped(writer, say), bar:
            for part, validation in parts:
                start = writer.num_validation if validation else writer.num_images
                for image, label in writer.unless_bad(part.pairs(start)):
                    writer.add(image, label if part.label_size else None, validation)
                    writer.checkpoint({})
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
        say(f"Found {counted(found, 'image')}; the published data set has {published}.")
