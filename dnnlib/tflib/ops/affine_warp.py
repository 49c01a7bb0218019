"""Affine warp of images at twice their resolution (training with limited data, Karras et al. 2020, appendix B).

The sixth-order symlet keeps high frequencies that bilinear interpolation of the image itself would lose: as a pair of
up- and downsampling it is the identity.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dnnlib.symlet import SYM6
from dnnlib.tflib.ops import arguments, library
from dnnlib.tflib.ops.impl import resolve_impl
from dnnlib.tflib.ops.upfirdn_2d import upfirdn_2d
from dnnlib.tflib.tfutil import tf

__all__ = ["affine_warp"]

_BORDER = 5  # fine samples before and after the result that the filter of the downsampling reaches


def affine_warp(x: Any, theta: Any, impl: str | None = None) -> tf.Tensor:
    """Draw every image through an affine map of its own.

    The image is extended by reflection (by at most its size less one; zeros beyond), interpolated to twice its
    resolution with `SYM6`, sampled there bilinearly, and filtered down again with the reversed filter.

    Args:
        x: [N, C, H, W], float32 or float64, sides of at least 2.
        theta: [N, 2, 3] of the same dtype: a pixel of the result at (X, Y) from the centre of the image, in pixels,
            shows the point theta @ (X, Y, 1) of x, in pixels from the centre. Where it is exactly the identity, the
            image is copied.
        impl: 'compiled', 'ref' or None for `default_impl()`. On GPUs float64 always takes the reference.

    Returns [N, C, H, W]. Linear in x, and differentiable with respect to it to any order; theta has no gradient.
    Raises `ValueError` for wrong ranks, sizes and dtypes.
    """
    x = arguments.float_tensor(x, "x", rank=4)
    arguments.check(x.dtype in (tf.float32, tf.float64), "x", f"dtype {x.dtype.name}", "float32 or float64")
    theta = tf.stop_gradient(arguments.float_tensor(theta, "theta", rank=3, like=x))
    n = x.shape.as_list()[0]
    arguments.check(theta.shape.is_compatible_with([n, 2, 3]), "theta", f"shape {theta.shape}", f"[{n or 'N'}, 2, 3]")
    for axis, name in ((2, "height"), (3, "width")):
        size = x.shape.as_list()[axis]
        arguments.check(size is None or size >= 2, "x", f"{name} {size}", "at least 2")
    if n == 0:
        return tf.identity(x)  # TensorFlow cannot reflect an empty minibatch
    # There are no CUDA kernels of float64.
    if resolve_impl(impl) == "compiled" and (x.dtype == tf.float32 or library.next_device_is_cpu()):
        return warp_compiled(x, theta, adjoint=False)
    return warp_reference(x, theta)


# ---------------------------------------------------------------- compiled


def warp_compiled(x: tf.Tensor, theta: tf.Tensor, adjoint: bool) -> tf.Tensor:
    """One node DnnlibAffineWarp: the warp, or its transpose."""
    return library.ops().dnnlib_affine_warp(x=x, theta=theta, taps=list(SYM6), adjoint=adjoint)


@tf.RegisterGradient("DnnlibAffineWarp")
def _warp_gradient(op: tf.Operation, dy: tf.Tensor) -> tuple[tf.Tensor, None]:
    return warp_compiled(dy, op.inputs[1], adjoint=not op.get_attr("adjoint")), None


# ---------------------------------------------------------------- reference


def warp_reference(x: tf.Tensor, theta: tf.Tensor) -> tf.Tensor:
    """The op in TensorFlow graph code, differentiable to any order."""
    size = tf.shape(x)
    height, width = size[2], size[3]
    pad_y = _margin(theta[:, 1], height, width, height)
    pad_x = _margin(theta[:, 0], height, width, width)
    extended = tf.pad(x, [[0, 0], [0, 0], [pad_y, pad_y], [pad_x, pad_x]], mode="REFLECT")
    # Axis by axis, so that the filter is as long as its taps.
    taps, root = np.array(SYM6), float(np.sqrt(2))
    fine = upfirdn_2d(extended, taps[:, None], up=(2, 1), pad=(6, 5, 0, 0), gain=root, impl="ref")
    fine = upfirdn_2d(fine, taps[None, :], up=(1, 2), pad=(0, 0, 6, 5), gain=root, impl="ref")
    # Sample n of a fine grid belongs to pixel n / 2.
    y = _centred(tf.range(-_BORDER, 2 * height + _BORDER), height, x.dtype)[tf.newaxis, :, tf.newaxis]
    x_ = _centred(tf.range(-_BORDER, 2 * width + _BORDER), width, x.dtype)[tf.newaxis, tf.newaxis, :]
    a = theta[:, :, :, tf.newaxis, tf.newaxis]
    u = a[:, 0, 0] * x_ + a[:, 0, 1] * y + a[:, 0, 2] + _half(width - 1, x.dtype) + tf.cast(pad_x, x.dtype)
    v = a[:, 1, 0] * x_ + a[:, 1, 1] * y + a[:, 1, 2] + _half(height - 1, x.dtype) + tf.cast(pad_y, x.dtype)
    samples = _bilinear(fine, 2 * u, 2 * v)
    result = upfirdn_2d(samples, taps[::-1, None], down=(2, 1), gain=1 / root, impl="ref")
    result = upfirdn_2d(result, taps[None, ::-1], down=(1, 2), gain=1 / root, impl="ref")
    result = tf.reshape(result, size)
    identity = tf.reduce_all(tf.equal(theta, tf.eye(2, 3, dtype=x.dtype)), axis=[1, 2])
    # A tensor of conditions, not tf.where's broadcast of version 1.
    same = tf.broadcast_to(identity[:, tf.newaxis, tf.newaxis, tf.newaxis], size)
    result = tf.where(same, x, result)
    result.set_shape(x.shape)
    return result


def _half(n: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return tf.cast(n, dtype) / 2


def _centred(n: tf.Tensor, size: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Distances of fine samples from the centre of an image, in pixels."""
    return _half(n, dtype) - _half(size - 1, dtype)


