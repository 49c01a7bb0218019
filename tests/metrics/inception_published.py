"""A frozen graph of the whole Inception-v3 in the published node naming, with random weights, wired by hand."""

from __future__ import annotations

import numpy as np

from dnnlib.tflib.tfutil import create_session, tf

F32 = {"T": tf.float32}

# Where PyTorch's names are in the graph.
TOP = {"conv": "Conv2d_1a_3x3", "conv_1": "Conv2d_2a_3x3", "conv_2": "Conv2d_2b_3x3", "conv_3": "Conv2d_3b_1x1",
       "conv_4": "Conv2d_4a_3x3"}  # fmt: skip
MIXED = {"mixed": "5b", "mixed_1": "5c", "mixed_2": "5d", "mixed_3": "6a", "mixed_4": "6b", "mixed_5": "6c",
         "mixed_6": "6d", "mixed_7": "6e", "mixed_8": "7a", "mixed_9": "7b", "mixed_10": "7c"}  # fmt: skip
_DBL = {"conv": "branch3x3dbl_1", "conv_1": "branch3x3dbl_2", "conv_2": "branch3x3dbl_3"}
_A = {"conv": "branch1x1", "tower/conv": "branch5x5_1", "tower/conv_1": "branch5x5_2", "tower_2/conv": "branch_pool",
      **{f"tower_1/{k}": v for k, v in _DBL.items()}}  # fmt: skip
_B = {"conv": "branch3x3", **{f"tower/{k}": v for k, v in _DBL.items()}}
_C = {"conv": "branch1x1", "tower/conv": "branch7x7_1", "tower/conv_1": "branch7x7_2", "tower/conv_2": "branch7x7_3",
      "tower_1/conv": "branch7x7dbl_1", "tower_1/conv_1": "branch7x7dbl_2", "tower_1/conv_2": "branch7x7dbl_3",
      "tower_1/conv_3": "branch7x7dbl_4", "tower_1/conv_4": "branch7x7dbl_5",
      "tower_2/conv": "branch_pool"}  # fmt: skip
_D = {"tower/conv": "branch3x3_1", "tower/conv_1": "branch3x3_2", "tower_1/conv": "branch7x7x3_1",
      "tower_1/conv_1": "branch7x7x3_2", "tower_1/conv_2": "branch7x7x3_3",
      "tower_1/conv_3": "branch7x7x3_4"}  # fmt: skip
_E = {"conv": "branch1x1", "tower/conv": "branch3x3_1", "tower/mixed/conv": "branch3x3_2a",
      "tower/mixed/conv_1": "branch3x3_2b", "tower_1/conv": "branch3x3dbl_1", "tower_1/conv_1": "branch3x3dbl_2",
      "tower_1/mixed/conv": "branch3x3dbl_3a", "tower_1/mixed/conv_1": "branch3x3dbl_3b",
      "tower_2/conv": "branch_pool"}  # fmt: skip


def torch_name(node: str) -> str:
    """PyTorch's name of a convolution of the graph."""
    if node in TOP:
        return TOP[node]
    block, _, rest = node.partition("/")
    kind = {"5": _A, "6": _C, "7": _E}[MIXED[block][0]]
    kind = {"6a": _B, "7a": _D}.get(MIXED[block], kind)
    return f"Mixed_{MIXED[block]}.{kind[rest]}"


