"""Bias, activation, gain and clamp of a tensor in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from dnnlib.tflib.ops import arguments, library
from dnnlib.tflib.ops.impl import resolve_impl
from dnnlib.tflib.tfutil import tf

__all__ = ["ACTIVATIONS", "Activation", "fused_bias_act"]


@dataclass(frozen=True)
class Activation:
    """One row of the table: `index` is its number in the kernels, `gain` keeps the variance of a unit Gaussian."""

    index: int
    gain: float
    alpha: float
    reference: Callable[[tf.Tensor, float], tf.Tensor]
    piecewise_linear: bool = False  # its second derivative is zero
    from_input: bool = False  # derivatives need x + b, not the output


def _lrelu(x: tf.Tensor, alpha: float) -> tf.Tensor:
    return tf.where(x > 0, x, x * tf.constant(alpha, x.dtype))


def _selu(x: tf.Tensor) -> tf.Tensor:
    """TensorFlow's own has constants of float32 on GPUs, for float64, too."""
    if x.dtype != tf.float64:
        return tf.nn.selu(x)
    y = tf.nn.elu(x)
    return 1.0507009873554805 * tf.where(x >= 0, y, 1.6732632423543772 * y)


_SQRT2 = math.sqrt(2)
_MAX_ORDER = 12  # of derivatives of the slope in the kernels
ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "linear": Activation(1, 1.0, 0.0, lambda x, _: tf.identity(x), piecewise_linear=True),
        "relu": Activation(2, _SQRT2, 0.0, lambda x, _: tf.nn.relu(x), piecewise_linear=True),
        "lrelu": Activation(3, _SQRT2, 0.2, _lrelu, piecewise_linear=True),
        "tanh": Activation(4, 1.0, 0.0, lambda x, _: tf.tanh(x)),
        "sigmoid": Activation(5, 1.0, 0.0, lambda x, _: tf.sigmoid(x)),
        "elu": Activation(6, 1.0, 0.0, lambda x, _: tf.nn.elu(x)),
        "selu": Activation(7, 1.0, 0.0, lambda x, _: _selu(x)),
        "softplus": Activation(8, 1.0, 0.0, lambda x, _: tf.nn.softplus(x)),
        "swish": Activation(9, _SQRT2, 0.0, lambda x, _: x * tf.sigmoid(x), from_input=True),
    }
)


def row_of(index: int) -> Activation:
    """The row of the table with this number."""
    return next(row for row in ACTIVATIONS.values() if row.index == index)


def needs_input(row: Activation, alpha: float) -> bool:
    """Whether derivatives need x + b: the output does not tell them for swish, nor for slopes below 0."""
    return row.from_input or (row.index == ACTIVATIONS["lrelu"].index and alpha < 0)


@dataclass(frozen=True)
class Nonlinearity:
    """Static arguments of the op with the defaults filled in. `clamp` is None for none."""

    act: str
    alpha: float
    gain: float
    clamp: float | None

    @property
    def row(self) -> Activation:
        """The row of `ACTIVATIONS`."""
        return ACTIVATIONS[self.act]

    @property
    def needs_input(self) -> bool:
        """Whether derivatives need x + b and not only the output."""
        return needs_input(self.row, self.alpha)

    def needs_wide_output(self, dtype: tf.DType) -> bool:
        """Whether results of this dtype are too coarse to take the slope from: half a per cent of 1 is most of what is
        left of the slope of tanh at 3."""
        half = dtype in (tf.float16, tf.bfloat16)
        return half and not (self.row.piecewise_linear or self.needs_input)

    def attributes(self, dtype: tf.DType) -> dict[str, Any]:
        """As the compiled ops take them: numbers in decimal, since float attributes of TensorFlow have 32 bits.

        dtype: that of the results. The limit of the clamp is one of its numbers, so that gradients know results at it.
        """
        clamp = math.nan if self.clamp is None else float(np.asarray(self.clamp, dtype.as_numpy_dtype))
        return {"act": self.row.index, "alpha": repr(self.alpha), "gain": repr(self.gain), "clamp": repr(clamp)}


