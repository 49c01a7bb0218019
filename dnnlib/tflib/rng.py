"""Sources of randomness for networks and losses.

Everything random in a graph is drawn by name from one of these, so that training draws depend on (seed, image
counter, sub-batch) alone and survive a restart, user scripts draw freely, and tests can replay recorded numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Protocol

from dnnlib.tflib.tfutil import tf

Shape = Sequence[int] | tf.Tensor


class RandomSource(Protocol):
    """Draws by name. The same name twice from one source gives independent or equal draws, as the source says."""

    def normal(self, name: str, shape: Shape) -> tf.Tensor:
        """Standard normal float32 tensor of `shape`."""

    def uniform(self, name: str, shape: Shape) -> tf.Tensor:
        """Uniform float32 tensor in [0, 1)."""

    def integers(self, name: str, shape: Shape, low: int, high: int) -> tf.Tensor:
        """Uniform int32 tensor in [low, high)."""


class StatefulRandom:
    """TensorFlow's own stateful generators: every evaluation draws anew."""

    def normal(self, name: str, shape: Shape) -> tf.Tensor:
        """Standard normal float32 tensor of `shape`."""
        return tf.random.normal(shape, name=_scope_safe(name))

    def uniform(self, name: str, shape: Shape) -> tf.Tensor:
        """Uniform float32 tensor in [0, 1)."""
        return tf.random.uniform(shape, name=_scope_safe(name))

    def integers(self, name: str, shape: Shape, low: int, high: int) -> tf.Tensor:
        """Uniform int32 tensor in [low, high)."""
        return tf.random.uniform(shape, low, high, dtype=tf.int32, name=_scope_safe(name))


class StatelessRandom:
    """A pure function of (seed, name): the same evaluation twice gives the same numbers.

    seed: int64 tensor [2]; `prefix` separates uses of one seed, e.g. the phases of a training step.
    """

    def __init__(self, seed: tf.Tensor, prefix: str = "") -> None:
        self._seed = tf.cast(seed, tf.int64)
        self._prefix = prefix

    def child(self, prefix: str) -> StatelessRandom:
        """A source with the same seed whose names are prefixed: independent of its parent's draws."""
        return StatelessRandom(self._seed, f"{self._prefix}{prefix}/")

    def _fold(self, name: str) -> tf.Tensor:
        # The stateless ops hash their seed, so an offset by the name's checksum is enough to separate streams.
        code = zlib.crc32((self._prefix + name).encode())
        return self._seed + tf.constant([code << 20, code], tf.int64)

    def normal(self, name: str, shape: Shape) -> tf.Tensor:
        """Standard normal float32 tensor of `shape`."""
        return tf.random.stateless_normal(shape, self._fold(name), name=_scope_safe(name))

    def uniform(self, name: str, shape: Shape) -> tf.Tensor:
        """Uniform float32 tensor in [0, 1)."""
        return tf.random.stateless_uniform(shape, self._fold(name), name=_scope_safe(name))

    def integers(self, name: str, shape: Shape, low: int, high: int) -> tf.Tensor:
        """Uniform int32 tensor in [low, high)."""
        return tf.random.stateless_uniform(
            shape, self._fold(name), minval=low, maxval=high, dtype=tf.int32, name=_scope_safe(name)
        )


def _scope_safe(name: str) -> str:
    return name.replace("/", "_")
