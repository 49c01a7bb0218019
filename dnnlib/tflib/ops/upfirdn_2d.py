"""Upsample, filter, downsample images with an FIR filter (spec of the op: see `upfirdn_2d`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnnlib.tflib.ops import arguments, library
from dnnlib.tflib.ops.impl import resolve_impl
from dnnlib.tflib.tfutil import tf

__all__ = ["upfirdn_2d"]

_SEPARABLE_TAPS = 8  # from this length on the reference filters rows and columns one after the other

_MAX_TAPS = 32  # along one axis, and of a filter that is not separable: limits of the compiled kernels
_MAX_TAPS_2D = 900
_MAX_NUMBER = 1 << 24  # of factors and padding: sums of a few of them are 32-bit integers in the kernels


@dataclass(frozen=True)
class Taps:
    """A filter ready for use, gain included: the full array (float64), and its two axes where it has them (float32).

    The kernels take float32, so the numbers of both implementations are made of those.
    """

    full: np.ndarray
    y: np.ndarray | None = None
    x: np.ndarray | None = None

    @property
    def compilable(self) -> bool:
        """Whether the kernels have room for it."""
        return max(self.full.shape) <= _MAX_TAPS and (self.y is not None or self.full.size <= _MAX_TAPS_2D)

    def flipped(self) -> Taps:
        """The filter turned by 180 degrees: the adjoint of convolution."""
        y, x = (None if v is None else v[::-1] for v in (self.y, self.x))
        return Taps(full=self.full[::-1, ::-1], y=y, x=x)


@dataclass(frozen=True)
class Resampling:
    """Static arguments of the op: factors are (y, x), padding is (y0, y1, x0, x1) on the upsampled grid."""

    taps: Taps
    up: tuple[int, int]
    down: tuple[int, int]
    pad: tuple[int, int, int, int]

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Size of the result for an input of this size; below 1 where nothing is left."""
        kh, kw = self.taps.full.shape
        y0, y1, x0, x1 = self.pad
        out_h = (height * self.up[0] + y0 + y1 - kh) // self.down[0] + 1
        out_w = (width * self.up[1] + x0 + x1 - kw) // self.down[1] + 1
        return out_h, out_w

    def adjoint(self, height: int, width: int) -> Resampling:
        """The gradient with respect to an input of this size, which is the same op again."""
        kh, kw = self.taps.full.shape
        out_h, out_w = self.output_size(height, width)
        y0, _, x0, _ = self.pad
        pad = (
            kh - y0 - 1,
            height * self.up[0] - out_h * self.down[0] + y0 - self.up[0] + 1,
            kw - x0 - 1,
            width * self.up[1] - out_w * self.down[1] + x0 - self.up[1] + 1,
        )
        return Resampling(self.taps.flipped(), up=self.down, down=self.up, pad=pad)


def make_taps(k: Any, gain: float = 1.0, flip: bool = False) -> Taps:
    """Check a filter, apply the gain in float64, round to float32, and find its two axes where it has them."""
    array = arguments.filter_taps(k)
    largest = float(np.abs(array).max())
    fits = largest * (largest if array.ndim == 1 else 1.0) * abs(gain) <= float(np.finfo(np.float32).max)
    arguments.check(fits, "gain", repr(gain), "one with which the taps of k are float32 numbers")
    if flip:
        array = array[::-1] if array.ndim == 1 else array[::-1, ::-1]
    if array.ndim == 1:
        # Half of the gain on either axis: with factors as gain, boxes have taps of exactly 1.
        root = math.sqrt(abs(gain))
        y, x = (array * math.copysign(root, gain)).astype(np.float32), (array * root).astype(np.float32)
    else:
        peak_y, peak_x = np.unravel_index(np.argmax(np.abs(array)), array.shape)
        peak = array[peak_y, peak_x]
        column, row = array[:, peak_x], array[peak_y, :] / (peak if peak else 1.0)
        if not np.allclose(np.outer(column, row), array, rtol=0, atol=1e-7 * abs(peak)):
            return Taps(full=(array * gain).astype(np.float32).astype(np.float64))
        y, x = (column * gain).astype(np.float32), row.astype(np.float32)
    return Taps(full=np.outer(y.astype(np.float64), x), y=y, x=x)


