"""Counting and timing the depthwise convolutions of a graph, which `benchmarks.flops` leaves out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from benchmarks.flops import AS_WRITTEN, median_seconds
from dnnlib.tflib import tfutil
from dnnlib.tflib.ops import depthwise_conv_2d
from dnnlib.tflib.tfutil import tf
from training.flops import reachable

_COPIES = 8
_TENSORFLOWS, _COMPILED = "DepthwiseConv2dNative", "DnnlibDepthwiseConv2d"


@dataclass(frozen=True)
class DepthwiseShape:
    """One depthwise convolution, NHWC. image, kernel, output: shapes. compiled: by the op of this project."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    output: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    compiled: bool = False

    @property
    def flops(self) -> int:
        """2 * multiply-adds."""
        return 2 * self.kernel[0] * self.kernel[1] * int(np.prod(self.output))


def find_depthwise(features: tf.Tensor) -> Counter[DepthwiseShape]:
    """Those that `features` needs, with how often."""
    found: Counter[DepthwiseShape] = Counter()
    for op in reachable([features.op]):
        if op.type in (_TENSORFLOWS, _COMPILED):
            image, kernel = (tuple(t.shape.as_list()) for t in op.inputs[:2])
            output = tuple(op.outputs[0].shape.as_list())
            compiled = op.type == _COMPILED
            strides = (1, *[op.get_attr("stride")] * 2, 1) if compiled else tuple(op.get_attr("strides"))
            padding = "SAME" if compiled else op.get_attr("padding").decode()
            found[DepthwiseShape(image, kernel, output, strides, padding, compiled)] += 1
    return found


def time_depthwise(shape: DepthwiseShape, seconds: float = 0.06) -> float:
    """Seconds of one execution: a chain of executions in a graph of its own, inputs resident, the median of several."""
    with tf.Graph().as_default(), tfutil.create_session(AS_WRITTEN) as session:
        image, kernel = (tf.Variable(tf.random.normal(size), use_resource=True) for size in (shape.image, shape.kernel))
        session.run([image.initializer, kernel.initializer])
        x, w, last = image.read_value(), kernel.read_value(), []
        for _ in range(_COPIES):
            with tf.control_dependencies(last):
                if shape.compiled:
                    last = [depthwise_conv_2d(x, w, stride=shape.strides[1], impl="compiled").op]
                else:
                    last = [tf.nn.depthwise_conv2d(x, w, list(shape.strides), shape.padding).op]
        return median_seconds(session, last, seconds) / _COPIES
