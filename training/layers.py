"""Layers of the networks: equalised learning rate, dense, convolution, modulated convolution, minibatch stddev.

Activations are 4-D in one layout throughout a network (`Layout`): NCHW where cuDNN wants it, NHWC where oneDNN does.
Variables always have the published names and shapes (weights HWIO, dense weights [in, out]).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dnnlib.tflib import tfutil
from dnnlib.tflib.ops import (
    ACTIVATIONS,
    conv_2d,
    conv_downsample_2d,
    demodulation,
    fused_bias_act,
    modulate_weights,
    modulated_epilogue,
    upsample_conv_2d,
)
from dnnlib.tflib.rng import normal_initializer
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError

# The smallest maximum of weights and styles that is scaled up for float16: that of zeros has no inverse.
_TINY = np.float32(1e-8)
# Residual branches are summed at this weight, so that the sum keeps their variance (paper section 4.1).
RESIDUAL_SCALE = float(np.sqrt(0.5))


@dataclass(frozen=True)
class Layout:
    """Memory layout of activations inside a network."""

    data_format: str = "NCHW"

    @staticmethod
    def choose(data_format: str | None) -> Layout:
        """`None` takes what suits the device; anything but NCHW and NHWC is a `ValueError`."""
        data_format = tfutil.data_format() if data_format is None else data_format
        if data_format not in ("NCHW", "NHWC"):
            raise ValueError(f"data_format: expected 'NCHW' or 'NHWC', found {data_format!r}")
        return Layout(data_format)

    @property
    def channel_axis(self) -> int:
        """Axis of the feature maps."""
        return 1 if self.data_format == "NCHW" else 3

    def from_nchw(self, x: tf.Tensor) -> tf.Tensor:
        """[N, C, H, W] to this layout."""
        return x if self.data_format == "NCHW" else tf.transpose(x, [0, 2, 3, 1])

    def to_nchw(self, x: tf.Tensor) -> tf.Tensor:
        """This layout to [N, C, H, W]."""
        return x if self.data_format == "NCHW" else tf.transpose(x, [0, 3, 1, 2])

    def channels(self, x: tf.Tensor) -> int:
        """Static number of feature maps of an activation."""
        return int(x.shape[self.channel_axis])

    def per_channel(self, v: tf.Tensor) -> tf.Tensor:
        """[N, C] so that it broadcasts over an activation."""
        return v[:, :, None, None] if self.data_format == "NCHW" else v[:, None, None, :]

    def noise(self, v: tf.Tensor) -> tf.Tensor:
        """[N, 1, H, W] noise in this layout; with one channel no data moves."""
        if self.data_format == "NCHW":
            return v
        return tf.reshape(v, [-1, *[int(d) for d in v.shape[2:]], 1])


def equalized_weight(
    shape: Sequence[int], lrmul: float = 1.0, name: str = "weight", dtype: tf.DType = tf.float32
) -> tuple[tf.Tensor, float]:
    """Weight with equalised learning rate (paper appendix B): stored N(0, 1/lrmul^2), scaled at run time.

    Returns the stored weight and the factor lrmul / sqrt(fan_in), fan_in being the product of all dimensions but the
    last. Callers apply it where it costs least: to a style, a filter, the bias and gain of an activation.
    """
    init = normal_initializer(1.0 / lrmul)
    w = tf.get_variable(name, shape=list(shape), initializer=init, use_resource=True)
    return tf.cast(w, dtype), float(lrmul / np.sqrt(np.prod(shape[:-1])))


def scaled_bias(fmaps: int, lrmul: float = 1.0, name: str = "bias", dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Bias [fmaps], stored from 0, scaled by `lrmul` at run time."""
    b = tf.get_variable(name, shape=[fmaps], initializer=tf.initializers.zeros(), use_resource=True)
    return tf.cast(b * np.float32(lrmul) if lrmul != 1 else b, dtype)


def fully_connected(x: tf.Tensor, fmaps: int, name: str = "weight") -> tf.Tensor:
    """Fully connected layer without bias: [N, in] -> [N, fmaps]."""
    w, factor = equalized_weight([int(x.shape[1]), fmaps], name=name, dtype=x.dtype)
    return tf.matmul(x, w) * factor


def dense_act(x: tf.Tensor, fmaps: int, act: str = "linear", lrmul: float = 1.0) -> tf.Tensor:
    """Fully connected layer with bias and activation: [N, ...] flattened to [N, in] -> [N, fmaps]."""
    if x.shape.rank > 2:
        x = tf.reshape(x, [-1, int(np.prod([int(d) for d in x.shape[1:]]))])
    w, factor = equalized_weight([int(x.shape[1]), fmaps], lrmul, dtype=x.dtype)
    return _bias_act(tf.matmul(x, w), act, lrmul, factor=factor)


