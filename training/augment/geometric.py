"""Pixel blitting and general geometric transformations, executed together (ADA paper, appendix B)."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnnlib.tflib.ops import affine_warp
from dnnlib.tflib.tfutil import tf
from training.augment.parameters import Parameters

Matrix = tuple[tuple[Any, Any], tuple[Any, Any]]


def inverse_transform(p: Parameters, height: int, width: int) -> tf.Tensor:
    """Maps from pixels of the result to pixels of the image, [N, 2, 3], both from the centre.

    Every operation multiplies its inverse from the right: the first one is the closest to the image. The identity
    comes out exactly where nothing is applied.
    """
    # Rotations by quarters are exact: their cosines and sines are whole numbers.
    quarter = p.quarter_turns
    cos90 = tf.cast(tf.equal(quarter, 0), tf.float32) - tf.cast(tf.equal(quarter, 2), tf.float32)
    sin90 = tf.cast(tf.equal(quarter, 1), tf.float32) - tf.cast(tf.equal(quarter, 3), tf.float32)
    mirror = 1 - 2 * p.flip
    blit: Matrix = ((mirror * cos90, -mirror * sin90), (sin90, cos90))
    stretch = tf.pow(np.float32(2), p.log2_aniso)
    zoom = tf.pow(np.float32(2), -p.log2_scale)
    # scale(1 / s) rotate(a) scale(1 / t, t) rotate(b)
    cos_a, sin_a = tf.cos(p.rotate_pre) * zoom, tf.sin(p.rotate_pre) * zoom
    cos_b, sin_b = tf.cos(p.rotate_post), tf.sin(p.rotate_post)
    a: Matrix = ((cos_a / stretch, -sin_a * stretch), (sin_a / stretch, cos_a * stretch))
    general = _product(a, ((cos_b, -sin_b), (sin_b, cos_b)))
    size = np.array([width, height], np.float32)
    whole, part = -tf.round(p.xint * size), -p.xfrac * size
    whole_x, whole_y = tf.unstack(whole, num=2, axis=1)
    part_x, part_y = tf.unstack(part, num=2, axis=1)
    # blit @ translate(whole) @ general @ translate(part)
    linear = _product(blit, general)
    near_x, near_y = _apply(general, part_x, part_y)
    shift_x, shift_y = _apply(blit, whole_x + near_x, whole_y + near_y)
    rows = [linear[0][0], linear[0][1], shift_x, linear[1][0], linear[1][1], shift_y]
    return tf.reshape(tf.stack(rows, axis=1), [-1, 2, 3])


def _product(a: Matrix, b: Matrix) -> Matrix:
    return (
        (a[0][0] * b[0][0] + a[0][1] * b[1][0], a[0][0] * b[0][1] + a[0][1] * b[1][1]),
        (a[1][0] * b[0][0] + a[1][1] * b[1][0], a[1][0] * b[0][1] + a[1][1] * b[1][1]),
    )


def _apply(a: Matrix, x: Any, y: Any) -> tuple[Any, Any]:
    return a[0][0] * x + a[0][1] * y, a[1][0] * x + a[1][1] * y


def transform(images: tf.Tensor, p: Parameters) -> tf.Tensor:
    """Warp images [N, C, H, W] as the parameters say; the border is reflected."""
    _, _, height, width = images.shape.as_list()
    return affine_warp(images, inverse_transform(p, height, width))
