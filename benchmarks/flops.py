"""Counting and timing the convolutions and matrix products of a graph.

FLOPs are 2 * multiply-adds as the mathematics needs them: a transposed convolution counts the products it makes, not
those with inserted zeros; filters, activations and noise count nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf

CONV_OPS = ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter")


# Otherwise TensorFlow finds out that the executions of a chain are all the same, and does one.
_AS_WRITTEN = {
    "graph_options.rewrite_options.disable_meta_optimizer": True,
    "graph_options.optimizer_options.opt_level": -1,
}


@dataclass(frozen=True)
class ConvShape:
    """One convolution as TensorFlow runs it. image, grad: shapes on the input and the output side; kernel: HWIO."""

    op: str
    image: tuple[int, ...]
    kernel: tuple[int, ...]
    grad: tuple[int, ...]
    stride: int
    padding: str
    explicit: tuple[int, ...]
    data_format: str
    dtype: str

    @property
    def flops(self) -> int:
        """2 * multiply-adds."""
        axes = (1, 2) if self.data_format == "NHWC" else (2, 3)
        pixels = self.grad[0] * self.grad[axes[0]] * self.grad[axes[1]]
        return 2 * pixels * int(np.prod(self.kernel))


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


def find_convolutions(fetches: Iterable[tf.Operation]) -> Counter[ConvShape]:
    """Convolutions that a run of `fetches` executes, with how often."""
    found: Counter[ConvShape] = Counter()
    for op in reachable(fetches):
        if op.type not in CONV_OPS:
            continue
        shapes = [tuple(t.shape.as_list()) if t.shape.rank is not None else () for t in op.inputs]
        out = tuple(op.outputs[0].shape.as_list())
        image, kernel, grad = {
            "Conv2D": lambda s=shapes, o=out: (s[0], s[1], o),
            "Conv2DBackpropInput": lambda s=shapes, o=out: (o, s[1], s[2]),
            "Conv2DBackpropFilter": lambda s=shapes, o=out: (s[0], o, s[2]),
        }[op.type]()
        shape = ConvShape(
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
        if None in image + kernel + grad:
            raise ValueError(f"{op.name}: shapes {image} {kernel} {grad} are not static; nothing to count")
        found[shape] += 1
    return found


def matmul_flops(fetches: Iterable[tf.Operation]) -> int:
    """2 * multiply-adds of the matrix products that a run of `fetches` executes."""
    total = 0
    for op in reachable(fetches):
        if op.type == "MatMul":
            a = op.inputs[0].shape.as_list()
            inner = a[0] if op.get_attr("transpose_a") else a[1]
            total += 2 * inner * int(np.prod(op.outputs[0].shape.as_list()))
    return total


def time_convolution(shape: ConvShape, seconds: float = 0.06) -> float:
    """Seconds of one execution: a chain of executions in a graph of its own, inputs resident, the median of several."""
    copies = max(1, min(16, int(1e9 / shape.flops)))
    with tf.Graph().as_default(), tfutil.create_session(_AS_WRITTEN) as session:
        chain = _chain(shape, copies, session)
        session.run(chain)
        session.run(chain)
        times = []
        end = time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            session.run(chain)
            times.append((time.perf_counter() - start) / copies)
    return float(np.median(times))


def _chain(shape: ConvShape, copies: int, session: tf.Session) -> list[tf.Operation]:
    dtype = tf.as_dtype(shape.dtype)

    def resident(size: tuple[int, ...]) -> tf.Tensor:
        var = tf.Variable(tf.cast(tf.random.normal(size), dtype), trainable=False, use_resource=True)
        session.run(var.initializer)
        return var.read_value()

    image, kernel, grad = resident(shape.image), resident(shape.kernel), resident(shape.grad)
    strides = [1, shape.stride, shape.stride, 1] if shape.data_format == "NHWC" else [1, 1, shape.stride, shape.stride]
    attrs = dict(
        strides=strides, padding=shape.padding, explicit_paddings=list(shape.explicit), data_format=shape.data_format
    )
    last: list[tf.Operation] = []
    for _ in range(copies):
        with tf.control_dependencies(last):
            if shape.op == "Conv2D":
                y = tf.raw_ops.Conv2D(input=image, filter=kernel, **attrs)
            elif shape.op == "Conv2DBackpropInput":
                y = tf.raw_ops.Conv2DBackpropInput(input_sizes=shape.image, filter=kernel, out_backprop=grad, **attrs)
            else:
                y = tf.raw_ops.Conv2DBackpropFilter(input=image, filter_sizes=shape.kernel, out_backprop=grad, **attrs)
        last = [y.op]
    return last