def _bias_act(
    x: tf.Tensor,
    act: str,
    lrmul: float = 1.0,
    clamp: float | None = None,
    axis: int = 1,
    scale: float = 1.0,
    factor: float = 1.0,
) -> tf.Tensor:
    """clamp(gain * act(x * factor + b)) * scale with a learned bias and the activation's standard gain.

    Factors cost nothing: they become part of the bias, the gain and the clamp. Where the activation is positively
    homogeneous, act(f x + b) = f act(x + b / f).
    """
    gain, b = ACTIVATIONS[act].gain * scale, scaled_bias(int(x.shape[axis]), lrmul)
    if ACTIVATIONS[act].piecewise_linear:
        b, gain = b * np.float32(1 / factor), gain * factor
    else:
        x = x * np.array(factor, x.dtype.as_numpy_dtype)
    clamp = None if clamp is None else clamp * scale
    return fused_bias_act(x, tf.cast(b, x.dtype), act=act, gain=gain, clamp=clamp, axis=axis)


def normalize_2nd_moment(x: tf.Tensor, axis: int = 1, eps: float = 1e-8) -> tf.Tensor:
    """x / sqrt(mean(x^2) + eps) over `axis`."""
    return x * tf.math.rsqrt(tf.reduce_mean(tf.square(x), axis=axis, keepdims=True) + eps)


def _conv(
    x: tf.Tensor, w: tf.Tensor, up: bool, down: bool, kernel_1d: Sequence[float] | None, df: str, gain: float = 1.0
) -> tf.Tensor:
    if up:
        return upsample_conv_2d(x, w, k=kernel_1d, gain=gain, data_format=df)
    if down:
        return conv_downsample_2d(x, w, k=kernel_1d, gain=gain, data_format=df)
    return conv_2d(x, w if gain == 1 else w * np.array(gain, w.dtype.as_numpy_dtype), data_format=df)


def convolution(
    x: tf.Tensor,
    fmaps: int,
    kernel: int,
    layout: Layout,
    up: bool = False,
    down: bool = False,
    resample_kernel: Sequence[float] | None = None,
    gain: float = 1.0,
) -> tf.Tensor:
    """Convolution without bias, optionally with filtered 2x up- or downsampling (spec: padding happens once)."""
    w, factor = equalized_weight([kernel, kernel, layout.channels(x), fmaps], dtype=x.dtype)
    return _conv(x, w, up, down, resample_kernel, layout.data_format, gain * factor)


def convolution_act(
    x: tf.Tensor,
    fmaps: int,
    kernel: int,
    layout: Layout,
    act: str,
    clamp: float | None = None,
    scale: float = 1.0,
    down: bool = False,
    resample_kernel: Sequence[float] | None = None,
) -> tf.Tensor:
    """Convolution, optionally with filtered downsampling, then bias, activation with its gain, clamp; times `scale`."""
    w, factor = equalized_weight([kernel, kernel, layout.channels(x), fmaps], dtype=x.dtype)
    # float16 would overflow without the factor; filters take it for nothing.
    early = down or x.dtype == tf.float16
    x = _conv(x, w, False, down, resample_kernel, layout.data_format, factor if early else 1.0)
    return _bias_act(x, act, clamp=clamp, axis=layout.channel_axis, scale=scale, factor=1.0 if early else factor)