def upfirdn_2d(
    x: Any,
    k: Any,
    up: Any = 1,
    down: Any = 1,
    pad: Any = 0,
    gain: float = 1.0,
    flip_filter: bool = False,
    data_format: str = "NCHW",
    impl: str | None = None,
) -> tf.Tensor:
    """Upsample, filter and downsample a batch of images.

    1. Insert `up - 1` zeros after every sample (size H*up). 2. Pad with zeros, or crop where negative, on that grid.
    3. Convolve with `k * gain` (a true convolution: correlate with the flipped filter; `flip_filter=True`
    correlates with `k` as it is), keeping only outputs covered by the input. 4. Keep every `down`-th sample.
    Output size per axis: (H*up + pad0 + pad1 - taps) // down + 1.

    Args:
        x: [N, C, H, W] or [N, H, W, C], float32, float16, bfloat16 or float64. Half types are summed in float32.
        k: static filter, two-dimensional [kh, kw] or one-dimensional (used along both axes).
        up, down: integer or (y, x).
        pad: integer or (y0, y1, x0, x1).
        gain: the result is multiplied by it.
        data_format: 'NCHW' or 'NHWC'.
        impl: 'compiled', 'ref' or None for `default_impl()`. The reference serves where height or width are not
            static and for filters of more than 32 taps along an axis (900 where not separable).

    Differentiable to any order: the gradient is the same op with the factors exchanged and the filter flipped.
    Raises `ValueError` for wrong ranks, factors below 1, and paddings that leave nothing.
    """
    _, h_axis, w_axis = arguments.layout(data_format)
    x = arguments.float_tensor(x, "x", rank=4)
    gain = arguments.finite(gain, "gain")
    spec = Resampling(
        make_taps(k, gain, flip_filter),
        up=arguments.factor_pair(up, "up"),
        down=arguments.factor_pair(down, "down"),
        pad=arguments.padding(pad),
    )
    for argument, values in (("up", spec.up), ("down", spec.down), ("pad", spec.pad)):
        small = max(map(abs, values)) < _MAX_NUMBER
        arguments.check(small, argument, repr(values), f"numbers of a size below {_MAX_NUMBER}")
    height, width = x.shape.as_list()[h_axis], x.shape.as_list()[w_axis]
    _check_output(spec, height, width)
    static = height is not None and width is not None
    if static and spec.taps.compilable and resolve_impl(impl) == "compiled":
        return upfirdn_compiled(x, spec, data_format)
    return upfirdn_reference(x, spec, data_format)


def _check_output(spec: Resampling, height: int | None, width: int | None) -> None:
    out_h, out_w = spec.output_size(height or 0, width or 0)
    kh, kw = spec.taps.full.shape
    for axis, size, out, taps in (("height", height, out_h, kh), ("width", width, out_w, kw)):
        if size is not None and out < 1:
            raise ValueError(
                f"pad: found {spec.pad} with up {spec.up}, down {spec.down} and {taps} taps, which leaves nothing of "
                f"{axis} {size}, expected an output of at least 1: pad more or shorten the filter"
            )


# ---------------------------------------------------------------- compiled


def upfirdn_compiled(x: tf.Tensor, spec: Resampling, data_format: str) -> tf.Tensor:
    """One node DnnlibUpfirdn2d. x has static height and width."""
    taps = spec.taps.flipped()
    separable = taps.y is not None and taps.x is not None
    return library.ops().dnnlib_upfirdn2d(
        x=x,
        up=spec.up,
        down=spec.down,
        pad=spec.pad,
        taps=taps.full.shape,
        filter_y=taps.y.tolist() if separable else [],
        filter_x=taps.x.tolist() if separable else [],
        filter=[] if separable else taps.full.ravel().tolist(),
        data_format=data_format,
    )


@tf.RegisterGradient("DnnlibUpfirdn2d")
def _upfirdn_gradient(op: tf.Operation, dy: tf.Tensor) -> tf.Tensor:
    kh, kw = op.get_attr("taps")
    axes = [np.array(op.get_attr(name), np.float32) for name in ("filter_y", "filter_x")]
    if axes[0].size:
        taps = Taps(full=np.outer(axes[0].astype(np.float64), axes[1]), y=axes[0], x=axes[1])
    else:
        taps = Taps(full=np.array(op.get_attr("filter")).reshape(kh, kw))
    data_format = op.get_attr("data_format").decode()
    spec = Resampling(taps.flipped(), *(tuple(op.get_attr(name)) for name in ("up", "down", "pad")))
    _, h_axis, w_axis = arguments.layout(data_format)
    shape = op.inputs[0].shape.as_list()
    if 0 in (shape[h_axis], shape[w_axis]):
        return tf.zeros_like(op.inputs[0])
    dy.set_shape(op.outputs[0].shape)
    return upfirdn_compiled(dy, spec.adjoint(shape[h_axis], shape[w_axis]), data_format)


