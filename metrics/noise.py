"""Random numbers by image: image i gets the same ones in whatever batch and on whatever tower it is made."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from dnnlib.tflib.tfutil import tf

Shape = Sequence[int] | tf.Tensor

_PHILOX = 1  # tf.random.Algorithm.PHILOX
_NUMBERS_PER_COUNT = 4  # that Philox gives for each value of its counter
_LATENTS, _LABELS, _MIRROR, _PATH_ENDS, _PATH_POSITIONS = range(1, 6)  # separate the streams of numpy


class IndexedRandom:
    """A `dnnlib.tflib.rng.RandomSource` whose draws belong to images: a function of (seed, name, index of the image).

    The first dimension of every shape counts images, of which the first has the index `first_index` (int64 scalar
    tensor) and the rest follow. Each name is one long Philox stream (Salmon et al. 2011) in which every image has a
    segment of its own, found by setting the counter; so a batch costs one op, as ordinary noise does.
    """

    def __init__(self, seed: int, first_index: tf.Tensor) -> None:
        self._seed = seed
        self._first_index = tf.cast(first_index, tf.int64)

    def _draw(self, op: object, name: str, shape: Shape, safe_name: str) -> tf.Tensor:
        static = tf.TensorShape(tf.get_static_value(shape) if isinstance(shape, tf.Tensor) else None)
        if not isinstance(shape, tf.Tensor):
            static = tf.TensorShape([n if isinstance(n, int) else None for n in shape])
        shape = tf.cast(tf.convert_to_tensor(shape), tf.int64)
        per_image = tf.reduce_prod(shape[1:])
        counts = (per_image + _NUMBERS_PER_COUNT - 1) // _NUMBERS_PER_COUNT
        key = np.random.SeedSequence((self._seed, zlib.crc32(name.encode()))).generate_state(1, np.uint64)
        counter = tf.stack([tf.cast(self._first_index * counts, tf.uint64), tf.constant(0, tf.uint64)])
        segments = tf.stack([shape[0], counts * _NUMBERS_PER_COUNT])
        drawn = op(shape=segments, key=tf.constant(key), counter=counter, alg=_PHILOX, name=safe_name)
        result = tf.reshape(drawn[:, :per_image], shape)
        result.set_shape(static)
        return result

    def normal(self, name: str, shape: Shape) -> tf.Tensor:
        """Standard normal float32 tensor of `shape`: [images, ...]."""
        return self._draw(tf.raw_ops.StatelessRandomNormalV2, name, shape, name.replace("/", "_"))

    def uniform(self, name: str, shape: Shape) -> tf.Tensor:
        """Uniform float32 tensor of `shape`, [images, ...], in [0, 1)."""
        return self._draw(tf.raw_ops.StatelessRandomUniformV2, name, shape, name.replace("/", "_"))

    def integers(self, name: str, shape: Shape, low: int, high: int) -> tf.Tensor:
        """Uniform int32 tensor of `shape`, [images, ...], in [low, high)."""
        return low + tf.cast(self.uniform(name, shape) * (high - low), tf.int32)


class PairedRandom:
    """A `RandomSource` for batches of pairs [2 n, ...]: images i and n + i get the same numbers, those of image i."""

    def __init__(self, single: IndexedRandom) -> None:
        self._single = single

    @staticmethod
    def _half(shape: Shape) -> Shape:
        if isinstance(shape, tf.Tensor):
            return tf.concat([shape[:1] // 2, shape[1:]], axis=0)
        return [shape[0] // 2, *shape[1:]]

    def normal(self, name: str, shape: Shape) -> tf.Tensor:
        """Standard normal float32 tensor of `shape`: [2 n, ...]."""
        return tf.concat([self._single.normal(name, self._half(shape))] * 2, axis=0)

    def uniform(self, name: str, shape: Shape) -> tf.Tensor:
        """Uniform float32 tensor of `shape`, [2 n, ...], in [0, 1)."""
        return tf.concat([self._single.uniform(name, self._half(shape))] * 2, axis=0)

    def integers(self, name: str, shape: Shape, low: int, high: int) -> tf.Tensor:
        """Uniform int32 tensor of `shape`, [2 n, ...], in [low, high)."""
        return tf.concat([self._single.integers(name, self._half(shape), low, high)] * 2, axis=0)


def _generators(seed: int, stream: int, indices: np.ndarray) -> list[np.random.Generator]:
    return [np.random.default_rng((seed, stream, int(index))) for index in indices]


def latents_of(seed: int, indices: np.ndarray, size: int) -> np.ndarray:
    """Latents float32 [n, size] ~ N(0, 1) of the fakes with these indices."""
    rows = [rng.standard_normal(size, np.float32) for rng in _generators(seed, _LATENTS, indices)]
    return np.stack(rows)


def path_ends_of(seed: int, indices: np.ndarray, size: int) -> np.ndarray:
    """Latents float32 [n, size] ~ N(0, 1) where the paths end that begin at `latents_of`."""
    rows = [rng.standard_normal(size, np.float32) for rng in _generators(seed, _PATH_ENDS, indices)]
    return np.stack(rows)


def path_positions_of(seed: int, indices: np.ndarray) -> np.ndarray:
    """How far along its path each pair lies: float64 [n], uniform in [0, 1)."""
    return np.array([rng.random() for rng in _generators(seed, _PATH_POSITIONS, indices)])


def labels_of(seed: int, indices: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For each fake one row of `labels` [images, label_size], drawn with replacement."""
    chosen = [rng.integers(len(labels)) for rng in _generators(seed, _LABELS, indices)]
    return labels[chosen]


def mirrored(indices: np.ndarray) -> np.ndarray:
    """Which reals are mirrored, where reals are: bool [n], half of them. The same for every seed of the fakes, because
    the statistics of reals are kept."""
    return np.array([rng.random() < 0.5 for rng in _generators(0, _MIRROR, indices)])