def make_nonlinearity(act: str, alpha: Any, gain: Any, clamp: Any) -> Nonlinearity:
    """Check and complete the arguments that all activation ops share."""
    arguments.check(isinstance(act, str) and act in ACTIVATIONS, "act", repr(act), "one of " + ", ".join(ACTIVATIONS))
    row = ACTIVATIONS[act]
    alpha = row.alpha if alpha is None else arguments.finite(alpha, "alpha")
    gain = row.gain if gain is None else arguments.finite(gain, "gain", nonzero=True)
    # Gradients divide results by it in float32.
    arguments.check(1e-37 <= abs(gain) <= 1e37, "gain", repr(gain), "a number of a size between 1e-37 and 1e37")
    if clamp is not None:
        clamp = arguments.finite(clamp, "clamp")
        arguments.check(clamp > 0, "clamp", repr(clamp), "None or a number above 0")
    return Nonlinearity(act, alpha, gain, clamp)


def fused_bias_act(
    x: Any,
    b: Any = None,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    axis: int = 1,
    impl: str | None = None,
) -> tf.Tensor:
    """y = clamp(gain * act(x + b)).

    Args:
        x: tensor of any rank from 1, float32, float16, bfloat16 or float64. Half types are computed in float32.
        b: [x.shape[axis]] of the dtype of x, or None.
        act: linear, relu, lrelu, tanh, sigmoid, elu, selu, softplus or swish (x times its sigmoid).
        alpha: slope of lrelu for negative values, default 0.2.
        gain: factor after the activation, default sqrt(2) for relu, lrelu and swish, 1 for the others. Its size is
            between 1e-37 and 1e37.
        clamp: results are cut to +-clamp, and gradients are zero where |y| >= clamp. None for no clamp.
        axis: dimension that b runs along: 1 for NCHW and [N, C], 3 or -1 for NHWC.
        impl: 'compiled', 'ref' or None for `default_impl()`.

    Derivatives are those of the formula, of every order (compiled up to the 13th); relu and lrelu have slope 0 or alpha
    at 0.
    Raises `ValueError` for unknown activations, biases of another size or dtype, and numbers out of range.
    """
    spec = make_nonlinearity(act, alpha, gain, clamp)
    x = arguments.float_tensor(x, "x")
    rank = x.shape.rank
    arguments.check(rank is not None and rank >= 1, "x", f"rank {rank}", "a statically known rank of at least 1")
    good_axis = arguments.is_integer(axis) and -rank <= axis < rank
    arguments.check(good_axis, "axis", repr(axis), f"an integer from {-rank} to {rank - 1} for shape {x.shape}")
    axis = int(axis) % rank
    if b is not None:
        b = arguments.float_tensor(b, "b", rank=1, like=x)
        arguments.check(b.shape.is_compatible_with(x.shape[axis : axis + 1]), "b", f"shape {b.shape}",
                        f"[{x.shape[axis]}], the size of axis {axis} of x {x.shape}")  # fmt: skip
    if resolve_impl(impl) == "compiled":
        return bias_act_compiled(x, b, spec, axis)
    return bias_act_reference(x, b, spec, axis)


# ---------------------------------------------------------------- compiled


def bias_act_compiled(x: tf.Tensor, b: tf.Tensor | None, spec: Nonlinearity, axis: int) -> tf.Tensor:
    """One node DnnlibBiasAct, in float32 where half types would tell too little of the slope."""
    if spec.needs_wide_output(x.dtype):
        wide_b = None if b is None else tf.cast(b, tf.float32)
        return tf.cast(bias_act_compiled(tf.cast(x, tf.float32), wide_b, spec, axis), x.dtype)
    has_bias = b is not None
    b = b if has_bias else tf.zeros([0], x.dtype)
    return library.ops().dnnlib_bias_act(x=x, b=b, axis=axis, has_bias=has_bias, **spec.attributes(x.dtype))


def _attributes(op: tf.Operation) -> dict[str, Any]:
    return {name: op.get_attr(name) for name in ("axis", "act", "alpha", "gain", "clamp")}