def _margin(row: tf.Tensor, height: tf.Tensor, width: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """How far the warps of a minibatch look beyond the image along the axis that `row` [N, 3] of theta maps to."""
    reach_x, reach_y = (_half(n + _BORDER, row.dtype) for n in (width, height))
    reach = tf.abs(row[:, 0]) * reach_x + tf.abs(row[:, 1]) * reach_y + tf.abs(row[:, 2]) - _half(size - 1, row.dtype)
    # Four pixels more than the samples: the filter of the interpolation.
    needed = tf.reduce_max(tf.ceil(reach)) + 4
    limit = tf.cast(size - 1, row.dtype)
    return tf.cast(tf.clip_by_value(needed, tf.zeros_like(limit), limit), tf.int32)


def _bilinear(images: tf.Tensor, u: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """Samples at columns u and rows v [N, h, w] of images [N, C, H, W]: [N, C, h, w], zero outside."""
    size = tf.shape(images)
    n, channels, height, width = (size[i] for i in range(4))
    h, w = tf.shape(u)[1], tf.shape(u)[2]
    pixels = tf.reshape(tf.transpose(images, [0, 2, 3, 1]), [n, height * width, channels])
    u0, v0 = tf.floor(u), tf.floor(v)
    parts = []
    for dv in (0, 1):
        for du in (0, 1):
            column, row = u0 + du, v0 + dv
            weight = (u - u0 if du else u0 + 1 - u) * (v - v0 if dv else v0 + 1 - v)
            right, bottom = tf.cast(width - 1, u.dtype), tf.cast(height - 1, u.dtype)
            inside = (column >= 0) & (column <= right) & (row >= 0) & (row <= bottom)
            weight *= tf.cast(inside, u.dtype)
            at_column = tf.cast(tf.clip_by_value(column, 0, right), tf.int32)
            at_row = tf.cast(tf.clip_by_value(row, 0, bottom), tf.int32)
            index = tf.reshape(at_row * width + at_column, [n, h * w])
            values = tf.gather(pixels, index, axis=1, batch_dims=1)
            parts.append(values * tf.reshape(weight, [n, h * w, 1]))
    return tf.transpose(tf.reshape(tf.add_n(parts), [n, h, w, channels]), [0, 3, 1, 2])
