"""Noise maps that are optimised: fed to the synthesis network, kept free of signal (appendix D)."""

from __future__ import annotations

from collections.abc import Mapping

from dnnlib.tflib.rng import Shape
from dnnlib.tflib.tfutil import tf

_SMALLEST = 8  # maps of this size are not halved


class GivenNoise:
    """A random source that hands the synthesis network these maps float32 [N, 1, h, w], by name, in place of draws."""

    def __init__(self, maps: Mapping[str, tf.Tensor]) -> None:
        self._maps = maps

    def normal(self, name: str, shape: Shape) -> tf.Tensor:
        """The map of that name; `shape` is what the network expects, which is checked where it is used."""
        return tf.convert_to_tensor(self._maps[name])

    def uniform(self, name: str, shape: Shape) -> tf.Tensor:
        """Raises `ValueError`: there are noise maps alone."""
        raise ValueError(f"no uniform draw {name!r} while noise is given")

    def integers(self, name: str, shape: Shape, low: int, high: int) -> tf.Tensor:
        """Raises `ValueError`: there are noise maps alone."""
        raise ValueError(f"no integer draw {name!r} while noise is given")


def noise_regularization(noise: tf.Tensor, pyramid_gain: float = 1.0) -> tf.Tensor:
    """Sum over scales of the squared autocorrelation at shifts of one pixel, horizontal and vertical.

    noise: [N, 1, h, w], static, wrapping around at the edges. Scales: the map, and its halves by averaging 2 x 2
    pixels times `pyramid_gain`, until a side has 8 pixels or is odd. Returns float32 [N], 0 for ideal white noise.
    """
    total = 0.0
    while True:
        for axis in (2, 3):
            correlation = tf.reduce_mean(noise * tf.roll(noise, 1, axis), axis=[1, 2, 3])
            total += tf.square(correlation)
        height, width = noise.shape[2:].as_list()
        if min(height, width) <= _SMALLEST or height % 2 or width % 2:
            return total
        blocks = tf.reshape(noise, [-1, 1, height // 2, 2, width // 2, 2])
        noise = tf.reduce_mean(blocks, axis=[3, 5]) * pyramid_gain


def normalize_noise(noise: tf.Tensor) -> tf.Tensor:
    """Each map of [N, 1, h, w] with mean 0 and (population) variance 1."""
    centered = noise - tf.reduce_mean(noise, axis=[1, 2, 3], keepdims=True)
    return centered * tf.math.rsqrt(tf.reduce_mean(tf.square(centered), axis=[1, 2, 3], keepdims=True))
