"""What follows the convolution of a modulated layer, in one pass: demodulation, noise, bias, activation, clamp."""

from __future__ import annotations

from typing import Any

from dnnlib.tflib.ops import arguments, library
from dnnlib.tflib.ops.fused_bias_act import (
    Nonlinearity,
    activate,
    bias_act_compiled,
    has_constant_slope,
    is_absent,
    make_nonlinearity,
    row_of,
)
from dnnlib.tflib.ops.impl import resolve_impl
from dnnlib.tflib.tfutil import tf

__all__ = ["modulated_epilogue"]


def modulated_epilogue(
    x: Any,
    scale: Any = None,
    noise: Any = None,
    strength: Any = None,
    b: Any = None,
    act: str = "lrelu",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    data_format: str = "NCHW",
    impl: str | None = None,
) -> tf.Tensor:
    """y = clamp(gain * act(x * scale + noise * strength + b)): a synthesis layer after its convolution.

    Args:
        x: [N, C, H, W] or [N, H, W, C], float32, float16, bfloat16 or float64.
        scale: [N, C], the demodulation coefficients, or None for 1.
        noise: [N or 1, 1, H, W] or [N or 1, H, W, 1] as the data format says, dtype of x, or None.
        strength: scalar factor of the noise; both or neither must be given.
        b: [C] or None.
        act, alpha, gain, clamp: as in `fused_bias_act`.
        data_format: 'NCHW' or 'NHWC'.
        impl: 'compiled', 'ref' or None for `default_impl()`.

    `scale`, `strength` and `b` are float32, also where x is of a half type (float64 where x is float64), and so are
    their gradients. Differentiable to any order. Raises `ValueError` for wrong ranks, sizes and dtypes.
    """
    spec = make_nonlinearity(act, alpha, gain, clamp)
    axes = arguments.layout(data_format)
    x = arguments.float_tensor(x, "x", rank=4)
    wide = arguments.wide_dtype(x.dtype)
    n, c = x.shape[0:1], x.shape[axes[0] : axes[0] + 1]
    arguments.check((noise is None) == (strength is None), "strength", f"{strength} with noise {noise}",
                    "both or neither of noise and strength")  # fmt: skip
    if scale is not None:
        scale = _operand(scale, "scale", wide, n.concatenate(c))
    if b is not None:
        b = _operand(b, "b", wide, c)
    if noise is not None:
        strength = _operand(strength, "strength", wide, tf.TensorShape([]))
        noise = arguments.as_tensor(noise, "noise", x.dtype)
        samples = _noise_samples(noise, n)
        spatial = x.shape[axes[1] : axes[2] + 1]
        one = tf.TensorShape([1])
        shape = samples.concatenate(one).concatenate(spatial)
        if data_format == "NHWC":
            shape = samples.concatenate(spatial).concatenate(one)
        noise = _operand(noise, "noise", x.dtype, shape)
    if resolve_impl(impl) == "compiled":
        return epilogue_compiled(x, scale, noise, strength, b, spec, data_format)
    return epilogue_reference(x, scale, noise, strength, b, spec, data_format)


def _noise_samples(noise: tf.Tensor, n: tf.TensorShape) -> tf.TensorShape:
    """The first dimension that the noise should have: 1 where it has it, that of the images otherwise."""
    return noise.shape[:1] if noise.shape.rank and noise.shape[:1].as_list() in ([1], [None]) else n


def _operand(value: Any, argument: str, dtype: tf.DType, shape: tf.TensorShape) -> tf.Tensor:
    """A tensor of a dtype and a shape."""
    value = arguments.as_tensor(value, argument, dtype)
    arguments.check(value.dtype == dtype, argument, f"dtype {value.dtype.name}", dtype.name)
    arguments.check(value.shape.rank is not None, argument, "no rank", f"a statically known rank, for shape {shape}")
    arguments.check(value.shape.is_compatible_with(shape), argument, f"shape {value.shape}", f"shape {shape}")
    return value


# ---------------------------------------------------------------- compiled


def epilogue_compiled(
    x: tf.Tensor, scale: tf.Tensor | None, noise: tf.Tensor | None, strength: tf.Tensor | None,
    b: tf.Tensor | None, spec: Nonlinearity, data_format: str,
) -> tf.Tensor:  # fmt: skip
    """One node DnnlibEpilogue; two where derivatives of the activation need its input. Float32 where half types would
    tell too little of the slope."""
    if spec.needs_wide_output(x.dtype):
        wide_x, wide_noise = tf.cast(x, tf.float32), None if noise is None else tf.cast(noise, tf.float32)
        y = epilogue_compiled(wide_x, scale, wide_noise, strength, b, spec, data_format)
        return tf.cast(y, x.dtype)
    if spec.needs_input:
        linear = make_nonlinearity("linear", None, None, None)
        x = epilogue_compiled(x, scale, noise, strength, b, linear, data_format)
        return bias_act_compiled(x, None, spec, axis=1)
    wide = arguments.wide_dtype(x.dtype)
    return library.ops().dnnlib_epilogue(
        x=x,
        scale=tf.zeros([0], wide) if scale is None else scale,
        noise=tf.zeros([0], x.dtype) if noise is None else noise,
        strength=tf.zeros([0], wide) if strength is None else strength,
        b=tf.zeros([0], wide) if b is None else b,
        has_bias=b is not None,
        data_format=data_format,
        **spec.attributes(x.dtype),
    )


