"""Corruptions: additive noise and cutout (ADA paper, appendix B)."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnnlib.tflib.tfutil import tf
from training.augment.parameters import Parameters


def add_noise(images: tf.Tensor, p: Parameters, rng: Any) -> tf.Tensor:
    """Add Gaussian noise of each image's own strength to [N, C, H, W]; `rng` draws `noise_image`."""
    noise = rng.normal("noise_image", tf.shape(images))
    return images + noise * p.noise_sigma[:, tf.newaxis, tf.newaxis, tf.newaxis]


def cut_out(images: tf.Tensor, p: Parameters) -> tf.Tensor:
    """Set a rectangle of half the image's width and height to 0; it may lie partly outside."""
    _, _, height, width = images.shape.as_list()
    x, y, size = (column[:, tf.newaxis] for column in tf.unstack(p.cutout, num=3, axis=1))
    columns = ((np.arange(width) + 0.5) / width).astype(np.float32)
    rows = ((np.arange(height) + 0.5) / height).astype(np.float32)
    outside_x, outside_y = tf.abs(columns - x) >= size / 2, tf.abs(rows - y) >= size / 2
    kept = tf.logical_or(outside_x[:, tf.newaxis, tf.newaxis, :], outside_y[:, tf.newaxis, :, tf.newaxis])
    return images * tf.cast(kept, images.dtype)
