"""Counting the convolutions and matrix products of a graph.

FLOPs are 2 * multiply-adds as the mathematics needs them: a transposed convolution counts the products it makes, not
those with inserted zeros; filters, activations and noise count nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from dnnlib.tflib.tfutil import tf

CONV_OPS = ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter")
_COMPILED_CONV_OPS = ("DnnlibConv3x3", "DnnlibConv3x3FilterGrad")
_MATMUL_OPS = {"MatMul": "transpose_a", "BatchMatMul": "adj_x", "BatchMatMulV2": "adj_x"}

# Compiled ops that are matrix products at heart: how many of [N, in] x [in, out], and which inputs are w and s.
_DEMODULATION_OPS = {
    "DnnlibDemodulation": (1, 0, 1),
    "DnnlibDemodulationGrad": (2, 1, 2),
    "DnnlibEnergy": (1, 0, 2),
    "DnnlibEnergyWeights": (1, 1, 2),
    "DnnlibEnergyStyles": (1, 1, 3),
}


@dataclass(frozen=True)
class ConvShape:
    """One convolution. op: TensorFlow's name of what it does; image, grad: shapes on the input and the output side;
    kernel: HWIO; compiled: whether one of our ops does it, and if so with tiles of what size."""

    op: str
    image: tuple[int, ...]
    kernel: tuple[int, ...]
    grad: tuple[int, ...]
    stride: int
    padding: str
    explicit: tuple[int, ...]
    data_format: str
    dtype: str
    compiled: bool = False
    tile: int = 0

    def plain(self) -> ConvShape:
        """The same done by TensorFlow."""
        return replace(self, compiled=False, tile=0)

    @property
    def flops(self) -> int:
        """2 * multiply-adds."""
        axes = (1, 2) if self.data_format == "NHWC" else (2, 3)
        pixels = self.grad[0] * self.grad[axes[0]] * self.grad[axes[1]]
        return 2 * pixels * int(np.prod(self.kernel))


def is_convolution(op: tf.Operation) -> bool:
    """Whether an operation is a convolution or a gradient of one, TensorFlow's or ours."""
    return op.type in CONV_OPS or op.type in _COMPILED_CONV_OPS


def reachable(fetches: Iterable[tf.Operation]) -> list[tf.Operation]:
    """All operations that a run of `fetches` needs."""
    seen: set[tf.Operation] = set()
    stack = list(fetches)
    while stack:
        op = stack.pop()
        if op in seen:
            continue
        seen.add(op)
        stack += [t.op for t in op.inputs] + list(op.control_inputs)
    return list(seen)


def conv_shape(op: tf.Operation, batch: int | None = None) -> ConvShape:
    """What a convolution does. batch: stands in for a first dimension that is open.

    Raises `ValueError` if shapes are not static otherwise.
    """

    def sides(tensor: tf.Tensor) -> tuple[int, ...]:
        shape = tuple(tensor.shape.as_list()) if tensor.shape.rank is not None else ()
        return (batch, *shape[1:]) if shape and shape[0] is None else shape

    out, inputs = sides(op.outputs[0]), [sides(t) for t in op.inputs]
    kind = _kind(op)
    if kind == "Conv2D":
        image, kernel, grad = inputs[0], inputs[1], out
    elif kind == "Conv2DBackpropInput":
        image, kernel, grad = out, inputs[1], inputs[0 if op.type in _COMPILED_CONV_OPS else 2]
    else:
        image, kernel, grad = inputs[0], out, inputs[-1]
    if None in image + kernel + grad or not (image and kernel and grad):
        raise ValueError(f"{op.name}: shapes {image} {kernel} {grad} are not static; nothing to count")
    if op.type in _COMPILED_CONV_OPS:
        stride, tile, dtype = op.get_attr("stride"), op.get_attr("tile"), op.outputs[0].dtype.name
        padding = "SAME" if stride == 1 else "VALID"
        return ConvShape(kind, image, kernel, grad, stride, padding, (), "NHWC", dtype, compiled=True, tile=tile)
    return ConvShape(
        op.type,
        image,
        kernel,
        grad,
        max(op.get_attr("strides")),
        op.get_attr("padding").decode(),
        tuple(op.get_attr("explicit_paddings")),
        op.get_attr("data_format").decode(),
        op.outputs[0].dtype.name,
    )


def _kind(op: tf.Operation) -> str:
    """TensorFlow's name of a convolution."""
    if op.type == "DnnlibConv3x3":
        return "Conv2DBackpropInput" if op.get_attr("adjoint") else "Conv2D"
    return "Conv2DBackpropFilter" if op.type == "DnnlibConv3x3FilterGrad" else op.type


def find_convolutions(fetches: Iterable[tf.Operation]) -> Counter[ConvShape]:
    """Convolutions that a run of `fetches` executes, with how often."""
    return Counter(conv_shape(op) for op in reachable(fetches) if is_convolution(op))


def op_flops(op: tf.Operation, batch: int = 1) -> int:
    """2 * multiply-adds of one operation; 0 for all that is neither a convolution nor a matrix product.

    batch: stands in for open first dimensions.
    """
    if is_convolution(op):
        return conv_shape(op, batch).flops
    if op.type in _DEMODULATION_OPS:
        products, *places = _DEMODULATION_OPS[op.type]
        w, s = (op.inputs[i].shape.as_list() for i in places)
        return 2 * products * (batch if s[0] is None else s[0]) * w[2] * w[3]
    if op.type not in _MATMUL_OPS:
        return 0
    a = [batch if side is None else side for side in op.inputs[0].shape.as_list()]
    out = [batch if side is None else side for side in op.outputs[0].shape.as_list()]
    inner = a[-2] if op.get_attr(_MATMUL_OPS[op.type]) else a[-1]
    return 2 * inner * int(np.prod(out))


def matmul_flops(fetches: Iterable[tf.Operation]) -> int:
    """2 * multiply-adds of the matrix products that a run of `fetches` executes."""
    return sum(op_flops(op) for op in reachable(fetches) if not is_convolution(op))
