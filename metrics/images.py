"""Images on their way into a feature network: to bytes, to three channels, to the size that the network takes."""

from __future__ import annotations

import numpy as np

from dnnlib.tflib.tfutil import convert_images_to_uint8, tf
from dnnlib.util import UserError

_BAND_ROWS = 32  # of a resampled image that are one product


def to_bytes_and_finite(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Generator output to what a saved picture would hold: `floor(127.5 x + 128)`, clipped to 0..255.

    images: float [N, C, H, W] in [-1, 1]. Returns (uint8 [N, C, H, W], bool scalar: all values were finite). The
    second one matters because NaN has no defined conversion to an integer and would pass for a colour.
    """
    return convert_images_to_uint8(images), all_finite(images)


def all_finite(images: tf.Tensor) -> tf.Tensor:
    """Whether float images have finite values alone: bool scalar.

    By a comparison, because TensorFlow moves `is_finite` to the other side of a transposition. That of booleans has no
    fast implementation on most processors, and TensorFlow says so as if it were an error.
    """
    return tf.reduce_all(tf.abs(tf.cast(images, tf.float32)) <= tf.float32.max)


def to_rgb(images: tf.Tensor) -> tf.Tensor:
    """uint8 or float32 [N, C, H, W] in 0..255 to float32 [N, 3, H, W] in 0..255.

    One channel is repeated, as the published metrics do; a fourth is taken as alpha, and the picture laid on white (and
    rounded, if bytes came in). Raises `UserError` for other numbers of channels.
    """
    channels = images.shape[1]
    pixels = tf.cast(images, tf.float32)
    if channels == 1:
        return tf.concat([pixels] * 3, axis=1)
    if channels == 3:
        return pixels
    if channels == 4:
        alpha = pixels[:, 3:] / 255
        laid = pixels[:, :3] * alpha + 255 * (1 - alpha)
        return tf.floor(laid + 0.5) if images.dtype == tf.uint8 else laid
    raise UserError(
        f"metrics look at images of 1 (grayscale), 3 (RGB) or 4 (RGBA) channels, found {channels}: "
        "train without metrics, or evaluate three of the channels"
    )


def box_average(images: tf.Tensor, factor: int) -> tf.Tensor:
    """Means of blocks of factor x factor pixels: [N, C, H, W] (H, W static) to [N, C, H // factor, W // factor]."""
    if factor <= 1:
        return images
    height, width = (size // factor for size in images.shape[2:].as_list())
    blocks = tf.reshape(
        images[:, :, : height * factor, : width * factor], [-1, images.shape[1], height, factor, width, factor]
    )
    return tf.reduce_mean(blocks, axis=[3, 5])


def triangle_matrix(size_in: int, size_out: int) -> np.ndarray:
    """float32 [size_out, size_in] that resamples a row of pixels with the triangle filter.

    Pixels are squares with their centres at half integers. The filter is as wide as one pixel of the coarser grid on
    each side: linear interpolation when enlarging, an antialiased reduction when shrinking. Every row sums to 1.
    """
    width = max(size_in / size_out, 1.0)
    centers_out = (np.arange(size_out) + 0.5) * (size_in / size_out)
    centers_in = np.arange(size_in) + 0.5
    weights = np.maximum(1 - np.abs(centers_out[:, None] - centers_in[None, :]) / width, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def resize_triangle(images: tf.Tensor, size: int) -> tf.Tensor:
    """float32 [N, C, H, W] (H, W static) to [N, C, size, size] by `triangle_matrix` along both axes.

    Matrix products: the same on every device, where TensorFlow's antialiased resize runs on CPUs alone.
    """
    channels, height, width = images.shape[1:].as_list()
    if height != size:
        parts = [
            tf.matmul(tf.constant(weights), images[:, :, begin : begin + weights.shape[1]])
            for begin, weights in _bands(triangle_matrix(height, size))
        ]
        images = tf.concat(parts, axis=2)
    if width != size:
        rows = tf.reshape(images, [-1, width])
        parts = [
            tf.matmul(rows[:, begin : begin + weights.shape[1]], tf.constant(weights.T))
            for begin, weights in _bands(triangle_matrix(width, size))
        ]
        images = tf.reshape(tf.concat(parts, axis=1), [-1, channels, size, size])
    return images


def _bands(matrix: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """(first column, weights) of blocks of rows of a matrix [size_out, size_in], without the zeros around them: for
    images of 256 pixels a sixth of the products is left, for those of 1024 a seventh."""
    bands = []
    for start in range(0, len(matrix), _BAND_ROWS):
        block = matrix[start : start + _BAND_ROWS]
        columns = np.flatnonzero(block.any(axis=0))
        bands.append((int(columns[0]), np.ascontiguousarray(block[:, columns[0] : columns[-1] + 1])))
    return bands
