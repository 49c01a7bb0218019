"""Inputs of generators for analyses: sample i is the same whatever batch it is in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.analysis.options import MOST_SEED
from metrics.noise import IndexedRandom, labels_of, latents_of

_CLASSES = 4  # the stream of random classes, apart from those of metrics/noise.py


class Generator(Protocol):
    """What is needed of `dnnlib.tflib.network.Network` with the components `mapping` and `synthesis`."""

    input_shapes: list[list[int | None]]
    output_shape: list[int | None]
    components: Any


def default_batch(resolution: int) -> int:
    """Images at a time that fit a few GiB: 32 up to 128 pixels, 16 up to 256, else 4."""
    return 32 if resolution <= 128 else 16 if resolution <= 256 else 4


def batches(count: int, size: int) -> Iterator[np.ndarray]:
    """Indices 0 ... count - 1, `size` at a time."""
    for begin in range(0, count, size):
        yield np.arange(begin, min(begin + size, count))


class Samples:
    """Placeholders of a generator's inputs and what to feed them: z ~ N(0, 1), labels drawn from those of a data set.

    given: labels float32 [images, K] of the data set, as metrics draw them; None: classes drawn uniformly.
    latents: [N, L]; labels: [N, K]; first_index: int64 scalar; rng: noise that belongs to images. `dlatents`:
    [N, layers, D] from the mapping network without truncation. Streams of one seed, 0 and up, are independent.
    Raises `UserError` for anything but a generator, and for labels of another size than it takes.
    """

    def __init__(self, Gs: Generator, seed: int, stream: int = 0, given: np.ndarray | None = None) -> None:  # noqa: N803
        if "synthesis" not in getattr(Gs, "components", {}):
            raise UserError("expected a generator with a mapping and a synthesis network, such as Gs of a snapshot")
        self._latent_size, self._label_size = Gs.input_shapes[0][1], Gs.input_shapes[1][1]
        if given is not None and self._label_size and given.shape[1] != self._label_size:
            raise UserError(
                f"the generator takes labels of {self._label_size} numbers, those of the data set have "
                f"{given.shape[1]}: use the data set of the training"
            )
        self._given = given
        # Seeds above those that people may give: second latents of a pair are no one's first.
        self._seed = seed + stream * (MOST_SEED + 1)
        self.latents = tf.placeholder(tf.float32, [None, self._latent_size])
        self.labels = tf.placeholder(tf.float32, [None, self._label_size])
        self.first_index = tf.placeholder(tf.int64, [])
        self.rng = IndexedRandom(self._seed, self.first_index)
        self.dlatents = Gs.components.mapping.get_output_for(self.latents, self.labels)

    def feed(self, indices: np.ndarray) -> dict[tf.Tensor, Any]:
        """What to feed for samples with these indices, which follow each other."""
        labels = np.zeros((len(indices), self._label_size), np.float32)
        if self._label_size and self._given is not None:
            labels = labels_of(self._seed, indices, self._given)
        elif self._label_size:
            for row, index in zip(labels, indices, strict=True):
                row[np.random.default_rng((self._seed, _CLASSES, int(index))).integers(self._label_size)] = 1
        latents = latents_of(self._seed, indices, self._latent_size)
        return {self.latents: latents, self.labels: labels, self.first_index: indices[0]}


def draw_dlatents(Gs: Generator, count: int, seed: int, labels: np.ndarray | None = None) -> np.ndarray:  # noqa: N803
    """w of `count` samples: float32 [count, D], that of the first layer (all are equal without truncation). labels: as
    `given` of `Samples`."""
    samples = Samples(Gs, seed, given=labels)
    parts = [tfutil.run(samples.dlatents[:, 0], samples.feed(indices)) for indices in batches(count, 256)]
    return np.concatenate(parts)
