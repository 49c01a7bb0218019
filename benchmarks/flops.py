"""Timing the convolutions of a graph; counting them is in `training/flops.py`."""

from __future__ import annotations

import time

import numpy as np

from dnnlib.tflib import tfutil
from dnnlib.tflib.ops import library
from dnnlib.tflib.tfutil import tf
from training.flops import ConvShape

# Otherwise TensorFlow finds out that the executions of a chain are all the same, and does one.
AS_WRITTEN = {
    "graph_options.rewrite_options.disable_meta_optimizer": True,
    "graph_options.optimizer_options.opt_level": -1,
}


class Convolution:
    """A chain of executions of one convolution in a graph and session of its own, inputs resident."""

    def __init__(self, shape: ConvShape) -> None:
        self.shape, self.copies = shape, max(1, min(16, int(1e9 / shape.flops)))
        with tf.Graph().as_default():
            self.session = tfutil.create_session(AS_WRITTEN)
            with self.session.as_default():
                self.chain = _chain(shape, self.copies, self.session)

    def __enter__(self) -> Convolution:
        return self

    def __exit__(self, *error: object) -> None:
        self.session.close()

    def run(self) -> float:
        """Seconds of one execution: the chain is run once."""
        start = time.perf_counter()
        self.session.run(self.chain)
        return (time.perf_counter() - start) / self.copies


def time_convolution(shape: ConvShape, seconds: float = 0.06) -> float:
    """Seconds of one execution, the median of several."""
    with Convolution(shape) as convolution:
        return median_seconds(convolution.session, convolution.chain, seconds) / convolution.copies


def median_seconds(session: tf.Session, chain: list[tf.Operation], seconds: float) -> float:
    """Seconds of one run of a chain: the median of those that fit into `seconds`, at least three."""
    session.run(chain)
    session.run(chain)
    times = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        session.run(chain)
        times.append(time.perf_counter() - start)
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
            if shape.compiled:
                y = _compiled(shape, image, kernel, grad)
            elif shape.op == "Conv2D":
                y = tf.raw_ops.Conv2D(input=image, filter=kernel, **attrs)
            elif shape.op == "Conv2DBackpropInput":
                y = tf.raw_ops.Conv2DBackpropInput(input_sizes=shape.image, filter=kernel, out_backprop=grad, **attrs)
            else:
                y = tf.raw_ops.Conv2DBackpropFilter(input=image, filter_sizes=shape.kernel, out_backprop=grad, **attrs)
        last = [y.op]
    return last


def _compiled(shape: ConvShape, image: tf.Tensor, kernel: tf.Tensor, grad: tf.Tensor) -> tf.Tensor:
    ops, way = library.ops(), {"stride": shape.stride, "tile": shape.tile}
    if shape.op == "Conv2DBackpropFilter":
        return ops.dnnlib_conv3x3_filter_grad(x=image, dy=grad, **way)
    adjoint = shape.op == "Conv2DBackpropInput"
    return ops.dnnlib_conv3x3(x=grad if adjoint else image, w=kernel, adjoint=adjoint, **way)
