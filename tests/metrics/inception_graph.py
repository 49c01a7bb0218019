"""A small frozen graph with the node names, op types and age of the published Inception graph."""

from __future__ import annotations

import numpy as np

from dnnlib.tflib.tfutil import tf


def make_graph(seed: int = 0) -> tf.GraphDef:
    """Decoding, resize to 299, normalisation, two convolutions with the old batch norm, pools, and a classifier.

    The version is that of 2015, the batch norm op one that today's TensorFlow builds no more, shapes are noted for a
    batch of one, and the classifier reshapes to [1, 2048], all as in the published file.
    """
    rng = np.random.RandomState(seed)
    graph = tf.GraphDef()
    graph.versions.producer = 8

    def node(name, op, *inputs, **attrs):
        added = graph.node.add(name=name, op=op, input=inputs)
        for key, value in attrs.items():
            if isinstance(value, tf.DType):
                added.attr[key].type = value.as_datatype_enum
            elif isinstance(value, bool):
                added.attr[key].b = value
            elif isinstance(value, float):
                added.attr[key].f = value
            elif isinstance(value, int):
                added.attr[key].i = value
            elif isinstance(value, list):
                added.attr[key].list.i.extend(value)
            else:
                added.attr[key].s = value.encode()
        return name

    def const(name, value):
        added = graph.node.add(name=name, op="Const")
        value = np.asarray(value)
        added.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
        added.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        return name

    f = {"T": tf.float32}

    def conv(name, x, channels, size, stride, scaled):
        fan_in, kernel = size * size * channels[0], (size, size, *channels)
        weights = const(f"{name}/conv2d_params", (rng.randn(*kernel) / np.sqrt(fan_in)).astype(np.float32))
        node(f"{name}/Conv2D", "Conv2D", x, weights, **f, strides=[1, stride, stride, 1], padding="VALID")
        node(f"{name}/CheckNumerics", "CheckNumerics", f"{name}/Conv2D", **f, message="no")
        node(f"{name}/control_dependency", "Identity", f"{name}/Conv2D", f"^{name}/CheckNumerics", **f)
        stats = [
            const(f"{name}/batchnorm/{part}", value.astype(np.float32))
            for part, value in (
                ("moving_mean", rng.randn(channels[1])),
                ("moving_variance", rng.uniform(0.5, 2, channels[1])),
                ("beta", rng.randn(channels[1])),
                ("gamma", rng.uniform(0.5, 2, channels[1])),
            )
        ]
        norm = {"variance_epsilon": 0.001, "scale_after_normalization": scaled}
        node(f"{name}/batchnorm", "BatchNormWithGlobalNormalization", f"{name}/control_dependency", *stats, **f, **norm)
        return node(name, "Relu", f"{name}/batchnorm", **f)

    const("DecodeJpeg/contents", np.array(b"", object))
    node("DecodeJpeg", "DecodeJpeg", "DecodeJpeg/contents", channels=3)
    node("Cast", "Cast", "DecodeJpeg", SrcT=tf.uint8, DstT=tf.float32)
    node("ExpandDims", "ExpandDims", "Cast", const("ExpandDims/dim", np.int32(0)), **f)
    size = const("ResizeBilinear/size", np.array([299, 299], np.int32))
    node("ResizeBilinear", "ResizeBilinear", "ExpandDims", size, **f, align_corners=False)
    node("Sub", "Sub", "ResizeBilinear", const("Sub/y", np.float32(128)), **f)
    node("Mul", "Mul", "Sub", const("Mul/y", np.float32(1 / 128)), **f)
    conv("conv", "Mul", (3, 4), 3, 8, scaled=False)
    windows = {"ksize": [1, 3, 3, 1], "strides": [1, 5, 5, 1], "padding": "VALID"}
    node("pool", "MaxPool", "conv", **f, **windows)
    node("pool_1", "AvgPool", "conv", **f, **windows)
    dim = const("join/concat_dim", np.int32(3))
    node("join", "Concat", dim, "pool", "pool_1", **f, N=2)
    conv("conv_1", "join", (8, 2048), 1, 1, scaled=True)
    node("pool_3", "AvgPool", "conv_1", **f, ksize=[1, 8, 8, 1], strides=[1, 1, 1, 1], padding="VALID")
    graph.node[-1].attr["_output_shapes"].list.shape.add().CopyFrom(tf.TensorShape([1, 1, 1, 2048]).as_proto())
    shape = const("pool_3/_reshape/shape", np.array([1, 2048], np.int32))
    node("pool_3/_reshape", "Reshape", "pool_3", shape, **f, Tshape=tf.int32)
    return graph
