"""Colour transformations: one 3x4 matrix per image (ADA paper, appendix B)."""

from __future__ import annotations

import numpy as np

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from training.augment.parameters import Parameters

# The luma axis v = (1, 1, 1) / sqrt(3): v v^T, and the cross product with v as a matrix.
_LUMA = np.full([3, 3], 1 / 3, np.float32)
_CROSS = (np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)).astype(np.float32)
_EYE = np.eye(3, dtype=np.float32)


def color_matrix(p: Parameters) -> tuple[tf.Tensor, tf.Tensor]:
    """(A [N, 3, 3], b [N, 3]) of colours A c + b: brightness, contrast, luma flip, hue, saturation, in this order.

    All factors but that of brightness keep the luma axis and its plane, so they multiply there separately: luma by
    contrast and flip, the plane by contrast, rotation and saturation. Where nothing is applied, A is exactly 1.
    """
    contrast, saturation = tf.pow(np.float32(2), p.log2_contrast), tf.pow(np.float32(2), p.log2_saturation)
    luma = contrast * (1 - 2 * p.lumaflip)
    chroma = contrast * saturation
    cos, sin = chroma * tf.cos(p.hue), chroma * tf.sin(p.hue)
    matrix = _each(cos) * _EYE + _each(luma - cos) * _LUMA + _each(sin) * _CROSS
    # Brightness is added along the luma axis, so the other factors only scale it.
    offset = tf.tile((luma * p.brightness)[:, tf.newaxis], [1, 3])
    return matrix, offset


def _each(values: tf.Tensor) -> tf.Tensor:
    return values[:, tf.newaxis, tf.newaxis]


def check_color(channels: int) -> None:
    """Raises `UserError` where colours make no sense."""
    if channels not in (1, 3, 4):
        raise UserError(
            f"augment.pipe: colour operations need 1, 3 (RGB) or 4 channels (RGB and alpha), found {channels}; "
            "choose a pipe without colour, e.g. augment.pipe=bg"
        )


def transform(images: tf.Tensor, p: Parameters) -> tf.Tensor:
    """Change the colours of images [N, C, H, W] in [-1, 1]; results may leave the range.

    C = 3: RGB; 4: RGB and alpha, which stays; 1: brightness, contrast and luma flip only.
    Raises `UserError` for other numbers of channels.
    """
    n, channels, height, width = images.shape.as_list()
    check_color(channels)
    if channels == 1:
        luma = tf.pow(np.float32(2), p.log2_contrast) * (1 - 2 * p.lumaflip)
        return images * _pixel(luma) + _pixel(luma * p.brightness)
    matrix, offset = color_matrix(p)
    colors = tf.reshape(images[:, :3], [-1 if n is None else n, 3, height * width])
    colors = tf.matmul(matrix, colors) + offset[:, :, tf.newaxis]
    colors = tf.reshape(colors, [-1 if n is None else n, 3, height, width])
    return colors if channels == 3 else tf.concat([colors, images[:, 3:]], axis=1)


def _pixel(values: tf.Tensor) -> tf.Tensor:
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]
