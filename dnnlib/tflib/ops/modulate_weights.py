"""Weight modulation and demodulation of StyleGAN2 (equations 1 and 3 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dnnlib.tflib.ops import arguments, library
from dnnlib.tflib.ops.demodulation import demodulation_gradients
from dnnlib.tflib.ops.impl import resolve_impl
from dnnlib.tflib.tfutil import num_gpus, tf

__all__ = ["modulate_weights"]

LAYOUTS = ("per_sample", "grouped")


def modulate_weights(
    w: Any, s: Any, demodulate: bool = True, eps: float = 1e-8, layout: str = "per_sample", impl: str | None = None
) -> tf.Tensor:
    """Scale convolution weights by the styles of each sample, and normalise every output map.

    w' = w * s[n, in] (equation 1); w'' = w' / sqrt(sum over kh, kw, in of w'^2 + eps) (equation 3).

    Args:
        w: [kh, kw, in, out], float32, float16, bfloat16 or float64. Sums are taken in float32 or better.
        s: [N, in], same dtype.
        demodulate: apply equation 3.
        eps: keeps the root away from zero.
        layout: 'per_sample' gives [N, kh, kw, in, out], 'grouped' [kh, kw, in, N * out] (sample-major, as a
            grouped convolution over x [1, N * in, H, W] takes it).
        impl: 'compiled', 'ref' or None for `default_impl()`.

    Differentiable to any order. Raises `ValueError` for wrong ranks, sizes and dtypes.
    """
    arguments.check(layout in LAYOUTS, "layout", repr(layout), "'per_sample' or 'grouped'")
    arguments.check(isinstance(demodulate, (bool, np.bool_)), "demodulate", repr(demodulate), "True or False")
    w, s, eps = arguments.weights_and_styles(w, s, eps)
    if resolve_impl(impl) == "compiled":
        return modulate_compiled(w, s, demodulate, eps, layout)
    return modulate_reference(w, s, demodulate, eps, layout)


# ---------------------------------------------------------------- compiled
#
# The product y = w * s * d of weights, styles and demodulation is linear in each of its factors, and so are its
# gradients: DnnlibScaleWeights and DnnlibScaleWeightsGrad differentiate into one another for ever, and so do those of
# d(w, s) (demodulation.py). On a CPU the first gradient is one node, DnnlibModulateWeightsGrad.


def modulate_compiled(w: tf.Tensor, s: tf.Tensor, demodulate: bool, eps: float, layout: str) -> tf.Tensor:
    """One node: DnnlibModulateWeights, or DnnlibScaleWeights without demodulation."""
    grouped = layout == "grouped"
    wide = arguments.wide_dtype(w.dtype)
    if demodulate:
        return library.ops().dnnlib_modulate_weights(w=w, s=s, W=wide, eps=repr(eps), grouped=grouped)[0]
    return library.ops().dnnlib_scale_weights(w=w, s=s, d=tf.zeros([0], wide), grouped=grouped)


@tf.RegisterGradient("DnnlibModulateWeights")
def _modulate_gradient(op: tf.Operation, dy: tf.Tensor, dd: tf.Tensor) -> Sequence[tf.Tensor]:
    w, s = op.inputs
    operands, grouped = [dy, dd, w, s, op.outputs[1]], op.get_attr("grouped")
    if num_gpus():
        return _modulate_gradient_of_parts(*operands, grouped=grouped)
    return library.ops().dnnlib_modulate_weights_grad(*operands, grouped=grouped)


@tf.RegisterGradient("DnnlibModulateWeightsGrad")
def _modulate_grad_gradient(op: tf.Operation, ddw: tf.Tensor, dds: tf.Tensor) -> list[tf.Tensor | None]:
    """That of the same numbers made of ops that differentiate into one another."""
    # Tensors of their own: d is one of the operands here, not a function of w and s.
    operands = [tf.identity(t) for t in op.inputs]
    gradients = _modulate_gradient_of_parts(*operands, grouped=op.get_attr("grouped"))
    return tf.gradients(gradients, operands, [ddw, dds])


def _modulate_gradient_of_parts(
    dy: tf.Tensor, dd: tf.Tensor, w: tf.Tensor, s: tf.Tensor, d: tf.Tensor, grouped: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients with respect to w and s of y = w * s * d and d(w, s), given those of y and d."""
    dw, ds, dd_product = library.ops().dnnlib_scale_weights_grad(dy=dy, w=w, s=s, d=d, grouped=grouped)
    dw_q, ds_q = demodulation_gradients(dd + dd_product, w, s, d)
    return dw + dw_q, ds + ds_q


@tf.RegisterGradient("DnnlibScaleWeights")
def _scale_gradient(op: tf.Operation, dy: tf.Tensor) -> Any:
    w, s, d = op.inputs
    return library.ops().dnnlib_scale_weights_grad(dy=dy, w=w, s=s, d=d, grouped=op.get_attr("grouped"))


@tf.RegisterGradient("DnnlibScaleWeightsGrad")
def _scale_grad_gradient(op: tf.Operation, ddw: tf.Tensor, dds: tf.Tensor, ddd: tf.Tensor) -> list[tf.Tensor]:
    """Of L = <ddw, dw> + <dds, ds> + <ddd, dd>, which is the sum of <dy, w * s * d> with one factor replaced each."""
    dy, w, s, d = op.inputs
    grouped = op.get_attr("grouped")
    product, gradient = library.ops().dnnlib_scale_weights, library.ops().dnnlib_scale_weights_grad
    terms = [(ddw, s, d), (w, dds, d)]
    if d.shape.as_list() != [0]:
        terms.append((w, s, ddd))
    d_dy = tf.add_n([product(w=a, s=b, d=c, grouped=grouped) for a, b, c in terms])
    # Row: the replaced factor; its own derivative does not belong to the gradient.
    grads = [list(gradient(dy=dy, w=a, s=b, d=c, grouped=grouped)) for a, b, c in terms]
    sums = [tf.add_n([g[i] for row, g in enumerate(grads) if row != i]) for i in range(3)]
    return [d_dy, *sums]


# ---------------------------------------------------------------- reference


def modulate_reference(w: tf.Tensor, s: tf.Tensor, demodulate: bool, eps: float, layout: str) -> tf.Tensor:
    """The op in TensorFlow graph code, differentiable to any order."""
    dtype = w.dtype
    if dtype in (tf.float16, tf.bfloat16):
        w, s = tf.cast(w, tf.float32), tf.cast(s, tf.float32)
    y = w[tf.newaxis] * s[:, tf.newaxis, tf.newaxis, :, tf.newaxis]
    if demodulate:
        y *= tf.rsqrt(tf.reduce_sum(tf.square(y), axis=[1, 2, 3], keepdims=True) + tf.constant(eps, y.dtype))
    if layout == "grouped":
        kh, kw, cin, cout = w.shape.as_list()
        n = s.shape.as_list()[0]
        dynamic = tf.shape(y)
        y = tf.transpose(y, [1, 2, 3, 0, 4])
        dims = [kh, kw, cin, n * cout if n is not None and cout is not None else dynamic[0] * dynamic[4]]
        y = tf.reshape(y, [dynamic[i + 1] if d is None else d for i, d in enumerate(dims)])
    return tf.cast(y, dtype)