def is_absent(t: tf.Tensor) -> bool:
    """True for the empty tensor that stands for an operand that was not given."""
    return t.shape.as_list() == [0]


def has_constant_slope(op: tf.Operation) -> bool:
    """True for linear ops without a clamp: their gradients need no reference, and it is not kept for them."""
    return op.get_attr("act") == ACTIVATIONS["linear"].index and math.isnan(float(op.get_attr("clamp")))


@tf.RegisterGradient("DnnlibBiasAct")
def _bias_act_gradient(op: tf.Operation, dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    x, b = op.inputs
    attributes = _attributes(op)
    from_input = needs_input(row_of(attributes["act"]), float(attributes["alpha"]))
    none = tf.zeros([0], x.dtype)
    ref = x if from_input else none if has_constant_slope(op) else op.outputs[0]
    return library.ops().dnnlib_bias_act_grad(
        dy=dy, dyb=none, ref=ref, b=b if from_input else none, order=0, from_input=from_input,
        has_bias=not is_absent(b), **attributes,
    )  # fmt: skip


@tf.RegisterGradient("DnnlibBiasActGrad")
def _bias_act_grad_gradient(op: tf.Operation, ddx: tf.Tensor, ddb: tf.Tensor) -> list[tf.Tensor | None]:
    """dx = (dy + dyb) * S(ref + b), db = sum of dx: linear in dy and dyb, and S' is the next order of the same op."""
    dy, dyb, ref, b = op.inputs
    attributes = {**_attributes(op), "from_input": op.get_attr("from_input")}
    order = op.get_attr("order")
    none = tf.zeros([0], dy.dtype)
    ddb = ddb if op.get_attr("has_bias") else none
    grad = library.ops().dnnlib_bias_act_grad
    d_dy, d_dyb = grad(
        dy=ddx, dyb=ddb, ref=ref, b=b, order=order, has_bias=not is_absent(dyb), **attributes
    )  # fmt: skip
    if row_of(attributes["act"]).piecewise_linear:
        return [d_dy, d_dyb, None, None]
    if order == _MAX_ORDER:
        name = next(name for name, row in ACTIVATIONS.items() if row.index == attributes["act"])
        raise ValueError(
            f"fused_bias_act: found derivative {order + 2} of {name}, expected at most {_MAX_ORDER + 1}; for more use "
            "impl='ref'"
        )
    product = _add_along(ddx, ddb, attributes["axis"]) * _add_along(dy, dyb, attributes["axis"])
    d_ref, d_b = grad(
        dy=product, dyb=none, ref=ref, b=b, order=order + 1, has_bias=not is_absent(b), **attributes
    )  # fmt: skip
    return [d_dy, d_dyb, d_ref, d_b]


def _add_along(x: tf.Tensor, b: tf.Tensor, axis: int) -> tf.Tensor:
    return x if is_absent(b) else x + tf.reshape(b, [-1 if i == axis else 1 for i in range(x.shape.rank)])


# ---------------------------------------------------------------- reference


def activate(x: tf.Tensor, spec: Nonlinearity) -> tf.Tensor:
    """clamp(gain * act(x)) in TensorFlow graph code."""
    y = spec.row.reference(x, spec.alpha)
    if spec.gain != 1:
        y *= tf.constant(spec.gain, y.dtype)
    if spec.clamp is not None:
        # Not clip_by_value, whose gradient is one where |y| == clamp. A NaN passes.
        limit = tf.fill(tf.shape(y), tf.constant(spec.clamp, y.dtype))
        y = tf.where(y >= limit, limit, tf.where(y <= -limit, -limit, y))
    return y


def bias_act_reference(x: tf.Tensor, b: tf.Tensor | None, spec: Nonlinearity, axis: int) -> tf.Tensor:
    """The op in TensorFlow graph code, differentiable to any order."""
    dtype = x.dtype
    if dtype in (tf.float16, tf.bfloat16):
        x = tf.cast(x, tf.float32)
    if b is not None:
        x += tf.reshape(tf.cast(b, x.dtype), [-1 if i == axis else 1 for i in range(x.shape.rank)])
    return tf.cast(activate(x, spec), dtype)
