"""DiffAugment: colour, translation and cutout for every image (Zhao et al. 2020, section 3 and appendix)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dnnlib.tflib.tfutil import tf
from training.augment.shift import shift

BRIGHTNESS = 0.5  # added, up to +- this; images have values in [-1, 1]
SATURATION = (0.0, 2.0)
CONTRAST = (0.5, 1.5)
TRANSLATION = 1 / 8  # of the size, at most
CUTOUT = 1 / 2  # of the size


def apply_policies(images: tf.Tensor, policies: Sequence[str], rng: Any) -> tf.Tensor:
    """Colour, translation and cutout, those that are named, in this order.

    images: [N, C, H, W] float32, C, H, W static. rng: a `RandomSource`. Differentiable to any order.
    """
    n = images.shape.as_list()[0]
    count = tf.shape(images)[0] if n is None else n
    if "color" in policies:
        images = _color(images, rng.uniform("diffaugment_color", [3, count]))
    if "translation" in policies:
        images = _translate(images, rng.uniform("diffaugment_translation", [2, count]))
    if "cutout" in policies:
        images = _cut_out(images, rng.uniform("diffaugment_cutout", [2, count]))
    return images


def _between(low: float, high: float, uniform: tf.Tensor) -> tf.Tensor:
    return (np.float32(low) + np.float32(high - low) * uniform)[:, tf.newaxis, tf.newaxis, tf.newaxis]


def _color(images: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """Brightness, saturation around each pixel's grey, contrast around each image's mean. Alpha stays."""
    channels = images.shape.as_list()[1]
    alpha = images[:, 3:] if channels == 4 else None
    x = images if alpha is None else images[:, :3]
    brightness, saturation, contrast = tf.unstack(uniforms, num=3)
    x += _between(-BRIGHTNESS, BRIGHTNESS, brightness)
    if channels in (3, 4):
        grey = tf.reduce_mean(x, axis=1, keepdims=True)
        x = grey + (x - grey) * _between(*SATURATION, saturation)
    mean = tf.reduce_mean(x, axis=[1, 2, 3], keepdims=True)
    x = mean + (x - mean) * _between(*CONTRAST, contrast)
    return x if alpha is None else tf.concat([x, alpha], axis=1)


def _whole(uniform: tf.Tensor, low: int, high: int) -> tf.Tensor:
    """Whole numbers from low to high, both included."""
    value = tf.cast(tf.floor(uniform * (high - low + 1)), tf.int32) + low
    return tf.minimum(value, high)


def _translate(images: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """Shift by whole pixels; zeros come in at the border."""
    reach = tuple(int(size * TRANSLATION + 0.5) for size in images.shape.as_list()[2:])
    axes = zip(tf.unstack(uniforms, num=2), reach, strict=True)
    return shift(images, tf.stack([_whole(uniform, -most, most) for uniform, most in axes]), reach, "CONSTANT")


def _cut_out(images: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """Zeros in a rectangle of half the size around a random pixel; it may lie partly outside."""
    kept = []
    for axis, uniform in zip((2, 3), tf.unstack(uniforms, num=2), strict=True):
        size = images.shape.as_list()[axis]
        length = int(size * CUTOUT + 0.5)
        # Centres from edge to edge: an even rectangle's lies between pixels, an odd one's on one.
        first = _whole(uniform, 0, size - length % 2)[:, tf.newaxis] - length // 2
        pixels = np.arange(size, dtype=np.int32)
        kept.append(tf.logical_or(pixels < first, pixels >= first + length))
    mask = tf.logical_or(kept[0][:, tf.newaxis, :, tf.newaxis], kept[1][:, tf.newaxis, tf.newaxis, :])
    return images * tf.cast(mask, images.dtype)
