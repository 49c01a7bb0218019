"""Moving images by whole pixels, exactly."""

from __future__ import annotations

import numpy as np

from dnnlib.tflib.tfutil import tf


def draw_shift(uniforms: tf.Tensor, reach: tuple[float, float]) -> tf.Tensor:
    """Whole shifts [2, N] int32, down and to the right: U(-reach, reach) of each axis in pixels, rounded.

    uniforms: [2, N] in [0, 1).
    """
    limits = np.array(reach, np.float32)[:, np.newaxis]
    return tf.cast(tf.round((2 * uniforms - 1) * limits), tf.int32)


def shift(images: tf.Tensor, shifts: tf.Tensor, reach: tuple[int, int], border: str) -> tf.Tensor:
    """Images [N, C, H, W], C, H, W static, each moved down and to the right by its own shift [2, N] int32.

    reach: most that any is moved, in pixels; border: what comes in there, `CONSTANT` (zeros) or `REFLECT`.
    Differentiable to any order.
    """
    shape = images.shape
    for axis, amount, most in zip((2, 3), tf.unstack(shifts, num=2), reach, strict=True):
        size = shape.as_list()[axis]
        padding = [[0, 0] if i != axis else [most, most] for i in range(4)]
        index = (most - amount)[:, tf.newaxis] + np.arange(size, dtype=np.int32)
        # Axis 1 may have several channels: batches of the gather are the images.
        moved = tf.transpose(tf.pad(images, padding, mode=border), [0, axis, 1, 5 - axis])
        moved = tf.gather(moved, index, axis=1, batch_dims=1)
        images = tf.transpose(moved, [0, 2, 1, 3] if axis == 2 else [0, 2, 3, 1])
        images.set_shape(shape)
    return images
