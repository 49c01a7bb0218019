"""Demodulation factors of StyleGAN2 (equation 3 of the paper), for activations that are modulated and not weights."""

from __future__ import annotations

from typing import Any

from dnnlib.tflib.ops import arguments, library
from dnnlib.tflib.ops.impl import resolve_impl
from dnnlib.tflib.tfutil import num_gpus, tf

__all__ = ["demodulation"]


def demodulation(w: Any, s: Any, eps: float = 1e-8, impl: str | None = None) -> tf.Tensor:
    """d[n, out] = 1 / sqrt(sum over kh, kw, in of (w * s)^2 + eps).

    Args:
        w: [kh, kw, in, out], float32, float16, bfloat16 or float64.
        s: [N, in], same dtype.
        eps: keeps the root away from zero.
        impl: 'compiled', 'ref' or None for `default_impl()`. GPUs have the reference only: these are small tensors.

    Returns [N, out], float32 (float64 for float64). Differentiable to any order. Raises `ValueError` for wrong ranks,
    sizes and dtypes.
    """
    w, s, eps = arguments.weights_and_styles(w, s, eps)
    if resolve_impl(impl) == "compiled" and not num_gpus():
        return library.ops().dnnlib_demodulation(w=w, s=s, W=arguments.wide_dtype(w.dtype), eps=repr(eps))
    return demodulation_reference(w, s, eps)


@tf.RegisterGradient("DnnlibDemodulation")
def _demodulation_gradient(op: tf.Operation, dd: tf.Tensor) -> Any:
    return library.ops().dnnlib_demodulation_grad(dd, *op.inputs, op.outputs[0])


@tf.RegisterGradient("DnnlibDemodulationGrad")
def _demodulation_grad_gradient(op: tf.Operation, ddw: tf.Tensor, dds: tf.Tensor) -> list[tf.Tensor | None]:
    """That of the same numbers in graph code."""
    # Tensors of their own: d is one of the operands here, not a function of w and s.
    operands = [tf.identity(t) for t in op.inputs]
    return tf.gradients(demodulation_gradients(*operands), operands, [ddw, dds])


def demodulation_gradients(dd: tf.Tensor, w: tf.Tensor, s: tf.Tensor, d: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of d with respect to w and s in graph code.

    d = q^(-1/2) with q[n, o] = sum over i of s[n, i]^2 * (sum over taps of w^2)[i, o] + eps.
    """
    wide_w, wide_s = tf.cast(w, d.dtype), tf.cast(s, d.dtype)
    twice_dq = -tf.pow(d, 3) * dd
    squares = tf.reduce_sum(tf.square(wide_w), axis=[0, 1])
    dw = wide_w * tf.matmul(tf.square(wide_s), twice_dq, transpose_a=True)
    ds = wide_s * tf.matmul(twice_dq, squares, transpose_b=True)
    return tf.cast(dw, w.dtype), tf.cast(ds, s.dtype)


def demodulation_reference(w: tf.Tensor, s: tf.Tensor, eps: float) -> tf.Tensor:
    """The op in TensorFlow graph code: linear in s^2, one small matrix product."""
    if w.dtype in (tf.float16, tf.bfloat16):
        w, s = tf.cast(w, tf.float32), tf.cast(s, tf.float32)
    energy = tf.matmul(tf.square(s), tf.reduce_sum(tf.square(w), axis=[0, 1]))
    return tf.math.rsqrt(energy + tf.constant(eps, energy.dtype))
