"""MNIST, and what has its format: the training images of 28x28, padded with zeros to 32x32; and MNIST-RGB."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from dnnlib.util import UserError
from training.dataset_build import BuildReport
from training.encodings import Encoding
from training.published.idx import read_idx
from training.published.writing import (
    ImageSource,
    SetContent,
    Stream,
    WriteOptions,
    images_digest,
    tell_count,
    write_source,
    write_stream,
)

NUM_IMAGES = 60_000
SIDE = 32
_CLASSES = tuple(str(digit) for digit in range(10))


def find_file(folder: os.PathLike | str, stem: str, rank: int) -> Path:
    """The idx file of that stem: as distributed, unpacked or not, or with the dot that some copies have.

    Raises:
        UserError: not there.
    """
    root = Path(folder)
    names = [f"{stem}{joint}idx{rank}-ubyte{end}" for end in ("", ".gz") for joint in ("-", ".")]
    for name in names:
        if (root / name).is_file():
            return root / name
    what = "is not a folder" if not root.is_dir() else f"has no {names[0]} or {names[0]}.gz"
    raise UserError(f"{root} {what}; expected the four files of MNIST as distributed")


def load_images(folder: os.PathLike | str) -> np.ndarray:
    """Training images, padded with zeros on all sides: uint8 [N, 1, 32, 32].

    Raises:
        UserError: see `find_file` and `read_idx`; or images that are larger than 32x32.
    """
    path = find_file(folder, "train-images", 3)
    images = read_idx(path, 3)
    height, width = images.shape[1:]
    if not (0 < height <= SIDE and 0 < width <= SIDE) or height % 2 or width % 2 or len(images) == 0:
        raise UserError(f"{path}: {len(images)} images of {width}x{height}, expected 28x28")
    rows, columns = (SIDE - height) // 2, (SIDE - width) // 2
    return np.pad(images, ((0, 0), (rows, rows), (columns, columns)))[:, None]


def load_mnist(folder: os.PathLike | str) -> ImageSource:
    """Training images and their digits.

    Raises:
        UserError: see `load_images`; or labels that do not fit them.
    """
    images = load_images(folder)
    path = find_file(folder, "train-labels", 1)
    labels = read_idx(path, 1).astype(np.int64)
    if len(labels) != len(images):
        raise UserError(f"{path}: {len(labels)} labels for {len(images)} images; the files are not of one data set")
    if labels.max() >= len(_CLASSES):
        raise UserError(f"{path}: label {labels.max()}, expected 0 to {len(_CLASSES) - 1}")
    return ImageSource(images, labels, _CLASSES, {"kind": "mnist", "folder": str(folder)})


def create_mnist(
    path: os.PathLike | str,
    folder: os.PathLike | str,
    options: WriteOptions | None = None,
    say: Callable[[str], None] = print,
) -> BuildReport:
    """MNIST as published: grey 32x32, one-hot labels of the ten digits.

    Args:
        path: directory to make.
        folder: with train-images-idx3-ubyte and train-labels-idx1-ubyte, gzipped or not.
    """
    source = load_mnist(folder)
    tell_count(len(source.images), NUM_IMAGES, say)
    return write_source(path, source, options or WriteOptions(), say)


def random_triples(images: np.ndarray, count: int, seed: int) -> Iterator[np.ndarray]:
    """Random images as the three channels of one: uint8 [3, H, W], `count` times; from uint8 [N, 1, H, W]."""
    rng = np.random.RandomState(seed)
    for _ in range(count):
        yield images[rng.randint(len(images), size=3), 0]


def create_mnistrgb(
    path: os.PathLike | str,
    folder: os.PathLike | str,
    num_images: int = 1_000_000,
    random_seed: int = 123,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
    encoding: Encoding | None = None,
) -> BuildReport:
    """MNIST-RGB as published: three random digits as red, green and blue; no labels.

    Args:
        path: directory to make.
        folder: as in `create_mnist`; the labels may be missing.
    """
    if not 0 <= random_seed < 2**32:
        raise UserError(f"--random_seed is {random_seed}, expected 0 to {2**32 - 1}")
    images = load_images(folder)
    tell_count(len(images), NUM_IMAGES, say)
    facts = {"kind": "mnistrgb", "folder": str(folder), "num_images": num_images, "random_seed": random_seed}
    empty = np.zeros(0, np.float32)

    def pairs(start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        triples = random_triples(images, num_images, random_seed)
        return ((image, empty) for image in itertools.islice(triples, start, None))

    content = SetContent(facts=facts, versions={"images": images_digest(images)})
    stream = Stream(pairs, num_images, (3, SIDE, SIDE))
    return write_stream(path, stream, None, content, overwrite, encoding, say)