class PublishedGraph:
    """`graph`: the GraphDef. `convs`: weights by node, in order: (kernel, mean, variance, beta). `fc`: kernel, bias.

    folded: batch norms are folded into kernels and biases, as frozen graphs after optimisation are.
    """

    def __init__(self, seed: int = 0, folded: bool = False) -> None:
        self._rng = np.random.RandomState(seed)
        self.folded = folded
        self.graph = tf.GraphDef()
        self.graph.versions.producer = 8
        self.convs: dict[str, tuple[np.ndarray, ...]] = {}
        self._channels = {"Mul": 3}
        self._build()

    def _node(self, name, op, *inputs, **attrs):
        node = self.graph.node.add(name=name, op=op, input=inputs)
        for key, value in attrs.items():
            if isinstance(value, tf.DType):
                node.attr[key].type = value.as_datatype_enum
            elif isinstance(value, bool):
                node.attr[key].b = value
            elif isinstance(value, float):
                node.attr[key].f = value
            elif isinstance(value, int):
                node.attr[key].i = value
            elif isinstance(value, list):
                node.attr[key].list.i.extend(value)
            else:
                node.attr[key].s = value.encode()
        return name

    def _const(self, name, value):
        node = self.graph.node.add(name=name, op="Const")
        value = np.asarray(value)
        node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        return name

    def _conv(self, name, x, out, height, width, stride=1, padding="SAME"):
        rng, fan_in = self._rng, height * width * self._channels[x]
        kernel = (rng.randn(height, width, self._channels[x], out) * np.sqrt(2 / fan_in)).astype(np.float32)
        mean, beta = (rng.randn(out).astype(np.float32) * 0.1 for _ in range(2))
        variance = rng.uniform(0.5, 1.5, out).astype(np.float32)
        self.convs[name] = kernel, mean, variance, beta
        conv = {"strides": [1, stride, stride, 1], "padding": padding}
        if self.folded:
            scale = 1 / np.sqrt(variance + np.float32(1e-3))
            weights = self._const(f"{name}/conv2d_params", kernel * scale)
            self._node(f"{name}/Conv2D", "Conv2D", x, weights, **F32, **conv)
            bias = self._const(f"{name}/bias", beta - mean * scale)
            before = self._node(f"{name}/BiasAdd", "BiasAdd", f"{name}/Conv2D", bias, **F32)
        else:
            weights = self._const(f"{name}/conv2d_params", kernel)
            self._node(f"{name}/Conv2D", "Conv2D", x, weights, **F32, **conv)
            self._node(f"{name}/CheckNumerics", "CheckNumerics", f"{name}/Conv2D", **F32, message="no")
            self._node(f"{name}/control_dependency", "Identity", f"{name}/Conv2D", f"^{name}/CheckNumerics", **F32)
            parts = (("moving_mean", mean), ("moving_variance", variance), ("beta", beta), ("gamma", beta * 0 + 7))
            stats = [self._const(f"{name}/batchnorm/{part}", value) for part, value in parts]
            before = self._node(
                f"{name}/batchnorm", "BatchNormWithGlobalNormalization", f"{name}/control_dependency", *stats, **F32,
                variance_epsilon=0.001, scale_after_normalization=False,
            )  # fmt: skip
        self._channels[name] = out
        return self._node(name, "Relu", before, **F32)

    def _pool(self, name, x, op, stride, padding):
        self._channels[name] = self._channels[x]
        return self._node(name, op, x, **F32, ksize=[1, 3, 3, 1], strides=[1, stride, stride, 1], padding=padding)

    def _concat(self, name, *ends):
        self._channels[name] = sum(self._channels[end] for end in ends)
        return self._node(name, "Concat", self._const(f"{name}/concat_dim", np.int32(3)), *ends, **F32, N=len(ends))

    def _double(self, tower, x, stride=1):
        y = self._conv(f"{tower}/conv", x, 64, 1, 1)
        y = self._conv(f"{tower}/conv_1", y, 96, 3, 3)
        return self._conv(f"{tower}/conv_2", y, 96, 3, 3, stride, "SAME" if stride == 1 else "VALID")

    def _pooled(self, b, x, out, op="AvgPool"):
        return self._conv(f"{b}/tower_2/conv", self._pool(f"{b}/tower_2/pool", x, op, 1, "SAME"), out, 1, 1)

    def _a(self, b, x, pool):
        one = self._conv(f"{b}/conv", x, 64, 1, 1)
        five = self._conv(f"{b}/tower/conv_1", self._conv(f"{b}/tower/conv", x, 48, 1, 1), 64, 5, 5)
        return self._concat(f"{b}/join", one, five, self._double(f"{b}/tower_1", x), self._pooled(b, x, pool))

    def _c(self, b, x, c):
        one = self._conv(f"{b}/conv", x, 192, 1, 1)
        y = self._conv(f"{b}/tower/conv", x, c, 1, 1)
        y = self._conv(f"{b}/tower/conv_1", y, c, 1, 7)
        y = self._conv(f"{b}/tower/conv_2", y, 192, 7, 1)
        z = self._conv(f"{b}/tower_1/conv", x, c, 1, 1)
        for index, (out, height, width) in enumerate(((c, 7, 1), (c, 1, 7), (c, 7, 1), (192, 1, 7)), 1):
            z = self._conv(f"{b}/tower_1/conv_{index}", z, out, height, width)
        return self._concat(f"{b}/join", one, y, z, self._pooled(b, x, 192))

    def _e(self, b, x, op):
        one = self._conv(f"{b}/conv", x, 320, 1, 1)
        y = self._conv(f"{b}/tower/conv", x, 384, 1, 1)
        y = [self._conv(f"{b}/tower/mixed/conv", y, 384, 1, 3), self._conv(f"{b}/tower/mixed/conv_1", y, 384, 3, 1)]
        z = self._conv(f"{b}/tower_1/conv_1", self._conv(f"{b}/tower_1/conv", x, 448, 1, 1), 384, 3, 3)
        z = [self._conv(f"{b}/tower_1/mixed/conv", z, 384, 1, 3), self._conv(f"{b}/tower_1/mixed/conv_1", z, 384, 3, 1)]
        y, z = self._concat(f"{b}/tower/mixed", *y), self._concat(f"{b}/tower_1/mixed", *z)
        return self._concat(f"{b}/join", one, y, z, self._pooled(b, x, 192, op))

    def _build(self):
        self._const("DecodeJpeg/contents", np.array(b"", object))
        self._node("DecodeJpeg", "DecodeJpeg", "DecodeJpeg/contents", channels=3)
        self._node("Cast", "Cast", "DecodeJpeg", SrcT=tf.uint8, DstT=tf.float32)
        self._node("ExpandDims", "ExpandDims", "Cast", self._const("ExpandDims/dim", np.int32(0)), **F32)
        size = self._const("ResizeBilinear/size", np.array([299, 299], np.int32))
        self._node("ResizeBilinear", "ResizeBilinear", "ExpandDims", size, **F32, align_corners=False)
        self._node("Sub", "Sub", "ResizeBilinear", self._const("Sub/y", np.float32(128)), **F32)
        self._node("Mul", "Mul", "Sub", self._const("Mul/y", np.float32(1 / 128)), **F32)
        x = self._conv("conv", "Mul", 32, 3, 3, 2, "VALID")
        x = self._conv("conv_1", x, 32, 3, 3, 1, "VALID")
        x = self._pool("pool", self._conv("conv_2", x, 64, 3, 3), "MaxPool", 2, "VALID")
        x = self._conv("conv_4", self._conv("conv_3", x, 80, 1, 1, 1, "VALID"), 192, 3, 3, 1, "VALID")
        x = self._pool("pool_1", x, "MaxPool", 2, "VALID")
        for b, pool in (("mixed", 32), ("mixed_1", 64), ("mixed_2", 64)):
            x = self._a(b, x, pool)
        ends = self._conv("mixed_3/conv", x, 384, 3, 3, 2, "VALID"), self._double("mixed_3/tower", x, 2)
        x = self._concat("mixed_3/join", *ends, self._pool("mixed_3/pool", x, "MaxPool", 2, "VALID"))
        for b, c in (("mixed_4", 128), ("mixed_5", 160), ("mixed_6", 160), ("mixed_7", 192)):
            x = self._c(b, x, c)
        y = self._conv("mixed_8/tower/conv_1", self._conv("mixed_8/tower/conv", x, 192, 1, 1), 320, 3, 3, 2, "VALID")
        z = self._conv("mixed_8/tower_1/conv", x, 192, 1, 1)
        z = self._conv("mixed_8/tower_1/conv_2", self._conv("mixed_8/tower_1/conv_1", z, 192, 1, 7), 192, 7, 1)
        z = self._conv("mixed_8/tower_1/conv_3", z, 192, 3, 3, 2, "VALID")
        x = self._concat("mixed_8/join", y, z, self._pool("mixed_8/pool", x, "MaxPool", 2, "VALID"))
        x = self._e("mixed_10", self._e("mixed_9", x, "AvgPool"), "MaxPool")
        self._node("pool_3", "AvgPool", x, **F32, ksize=[1, 8, 8, 1], strides=[1, 1, 1, 1], padding="VALID")
        flat = self._const("pool_3/_reshape/shape", np.array([1, 2048], np.int32))
        self._node("pool_3/_reshape", "Reshape", "pool_3", flat, **F32, Tshape=tf.int32)
        kernel = (self._rng.randn(2048, 1008) / np.sqrt(2048)).astype(np.float32)
        self.fc = kernel, self._rng.randn(1008).astype(np.float32)
        weights, biases = (
            self._const(f"softmax/{part}", a) for part, a in zip(("weights", "biases"), self.fc, strict=True)
        )
        self._node("softmax/logits/MatMul", "MatMul", "pool_3/_reshape", weights, **F32)
        self._node("softmax/logits", "BiasAdd", "softmax/logits/MatMul", biases, **F32)
        self._node("softmax", "Softmax", "softmax/logits", **F32)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The same weights as the state dict of PyTorch's ports."""
        state = {}
        for node, (kernel, mean, variance, beta) in self.convs.items():
            name = torch_name(node)
            state[f"{name}.conv.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
            state[f"{name}.bn.weight"], state[f"{name}.bn.bias"] = np.ones_like(beta), beta
            state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"] = mean, variance
            state[f"{name}.bn.num_batches_tracked"] = np.zeros((), np.int64)
        return state | {"fc.weight": np.ascontiguousarray(self.fc[0].T), "fc.bias": self.fc[1]}

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(features [N, 2048], probabilities [N, 1008]) by TensorFlow running the graph as it is, image by image."""
        with tf.Graph().as_default(), create_session() as session:
            ends = tf.import_graph_def(self.graph, return_elements=["pool_3:0", "softmax:0"], name="")
            feeds = [{"ExpandDims:0": image[None].transpose(0, 2, 3, 1)} for image in images]
            features, probabilities = zip(*(session.run(ends, feed) for feed in feeds), strict=True)
            return np.concatenate(features).reshape(-1, 2048), np.concatenate(probabilities)