def modulated_convolution(
    x: tf.Tensor,
    style: tf.Tensor,
    fmaps: int,
    kernel: int,
    layout: Layout,
    up: bool = False,
    demodulate: bool = True,
    resample_kernel: Sequence[float] | None = None,
    fused_modconv: bool = False,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Convolution whose weights are modulated by a style and demodulated (paper section 2.2, equations 1 and 3).

    x: activation in `layout`; style: w of this layer [N, dlatent_size], mapped by an affine layer whose bias counts
    from 1. `fused_modconv` convolves every sample with its own weights as one grouped convolution; otherwise the
    same numbers come from scaling inputs and outputs around one shared convolution (linear in both). Returns the
    result and the factors [N, fmaps] float32 that it is still to be multiplied by (None: it is complete), so that
    demodulation, noise, bias and activation can share one pass over memory.
    """
    fan_in_maps = layout.channels(x)
    w, factor = equalized_weight([kernel, kernel, fan_in_maps, fmaps])
    s = fully_connected(style, fan_in_maps, name="mod_weight")
    s = (s + (scaled_bias(fan_in_maps, name="mod_bias") + 1)) * factor  # [N, in]

    if fused_modconv:
        return _grouped(x, w, s, demodulate, up, resample_kernel, layout), None

    d = None
    if demodulate:
        d = demodulation(w, s)  # [N, out]
        if x.dtype == tf.float16:
            # Keep products inside float16's range; demodulation cancels both scales (spec 2.8).
            w_max = tf.maximum(tf.reduce_max(tf.abs(w), axis=[0, 1, 2]), _TINY)
            w_scale = np.float32(1 / np.sqrt(kernel * kernel * fan_in_maps)) / w_max
            s_scale = 1 / tf.maximum(tf.reduce_max(tf.abs(s), axis=1, keepdims=True), _TINY)
            w, s, d = w * w_scale, s * s_scale, d / (w_scale * s_scale)
    x = modulated_epilogue(x, s, act="linear", data_format=layout.data_format)  # x * s, gradients in one pass
    return _conv(x, tf.cast(w, x.dtype), up, False, resample_kernel, layout.data_format), d


def _grouped(
    x: tf.Tensor,
    w: tf.Tensor,
    s: tf.Tensor,
    demodulate: bool,
    up: bool,
    resample_kernel: Sequence[float] | None,
    layout: Layout,
) -> tf.Tensor:
    """One sample with N groups instead of N samples (paper appendix B, weight demodulation)."""
    n = tf.shape(x)[0]
    ww = tf.cast(modulate_weights(w, s, demodulate=demodulate, layout="grouped"), x.dtype)  # [kh, kw, in, N * out]
    fan_in, fan_out = (int(d) for d in w.shape[2:])
    x = layout.to_nchw(x)
    height, width = int(x.shape[2]), int(x.shape[3])
    x = tf.reshape(x, [1, n * fan_in, height, width])
    if up:
        y = upsample_conv_2d(x, ww, k=resample_kernel, data_format="NCHW")
        height, width = height * 2, width * 2
    else:
        y = conv_2d(x, ww, data_format="NCHW")
    y = tf.reshape(y, [n, fan_out, height, width])
    return layout.from_nchw(y)


def _check_groups(x: tf.Tensor, group_size: int | None) -> tf.Tensor:
    """x, whose samples can be split into groups: `UserError` if that is known not to be so, else x fails when it is."""
    if group_size is None or group_size == 1:
        return x
    n = x.shape.as_list()[0]
    text = f"minibatch stddev: expected a multiple of mbstd_group_size={group_size} samples, or fewer, at a time, found"
    if n is not None:
        if n > group_size and n % group_size:
            raise UserError(f"{text} {n}")
        return x
    n = tf.shape(x)[0]
    fits = tf.logical_or(n <= group_size, tf.equal(n % group_size, 0))
    with tf.control_dependencies([tf.raw_ops.Assert(condition=fits, data=[text, n])]):
        return tf.identity(x)


def append_minibatch_stddev(x: tf.Tensor, layout: Layout, group_size: int | None = 4, num_new: int = 1) -> tf.Tensor:
    """Append `num_new` feature maps holding the standard deviation over groups of samples (spec 2.10).

    Groups have min(group_size, N) samples (None: the whole minibatch), N divisible by that; sample n belongs to set
    n mod (N / group). Statistics are taken in float32.
    """
    x = _check_groups(x, group_size)
    n = tf.shape(x)[0]
    group = n if group_size is None else tf.minimum(group_size, n)
    height, width = (int(d) for d in (x.shape[2:] if layout.channel_axis == 1 else x.shape[1:3]))
    maps = layout.channels(x)
    if maps % num_new:
        raise UserError(f"minibatch stddev: {maps} feature maps cannot be split into {num_new} (D.mbstd_num_features)")
    per_new = maps // num_new
    if layout.data_format == "NCHW":
        split, keep = [group, -1, num_new, per_new, height, width], [2, 3, 4]
    else:
        split, keep = [group, -1, height, width, num_new, per_new], [1, 2, 4]
    y = tf.cast(tf.reshape(x, split), tf.float32)
    y = y - tf.reduce_mean(y, axis=0, keepdims=True)
    y = tf.sqrt(tf.reduce_mean(tf.square(y), axis=0) + 1e-8)  # [M, ...]
    y = tf.cast(tf.reduce_mean(y, axis=keep), x.dtype)  # [M, num_new]
    y = tf.tile(y, [group, 1])  # [N, num_new]
    y = layout.per_channel(y)
    reps = [1, 1, height, width] if layout.data_format == "NCHW" else [1, height, width, 1]
    return tf.concat([x, tf.tile(y, reps)], axis=layout.channel_axis)
