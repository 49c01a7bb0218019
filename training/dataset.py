"""Images for training and metrics: a directory of TFRecords, read in a reproducible order without TensorFlow.

Training consumes images by global position p = 0, 1, 2, ... Epoch e = p // N visits every image once, in an order that
depends on (seed, e) alone; whether the image at p is mirrored depends on (seed, p) alone. So a run that stopped after p
images continues at p, exactly, whatever the minibatch size is.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dnnlib.util import UserError, list_nearest
from training.dataset_files import content_hash, dataset_directory, find_levels, load_labels, read_info
from training.image_shapes import base_shape
from training.levels import Levels
from training.prefetcher import Prefetcher, default_threads
from training.pyramid import reduced
from training.sampling import coin_flips, epoch_permutation

__all__ = ["Prefetcher", "TFRecordDataset", "load_dataset"]

_PARALLEL_BYTES = 8 << 20  # pixels of compact images that are worth the start of threads in `read`


class TFRecordDataset:
    """One resolution of a data set directory. Safe to use from several threads.

    Args:
        path: directory with `*.tfrecords`, and perhaps `*.labels` and `dataset.json`.
        resolution: larger side in pixels; None: the largest there is. A level without a file is computed from the
            largest file.
        max_label_size: 'full': whole labels; n: their first n components; 0: none.
        max_images: use only the first n records; None: all.
        mirror_augment: flip each image left-right with probability 1/2 (in `get`, not in `read`).
        seed: >= 0, decides order and mirroring.
        shuffle: False: every epoch in the order of the file.
        label_file: labels to use instead of those in the directory.
        validation: the held-out images (files `validation-*`) instead of the others.

    Attributes:
        name: of the directory.            path: absolute.
        shape: (C, H, W).                  resolution: the larger of H and W.
        encoding: of the first record: raw, png, jpeg or webp.
        num_images, num_channels, label_size.
        labels: float32 [num_images, label_size], a mapped file where there is one: not to be written.
        class_names: of one-hot labels, () if unknown.
        image_range: [0, 255], the values of uint8 images.

    Raises:
        UserError: something about the directory or an argument is wrong; the text says what.
    """

    def __init__(
        self,
        path: os.PathLike | str,
        resolution: int | None = None,
        max_label_size: int | str = "full",
        max_images: int | None = None,
        mirror_augment: bool = False,
        seed: int = 0,
        shuffle: bool = True,
        label_file: str | None = None,
        validation: bool = False,
    ) -> None:
        directory = dataset_directory(path)
        self.path = str(directory)
        self.name = directory.name
        self.mirror_augment = bool(mirror_augment)
        self.shuffle = bool(shuffle)
        self.seed = _checked_count("seed", seed, 0)

        self.validation = bool(validation)
        self._levels = Levels(find_levels(directory, self.validation))
        self.shape = self._levels.shape(resolution, str(directory))
        self._records, self._halvings = self._levels.source(self.shape[1:])
        self.resolution = max(self.shape[1:])
        self.encoding = self._records.encoding()
        self.num_channels = self.shape[0]
        self.dtype = "uint8"
        self.image_range = [0, 255]

        total = len(self._records)
        info = read_info(directory)
        said = total if info is None else info.num_validation if self.validation else info.num_images
        if said != total:
            raise UserError(f"{self._records.path}: {total} images, dataset.json says {said}; copy or build it again")
        self.num_images = total if max_images is None else min(total, _checked_count("max_images", max_images, 1))
        self.labels = self._load_labels(directory, total, max_label_size, label_file)
        self.label_size = self.labels.shape[1]
        full = info is not None and self.label_size == info.label_size
        self.class_names: tuple[str, ...] = info.class_names if full else ()

        self._lock = threading.Lock()
        self._epochs: dict[int, np.ndarray] = {}
        self._content_hash: str | None = None
        self._cursor = 0  # of get_minibatch_np
        self._minibatch: tuple[int, int] = (1, 0)  # size and lod of get_minibatch_np
        self._label_rng = np.random.default_rng(self.seed)

    def _load_labels(
        self, directory: os.PathLike, total: int, max_label_size: int | str, label_file: str | None
    ) -> np.ndarray:
        limit = None if max_label_size == "full" else _checked_count("max_label_size", max_label_size, 0, "'full' or ")
        labels = None if limit == 0 else load_labels(directory, total, label_file, self.validation)
        if labels is None:
            labels = np.zeros((total, 0), np.float32)
        if limit is not None and limit > labels.shape[1]:
            raise UserError(f"max_label_size is {limit}, but the labels of {directory} have {labels.shape[1]} numbers")
        return labels[: self.num_images, :limit]

    # ------------------------------------------------------------ identity

    @property
    def content_hash(self) -> str:
        """Identifies the images and labels in use; equal for equal files under any name (see `content_hash`)."""
        if self._content_hash is None:
            self._content_hash = content_hash(self._records, self.labels, self.num_images, self._halvings)
        return self._content_hash

    # ------------------------------------------------------------ reading

    def order(self, positions: np.ndarray | int) -> np.ndarray:
        """Image index at each global position: int64 of the same shape, values in [0, num_images).

        Args:
            positions: integers >= 0.
        """
        positions = np.asarray(positions, np.int64)
        if positions.size and positions.min() < 0:
            raise ValueError(f"positions must be >= 0, found {positions.min()}")
        epochs, offsets = np.divmod(positions, self.num_images)
        if not self.shuffle:
            return offsets
        result = np.empty_like(offsets)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            result[chosen] = self._permutation(int(epoch))[offsets[chosen]]
        return result

    def _permutation(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._epochs:
                self._epochs[epoch] = epoch_permutation(self.seed, epoch, self.num_images)
                while len(self._epochs) > 2:  # reading ahead crosses the end of an epoch
                    del self._epochs[next(iter(self._epochs))]
            return self._epochs[epoch]

    def mirrored(self, positions: np.ndarray) -> np.ndarray:
        """Which positions show the mirror image: bool of the same shape."""
        positions = np.asarray(positions, np.int64)
        return coin_flips(self.seed, positions) if self.mirror_augment else np.zeros(positions.shape, bool)

    def read(self, indices: np.ndarray, lod: int = 0) -> np.ndarray:
        """Images by index, as they are in the file.

        Args:
            indices: integers [n] in [0, num_images).
            lod: level of detail, 0: full size, 1: half of it, ... Levels that have no file are computed.
        Returns:
            uint8 [n, C, H / 2^lod, W / 2^lod].
        Raises:
            UserError: a record is broken; names file and record.
        """
        indices = np.asarray(indices, np.int64)
        images = np.empty((len(indices), *self.lod_shape(lod)), np.uint8)
        size = int(np.prod(self.shape))
        threads = default_threads(self.encoding, size)
        if self.encoding == "raw" or threads == 1 or len(indices) * size < _PARALLEL_BYTES:
            self.read_into(indices, images)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(self.read_into, np.array_split(indices, threads), np.array_split(images, threads)))
        return images

    def lod_shape(self, lod: int) -> tuple[int, int, int]:
        """(C, H, W) at a level of detail.

        Raises:
            ValueError: there is no such level.
        """
        channels, height, width = self.shape
        last = base_shape(height, width)[2]
        if not 0 <= lod <= last:
            raise ValueError(f"lod must be in [0, {last}], found {lod}")
        return channels, height >> lod, width >> lod

    def read_into(self, indices: np.ndarray, images: np.ndarray) -> None:
        """Images by index into an array; its size says the level of detail.

        Args:
            indices: integers [n] in [0, num_images).
            images: uint8 [n, C, H / 2^lod, W / 2^lod], to be filled.
        Raises:
            UserError: a record is broken; names file and record.
        """
        if indices.size and not (indices.min() >= 0 and indices.max() < self.num_images):
            raise IndexError(f"image indices must be in [0, {self.num_images}), found {indices.min()}..{indices.max()}")
        records, halvings = self._levels.source(images.shape[2:])
        if len(records) != len(self._records):
            raise UserError(
                f"{records.path}: {len(records)} images, but {self._records.path.name} has {len(self._records)}; "
                f"delete that file or rebuild the data set"
            )
        full = np.empty((images.shape[1], *(side << halvings for side in images.shape[2:])), np.uint8)
        for slot, index in zip(images, indices.tolist(), strict=True):
            if halvings == 0:
                records.read_image(index, slot)
            else:
                slot[...] = reduced(records.read_image(index, full), halvings)

    def get(self, positions: np.ndarray, lod: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels at global positions, in training order, mirrored where it falls so.

        Args:
            positions: integers [n] >= 0.
            lod: see `read`.
        Returns:
            images uint8 [n, C, H / 2^lod, W / 2^lod], labels float32 [n, label_size].
        """
        positions = np.asarray(positions, np.int64)
        images = np.empty((len(positions), *self.lod_shape(lod)), np.uint8)
        labels = np.empty((len(positions), self.label_size), np.float32)
        self.get_into(positions, images, labels)
        return images, labels

    def get_into(self, positions: np.ndarray, images: np.ndarray, labels: np.ndarray) -> None:
        """`get` into arrays; the size of `images` says the level of detail.

        Args:
            positions: integers [n] >= 0.
            images: uint8 [n, C, H / 2^lod, W / 2^lod], labels: float32 [n, label_size], both to be filled.
        """
        indices = self.order(positions)
        self.read_into(indices, images)
        for index in np.flatnonzero(self.mirrored(positions)).tolist():
            images[index] = images[index][..., ::-1].copy()
        labels[...] = self.labels[indices]

    # ------------------------------------------------------------ labels

    def random_labels(self, n: int, rng: np.random.Generator | np.random.RandomState) -> np.ndarray:
        """Labels of n images drawn with replacement: float32 [n, label_size]."""
        draw = rng.integers if isinstance(rng, np.random.Generator) else rng.randint
        return self.labels[draw(self.num_images, size=n)]

    def get_random_labels_np(
        self, n: int, rng: np.random.Generator | np.random.RandomState | None = None
    ) -> np.ndarray:
        """`random_labels`, from a generator seeded with the data set's seed if none is given."""
        return self.random_labels(n, self._label_rng if rng is None else rng)

    # ------------------------------------------------------------ one minibatch after the other

    def configure(self, minibatch_size: int, lod: int = 0) -> None:
        """Minibatch size and level of detail for calls of `get_minibatch_np` that do not say."""
        self._minibatch = (_checked_count("minibatch_size", minibatch_size, 1), _checked_count("lod", lod, 0))

    def get_minibatch_np(
        self, minibatch_size: int | None = None, lod: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The next images and labels, from position 0 on: see `get`."""
        size, level = self._minibatch
        self.configure(size if minibatch_size is None else minibatch_size, level if lod is None else lod)
        size, level = self._minibatch
        batch = self.get(np.arange(self._cursor, self._cursor + size), level)
        self._cursor += size
        return batch

    def close(self) -> None:
        """Closes the files; happens by itself when the object goes away."""
        self._levels.close()


def _checked_count(name: str, value: int, least: int, other: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise UserError(f"{name}: found {value!r}, expected {other}a whole number >= {least}")
    return int(value)


_OPTIONS = (
    "resolution", "max_label_size", "max_images", "mirror_augment", "seed", "shuffle", "label_file", "validation",
)  # fmt: skip


def load_dataset(
    class_name: str | None = None,
    data_dir: os.PathLike | str | None = None,
    verbose: bool = False,
    *,
    tfrecord_dir: os.PathLike | str,
    **options: object,
) -> TFRecordDataset:
    """Opens a data set with the argument names that user scripts have always used.

    Args:
        class_name: 'TFRecordDataset' (with or without module), the only one there is.
        data_dir: directory that holds data sets; `tfrecord_dir` is relative to it.
        verbose: print what was found.
        options: those of `TFRecordDataset`.
    Raises:
        UserError: an option that does not exist; the text lists those that do.
    """
    if class_name is not None and class_name.rpartition(".")[2] != "TFRecordDataset":
        raise UserError(f"unknown data set class {class_name!r}; {list_nearest(class_name, ['TFRecordDataset'])}")
    for name in options:
        if name not in _OPTIONS:
            raise UserError(f"load_dataset: unknown option {name!r}; {list_nearest(name, _OPTIONS)}")
    dataset = TFRecordDataset(os.path.join(data_dir or "", tfrecord_dir), **options)
    if verbose:
        print(f"Data set {dataset.path}: {dataset.num_images} images of shape {list(dataset.shape)}, ", end="")
        print(f"labels of {dataset.label_size} numbers")
    return dataset