# ---------------------------------------------------------------- reference


def upfirdn_reference(x: tf.Tensor, spec: Resampling, data_format: str) -> tf.Tensor:
    """The op in TensorFlow graph code: depthwise convolution, which knows its derivatives of any order."""
    dtype = x.dtype
    if dtype in (tf.float16, tf.bfloat16):
        x = tf.cast(x, tf.float32)
    if data_format == "NCHW":
        x = tf.transpose(x, [0, 2, 3, 1])
    x = _insert_zeros(x, spec.up)
    x = _pad_or_crop(x, spec.pad)
    taps = spec.taps
    if taps.y is not None and taps.x is not None and max(taps.full.shape) >= _SEPARABLE_TAPS:
        x = _filter(x, taps.y[:, np.newaxis], (spec.down[0], 1))
        x = _filter(x, taps.x[np.newaxis, :], (1, spec.down[1]))
    else:
        x = _filter(x, taps.full, spec.down)
    if data_format == "NCHW":
        x = tf.transpose(x, [0, 3, 1, 2])
    return tf.cast(x, dtype)


def _size(x: tf.Tensor) -> list[Any]:
    """Dimensions of a tensor: integers where known, scalar tensors elsewhere."""
    dynamic = tf.shape(x)
    return [dynamic[i] if dim is None else dim for i, dim in enumerate(x.shape.as_list())]


def _insert_zeros(x: tf.Tensor, up: tuple[int, int]) -> tf.Tensor:
    if up == (1, 1):
        return x
    n, h, w, c = _size(x)
    x = tf.reshape(x, [n, h, 1, w, 1, c])
    x = tf.pad(x, [[0, 0], [0, 0], [0, up[0] - 1], [0, 0], [0, up[1] - 1], [0, 0]])
    return tf.reshape(x, [n, h * up[0], w * up[1], c])


def _pad_or_crop(x: tf.Tensor, pad: tuple[int, int, int, int]) -> tf.Tensor:
    y0, y1, x0, x1 = pad
    if max(pad) > 0:
        x = tf.pad(x, [[0, 0], [max(y0, 0), max(y1, 0)], [max(x0, 0), max(x1, 0)], [0, 0]])
    if min(pad) < 0:
        crop = [-min(p, 0) for p in pad]
        _, h, w, _ = _size(x)
        sizes = {"height": h - crop[0] - crop[1], "width": w - crop[2] - crop[3]}
        left = [  # of sizes known now `_check_output` knows
            tf.debugging.assert_positive(size, message=f"upfirdn_2d: pad {pad} leaves nothing of the {name}")
            for name, size in sizes.items()
            if not isinstance(size, int)
        ]
        with tf.control_dependencies(left):
            x = x[:, crop[0] : h - crop[1], crop[2] : w - crop[3], :]
    return x


def _filter(x: tf.Tensor, taps: np.ndarray, down: tuple[int, int]) -> tf.Tensor:
    """VALID convolution of [N, H, W, C] with one filter for all channels, every `down`-th sample kept."""
    channels = x.shape.as_list()[3]
    kernel = tf.constant(taps[::-1, ::-1, np.newaxis, np.newaxis], dtype=x.dtype)
    # Depthwise convolution knows equal strides only.
    stride = down[0] if down[0] == down[1] else 1
    if channels is None:
        kernel = tf.tile(kernel, [1, 1, tf.shape(x)[3], 1])
    else:
        kernel = tf.constant(np.tile(taps[::-1, ::-1, np.newaxis, np.newaxis], [1, 1, channels, 1]), dtype=x.dtype)
    if x.shape.as_list()[0] == 0:
        # oneDNN's convolution with fused padding gives empty batches the size of the padded input.
        _, h, w, _ = _size(x)
        x = x[:, : (h - taps.shape[0]) // stride + 1, : (w - taps.shape[1]) // stride + 1]
    else:
        x = tf.nn.depthwise_conv2d(x, kernel, strides=[1, stride, stride, 1], padding="VALID")
    return x if stride == down[0] == down[1] else x[:, :: down[0], :: down[1], :]