@tf.RegisterGradient("DnnlibEpilogue")
def _epilogue_gradient(op: tf.Operation, dy: tf.Tensor) -> list[tf.Tensor | None]:
    x, scale, noise, strength, b = op.inputs
    attributes = {name: op.get_attr(name) for name in ("data_format", "act", "alpha", "gain", "clamp")}
    y = tf.zeros([0], x.dtype) if has_constant_slope(op) else op.outputs[0]
    dx, d_scale, d_strength, db = library.ops().dnnlib_epilogue_grad(
        dy=dy, y=y, x=x, scale=scale, noise=noise, strength=strength, **attributes
    )
    # Random noise needs no gradient, and then these nodes do not run.
    d_noise = None if is_absent(noise) else _to_noise(_times_slope(op, dy, y), noise, strength, _axis(op))
    return [dx, d_scale, d_noise, d_strength, None if is_absent(b) else db]


def _axis(op: tf.Operation) -> int:
    """The axis of the channels."""
    return arguments.layout(op.get_attr("data_format").decode())[0]


def _times_slope(op: tf.Operation, dy: tf.Tensor, y: tf.Tensor, order: int = 0) -> tf.Tensor:
    """dy times the slope of the activation (a derivative of it for orders above 0), taken from the output y."""
    none = tf.zeros([0], dy.dtype)
    attributes = {name: op.get_attr(name) for name in ("act", "alpha", "gain", "clamp")}
    return library.ops().dnnlib_bias_act_grad(
        dy=dy, ref=y, b=none, dyb=none, axis=_axis(op), order=order, from_input=False, has_bias=False, **attributes
    )[0]


def _to_noise(dz: tf.Tensor, noise: tf.Tensor, strength: tf.Tensor, axis: int) -> tf.Tensor:
    """Gradient of noise * strength with respect to the noise, of one sample or of all."""
    total = tf.reduce_sum(tf.cast(dz, strength.dtype), axis, keepdims=True) * strength
    samples = noise.shape.as_list()[0]
    if samples == 1:
        total = tf.reduce_sum(total, 0, keepdims=True)
    elif samples is None:  # 1 or N, as is known when it runs
        samples = tf.shape(noise)[0]
        shape = [tf.shape(total)[0] // tf.maximum(samples, 1), samples]
        total = tf.reduce_sum(tf.reshape(total, tf.concat([shape, tf.shape(total)[1:]], 0)), 0)
    return tf.cast(total, noise.dtype)


@tf.RegisterGradient("DnnlibEpilogueGrad")
def _epilogue_grad_gradient(op: tf.Operation, *upstream: tf.Tensor) -> list[tf.Tensor | None]:
    """With z = x * scale + noise * strength + b and dz = dy * S(y), the four outputs are the products of dz with what
    multiplies each operand in z. Their weighted sum is <dz, v>, v the same expression with upstream gradients in it,
    so that what comes out here is made of the same two ops, linear this time.
    """
    dy, y, x, scale, noise, strength = op.inputs
    ddx, dd_scale, dd_strength, ddb = upstream
    linear = {
        "data_format": op.get_attr("data_format"),
        **make_nonlinearity("linear", None, None, None).attributes(x.dtype),
    }
    none, absent = tf.zeros([0], x.dtype), tf.zeros([0], scale.dtype)
    forward, backward = library.ops().dnnlib_epilogue, library.ops().dnnlib_epilogue_grad

    v = forward(x=ddx, scale=scale, noise=noise, strength=dd_strength, b=ddb, has_bias=True, **linear)
    dz = _times_slope(op, dy, y)
    d_x = d_scale = d_noise = d_strength = None
    if not is_absent(scale):
        v += forward(x=x, scale=dd_scale, noise=none, strength=absent, b=absent, has_bias=False, **linear)
        d_x, d_scale, _, _ = backward(dy=dz, y=none, x=ddx, scale=dd_scale, noise=none, strength=absent, **linear)
    if not is_absent(noise):
        d_noise = _to_noise(dz, noise, dd_strength, _axis(op))
        d_strength = tf.zeros_like(strength)
    d_y = None
    if not row_of(op.get_attr("act")).piecewise_linear:
        d_y = _times_slope(op, dy * v, y, order=1)
    return [_times_slope(op, v, y), d_y, d_x, d_scale, d_noise, d_strength]


# ---------------------------------------------------------------- reference


def epilogue_reference(
    x: tf.Tensor, scale: tf.Tensor | None, noise: tf.Tensor | None, strength: tf.Tensor | None,
    b: tf.Tensor | None, spec: Nonlinearity, data_format: str,
) -> tf.Tensor:  # fmt: skip
    """The op in TensorFlow graph code, differentiable to any order."""
    dtype = x.dtype
    if dtype in (tf.float16, tf.bfloat16):
        x = tf.cast(x, tf.float32)
    nchw = data_format == "NCHW"
    if scale is not None:
        x *= scale[:, :, tf.newaxis, tf.newaxis] if nchw else scale[:, tf.newaxis, tf.newaxis, :]
    if noise is not None:
        x += tf.cast(noise, x.dtype) * strength
    if b is not None:
        x += tf.reshape(b, [1, -1, 1, 1] if nchw else [1, 1, 1, -1])
    return tf.cast(activate(x, spec), dtype)
