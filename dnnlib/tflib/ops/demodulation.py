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
        impl: 'compiled', 'ref' or None for `default_impl()`.

    Returns [N, out], float32 (float64 for float64). Differentiable to any order. Raises `ValueError` for wrong ranks,
    sizes and dtypes.
    """
    w, s, eps = arguments.weights_and_styles(w, s, eps)
    if resolve_impl(impl) == "compiled":
        return library.ops().dnnlib_demodulation(w=w, s=s, W=arguments.wide_dtype(w.dtype), eps=repr(eps))
    return demodulation_reference(w, s, eps)


@tf.RegisterGradient("DnnlibDemodulation")
def _demodulation_gradient(op: tf.Operation, dd: tf.Tensor) -> Any:
    w, s = op.inputs
    if num_gpus():
        return demodulation_gradients(dd, w, s, op.outputs[0])
    return library.ops().dnnlib_demodulation_grad(dd, w, s, op.outputs[0])


@tf.RegisterGradient("DnnlibDemodulationGrad")
def _demodulation_grad_gradient(op: tf.Operation, ddw: tf.Tensor, dds: tf.Tensor) -> list[tf.Tensor | None]:
    """That of the same numbers made of ops that differentiate into one another."""
    # Tensors of their own: d is one of the operands here, not a function of w and s.
    operands = [tf.identity(t) for t in op.inputs]
    return tf.gradients(demodulation_gradients(*operands), operands, [ddw, dds])


def demodulation_gradients(dd: tf.Tensor, w: tf.Tensor, s: tf.Tensor, d: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of d = q^(-1/2), q[n, o] = sum over kh, kw, in of (w * s)^2 + eps, with respect to w and s."""
    twice_dq = -(d * d * d * dd)
    return (
        library.ops().dnnlib_energy_weights(g=twice_dq, w=w, s1=s, s2=s),
        library.ops().dnnlib_energy_styles(g=twice_dq, w1=w, w2=w, s=s),
    )


# The form sum over n, kh, kw, in, out of g[n, o] * w1 * w2 * s1 * s2 is linear in each factor, and its gradients with
# respect to them (e = DnnlibEnergy, dw = DnnlibEnergyWeights, ds = DnnlibEnergyStyles) are such forms again, with one
# factor replaced: these ops differentiate into one another for ever.


def _halves(gradient: Any, g: tf.Tensor, first: tf.Tensor, second: tf.Tensor) -> list[tf.Tensor | None]:
    """Gradients with respect to two factors: gradient(g, the other one). Of the square of one they are one of 2 g."""
    if first.ref() == second.ref():
        return [gradient(g + g, first), None]
    return [gradient(g, second), gradient(g, first)]


@tf.RegisterGradient("DnnlibEnergy")
def _energy_gradient(op: tf.Operation, g: tf.Tensor) -> list[tf.Tensor | None]:
    w1, w2, s1, s2 = op.inputs
    lib = library.ops()
    of_weights = _halves(lambda g, w: lib.dnnlib_energy_weights(g=g, w=w, s1=s1, s2=s2), g, w1, w2)
    return of_weights + _halves(lambda g, s: lib.dnnlib_energy_styles(g=g, w1=w1, w2=w2, s=s), g, s1, s2)


@tf.RegisterGradient("DnnlibEnergyWeights")
def _energy_weights_gradient(op: tf.Operation, v: tf.Tensor) -> list[tf.Tensor | None]:
    g, w, s1, s2 = op.inputs
    lib = library.ops()
    of_sums = lib.dnnlib_energy(w1=v, w2=w, s1=s1, s2=s2, W=g.dtype)
    of_weights = lib.dnnlib_energy_weights(g=g, w=v, s1=s1, s2=s2)
    of_styles = _halves(lambda g, s: lib.dnnlib_energy_styles(g=g, w1=v, w2=w, s=s), g, s1, s2)
    return [of_sums, of_weights, *of_styles]


@tf.RegisterGradient("DnnlibEnergyStyles")
def _energy_styles_gradient(op: tf.Operation, v: tf.Tensor) -> list[tf.Tensor | None]:
    g, w1, w2, s = op.inputs
    lib = library.ops()
    of_sums = lib.dnnlib_energy(w1=w1, w2=w2, s1=v, s2=s, W=g.dtype)
    of_weights = _halves(lambda g, w: lib.dnnlib_energy_weights(g=g, w=w, s1=v, s2=s), g, w1, w2)
    return [of_sums, *of_weights, lib.dnnlib_energy_styles(g=g, w1=w1, w2=w2, s=v)]


def demodulation_reference(w: tf.Tensor, s: tf.Tensor, eps: float) -> tf.Tensor:
    """The op in TensorFlow graph code: linear in s^2, one small matrix product."""
    if w.dtype in (tf.float16, tf.bfloat16):
        w, s = tf.cast(w, tf.float32), tf.cast(s, tf.float32)
    energy = tf.matmul(tf.square(s), tf.reduce_sum(tf.square(w), axis=[0, 1]))
    return tf.math.rsqrt(energy + tf.constant(eps, energy.dtype))
