"""Depthwise convolution of images, channels last, with bias and clipping in the same pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dnnlib.tflib.ops import arguments, library
from dnnlib.tflib.ops.impl import resolve_impl
from dnnlib.tflib.tfutil import tf

__all__ = ["RELU6", "depthwise_conv_2d"]

RELU6 = (0.0, 6.0)

Range = tuple[float, float]


def depthwise_conv_2d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: int = 1,
    clip: Sequence[float | None] | None = None,
    impl: str | None = None,
) -> tf.Tensor:
    """y = clip(x * w + b), every channel convolved with a filter of its own, with zeros around the image.

    Args:
        x: [N, H, W, C], float32, float16, bfloat16 or float64. Half types are computed in float32.
        w: [kh, kw, C, 1] of the dtype of x, as `tf.nn.depthwise_conv2d` takes them.
        b: [C] of the dtype of x, or None.
        stride: between results, vertically and horizontally.
        clip: the range (low, high) that results are cut to, None in it for no limit: `RELU6` is (0, 6). Gradients are
            zero where the results are not strictly within.
        impl: 'compiled', 'ref' or None for `default_impl()`. On GPUs float64 always takes the reference.

    Returns [N, ceil(H / stride), ceil(W / stride), C]: TensorFlow's padding "SAME", which puts the odd zero behind the
    image. Differentiable to any order, by TensorFlow's own ops. Raises `ValueError` for wrong ranks, sizes and dtypes.
    """
    x = arguments.float_tensor(x, "x", rank=4)
    w = arguments.float_tensor(w, "w", rank=4, like=x)
    channels = x.shape.as_list()[3]
    kernel_shape = (
        f"shape {w.shape}",
        f"[kh, kw, {channels or 'C'}, 1] with a kernel of at least 1 x 1, for x {x.shape}",
    )
    fits = w.shape[2:3].is_compatible_with(x.shape[3:4]) and w.shape[3:4].is_compatible_with([1])
    arguments.check(fits and 0 not in w.shape.as_list(), "w", *kernel_shape)
    if b is not None:
        b = arguments.float_tensor(b, "b", rank=1, like=x)
        arguments.check(b.shape.is_compatible_with(x.shape[3:4]), "b", f"shape {b.shape}",
                        f"[{channels}], one bias per channel of x {x.shape}")  # fmt: skip
    stride = arguments.positive(stride, "stride")
    limits = _limits(clip)
    # There are no CUDA kernels of float64.
    if resolve_impl(impl) == "compiled" and (x.dtype != tf.float64 or library.next_device_is_cpu()):
        return depthwise_compiled(x, w, b, stride, limits)
    return depthwise_reference(x, w, b, stride, limits)


def _limits(clip: Any) -> Range:
    """The range with infinities for what is not limited."""
    if clip is None:
        return -math.inf, math.inf
    good = isinstance(clip, Sequence) and not isinstance(clip, str) and len(clip) == 2
    arguments.check(good, "clip", repr(clip), "None or a pair (low, high)")
    low, high = (None if v is None else arguments.finite(v, "clip") for v in clip)
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    arguments.check(low < high, "clip", repr(clip), "a pair (low, high) with low < high")
    return low, high


# ---------------------------------------------------------------- compiled


def depthwise_compiled(x: tf.Tensor, w: tf.Tensor, b: tf.Tensor | None, stride: int, limits: Range) -> tf.Tensor:
    """One node DnnlibDepthwiseConv2d."""
    b = tf.zeros([0], x.dtype) if b is None else b
    low, high = (repr(v) for v in limits)
    return library.ops().dnnlib_depthwise_conv2d(x=x, w=w, b=b, stride=stride, low=low, high=high)


@tf.RegisterGradient("DnnlibDepthwiseConv2d")
def _depthwise_gradient(op: tf.Operation, dy: tf.Tensor) -> list[tf.Tensor | None]:
    (x, w, b), y = op.inputs, op.outputs[0]
    dtype = x.dtype
    low, high = (float(op.get_attr(name)) for name in ("low", "high"))
    dy, x, w = (_wide(t) for t in (dy, x, w))
    if (low, high) != (-math.inf, math.inf):
        dy = tf.where((y > tf.constant(low, dtype)) & (y < tf.constant(high, dtype)), dy, tf.zeros_like(dy))
    strides = [1, op.get_attr("stride"), op.get_attr("stride"), 1]
    dx = tf.nn.depthwise_conv2d_backprop_input(tf.shape(x), w, dy, strides, "SAME")
    dw = tf.nn.depthwise_conv2d_backprop_filter(x, tf.shape(w), dy, strides, "SAME")
    db = None if b.shape.as_list() == [0] else tf.cast(tf.reduce_sum(dy, [0, 1, 2]), dtype)
    return [tf.cast(dx, dtype), tf.cast(dw, dtype), db]


def _wide(t: tf.Tensor) -> tf.Tensor:
    """In the dtype of sums."""
    return tf.cast(t, tf.float32) if t.dtype in (tf.float16, tf.bfloat16) else t


# ---------------------------------------------------------------- reference


def depthwise_reference(x: tf.Tensor, w: tf.Tensor, b: tf.Tensor | None, stride: int, limits: Range) -> tf.Tensor:
    """The op by TensorFlow's depthwise convolution, written so that TensorFlow fuses bias and ReLU6 with it."""
    dtype = x.dtype
    y = tf.nn.depthwise_conv2d(_wide(x), _wide(w), [1, stride, stride, 1], "SAME")
    if b is not None:
        y = tf.nn.bias_add(y, _wide(b))
    low, high = limits
    if limits == RELU6:
        y = tf.nn.relu6(y)
    elif limits != (-math.inf, math.inf):
        # Not clip_by_value, whose gradient is one at the limits.
        low, high = (tf.constant(v, y.dtype) for v in limits)
        y = tf.where_v2(y >= high, high, tf.where_v2(y <= low, low, y))
    if stride > 1 and x.shape.as_list()[0] in (0, None):
        # Of no images TensorFlow leaves the size as it was.
        n, height, width = tf.unstack(tf.shape(x))[:3]
        y = tf.reshape(y, tf.stack([n, -(-height // stride), -(-width // stride), tf.shape(w)[2]]))
    return tf.cast(y, dtype)
