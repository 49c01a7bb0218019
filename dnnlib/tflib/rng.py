"""Sources of randomness for networks and losses.

Everything random in a graph is drawn by name from one of these, so that training draws depend on (seed, image
counter, sub-batch) alone and survive a restart, user scripts draw freely, and tests can replay recorded numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
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


def standard_normal(shape: Shape, dtype: tf.DType = tf.float32, name: str | None = None) -> tf.Tensor:
    """Standard normal tensor of `shape`, drawn anew by every evaluation; as `tf.random.normal`, in one operation."""
    if not tf.is_tensor(shape):
        shape = tf.convert_to_tensor(shape, tf.int32)  # also [], which would be float32
    seed, seed2 = tf.get_seed(None)
    return tf.raw_ops.RandomStandardNormal(shape=shape, dtype=dtype, seed=seed or 0, seed2=seed2 or 0, name=name)


def normal_initializer(stddev: float = 1.0) -> Callable[..., tf.Tensor]:
    """Initialiser of variables, N(0, stddev^2), of two to four operations where TensorFlow's own takes six."""

    def draw(shape: Shape, dtype: tf.DType = tf.float32) -> tf.Tensor:
        x = standard_normal(shape, dtype)
        return x if stddev == 1 else x * stddev

    return draw


class StatefulRandom:
    """TensorFlow's own stateful generators: every evaluation draws anew."""

    def normal(self, name: str, shape: Shape) -> tf.Tensor:
        """Standard normal float32 tensor of `shape`."""
        return standard_normal(shape, name=_scope_safe(name))

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
