"""Weights of Inception-v3 from files of every kind, brought into the one form of `metrics.inception_network`.

Frozen graphs and PyTorch's files name their weights. The published network pickles may name them in any way: if none of
the known names is there, convolutions are taken in the order of the file, which must be that of the table and of the
graph (shapes are compared, but two neighbours of one shape could not be told apart).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.inception_network import BLOCKS, CONVS, NUM_CLASSES, NUM_FEATURES, Conv
from metrics.layers import Layer, fold_batch_norm
from metrics.ordered_weights import layers_in_order
from metrics.weight_files import WeightFile, pick

EPSILON = 1e-3
_WHAT = "Inception-v3 of 2015-12-05"


class InceptionWeights(NamedTuple):
    """layers: by `Conv.name`; classifier: kernel [2048, 1008] and bias, None if the file has none."""

    layers: dict[str, Layer]
    classifier: Layer | None


def inception_weights(file: WeightFile) -> InceptionWeights:
    """The weights in a file. Raises `UserError`: something is missing or has another shape."""
    if file.graph is not None:
        return _from_graph(file.graph, file.place)
    if f"{CONVS[0].name}.conv.weight" in file.tensors:
        return _from_pytorch(file)
    if f"{CONVS[0].node}/conv2d_params" in file.tensors:
        return _from_node_names(file)
    kernels = [conv.kernel for conv in CONVS]
    layers, rest = layers_in_order(file, [c.name for c in CONVS], kernels, EPSILON, _WHAT)
    classifier, _ = layers_in_order(rest, ["fc"], [(NUM_FEATURES, NUM_CLASSES)], EPSILON, _WHAT, optional=True)
    return InceptionWeights(layers, classifier.get("fc"))


def _from_pytorch(file: WeightFile) -> InceptionWeights:
    expected: dict[str, tuple[int, ...]] = {}
    for conv in CONVS:
        height, width, inner, out = conv.kernel
        expected[f"{conv.name}.conv.weight"] = (out, inner, height, width)
        expected |= {f"{conv.name}.bn.{part}": (out,) for part in ("weight", "bias", "running_mean", "running_var")}
    has_classifier = "fc.weight" in file.tensors
    if has_classifier:
        expected |= {"fc.weight": (NUM_CLASSES, NUM_FEATURES), "fc.bias": (NUM_CLASSES,)}
    arrays = pick(file, expected, _WHAT)
    layers = {}
    for conv in CONVS:
        gamma, beta, mean, variance = (
            arrays[f"{conv.name}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        kernel = arrays[f"{conv.name}.conv.weight"].transpose(2, 3, 1, 0)
        layers[conv.name] = fold_batch_norm(kernel, mean, variance, beta, gamma, EPSILON)
    classifier = Layer(np.ascontiguousarray(arrays["fc.weight"].T), arrays["fc.bias"]) if has_classifier else None
    return InceptionWeights(layers, classifier)


def _from_node_names(file: WeightFile) -> InceptionWeights:
    """Arrays named like the constants of the graph; there, batch norms have a gamma that they do not use."""
    expected: dict[str, tuple[int, ...]] = {}
    parts = ("moving_mean", "moving_variance", "beta")
    for conv in CONVS:
        expected[f"{conv.node}/conv2d_params"] = conv.kernel
        expected |= {f"{conv.node}/batchnorm/{part}": conv.kernel[3:] for part in parts}
    has_classifier = "softmax/weights" in file.tensors
    if has_classifier:
        expected |= {"softmax/weights": (NUM_FEATURES, NUM_CLASSES), "softmax/biases": (NUM_CLASSES,)}
    arrays = pick(file, expected, _WHAT)
    layers = {}
    for conv in CONVS:
        mean, variance, beta = (arrays[f"{conv.node}/batchnorm/{part}"] for part in parts)
        kernel = arrays[f"{conv.node}/conv2d_params"]
        layers[conv.name] = fold_batch_norm(kernel, mean, variance, beta, None, EPSILON)
    classifier = Layer(arrays["softmax/weights"], arrays["softmax/biases"]) if has_classifier else None
    return InceptionWeights(layers, classifier)


def _from_graph(graph: tf.GraphDef, place: str) -> InceptionWeights:
    reader = _GraphReader(graph)
    try:
        for index, block in enumerate(BLOCKS):
            reader.check_pools(f"mixed_{index}" if index else "mixed", [branch.pool for branch in block])
        layers = {conv.name: reader.convolution(conv) for conv in CONVS}
        return InceptionWeights(layers, reader.classifier())
    except UserError as err:
        raise UserError(f"{place}: {err}") from None


class _GraphReader:
    """Finds weights by walking from a layer's last node back to its constants."""

    def __init__(self, graph: tf.GraphDef) -> None:
        self._nodes = {node.name: node for node in graph.node}

    def _node(self, reference: str) -> tf.NodeDef:
        name = reference.removeprefix("^").split(":")[0]
        if name not in self._nodes:
            raise UserError(f"the graph has no node {name!r}")
        return self._nodes[name]

    def _constant(self, reference: str, shape: tuple[int, ...]) -> np.ndarray:
        node = self._node(reference)
        for _ in range(3):  # frozen variables are read through an Identity
            if node.op != "Identity":
                break
            node = self._node(node.input[0])
        if node.op != "Const":
            raise UserError(f"the node {node.name!r} is a {node.op}, expected a constant")
        try:
            value = tf.make_ndarray(node.attr["value"].tensor)
        except (TypeError, ValueError) as err:
            raise UserError(f"the constant {node.name!r} is damaged: {err}") from err
        if value.shape != shape or value.dtype != np.float32 or not np.isfinite(value).all():
            found = f"{value.dtype} {list(value.shape)}"
            raise UserError(f"the constant {node.name!r} is {found}, expected finite float32 {list(shape)}")
        return value

    def check_pools(self, block: str, pools: list[str]) -> None:
        """Raises `UserError` if a pool of a block is missing or of another kind."""
        for pool in filter(None, pools):
            node = self._node(f"{block}/pool" if pool == "max/2" else f"{block}/tower_2/pool")
            op = "AvgPool" if pool == "avg" else "MaxPool"
            if node.op != op:
                raise UserError(f"the node {node.name!r} is a {node.op}, expected {op}")

    def convolution(self, conv: Conv) -> Layer:
        """The layer that ends in the node of that name, with any batch norm or bias folded in."""
        out = conv.kernel[3:]
        node = self._node(conv.node)
        if node.op != "Relu":
            node = self._node(f"{conv.node}/Relu")
        norm, bias = None, np.zeros(out, np.float32)
        for _ in range(8):
            node = self._node(node.input[0])
            if node.op in ("Identity", "CheckNumerics"):
                continue
            if node.op == "BatchNormWithGlobalNormalization" and norm is None:
                mean, variance, beta, gamma = (self._constant(name, out) for name in node.input[1:5])
                scaled = node.attr["scale_after_normalization"].b
                norm = (mean, variance, beta, gamma if scaled else None, node.attr["variance_epsilon"].f)
            elif node.op in ("FusedBatchNorm", "FusedBatchNormV3") and norm is None:
                gamma, beta, mean, variance = (self._constant(name, out) for name in node.input[1:5])
                norm = (mean, variance, beta, gamma, node.attr["epsilon"].f)
            elif node.op in ("BiasAdd", "Add", "AddV2") and norm is None and not bias.any():
                bias = self._constant(node.input[1], out)
            elif node.op == "Conv2D":
                return self._finish(conv, node, norm, bias)
            else:
                break
        raise UserError(f"the node {node.name!r} is a {node.op}, expected what follows the convolution {conv.node}")

    def _finish(self, conv: Conv, node: tf.NodeDef, norm: tuple | None, bias: np.ndarray) -> Layer:
        strides, padding = list(node.attr["strides"].list.i), node.attr["padding"].s.decode(errors="replace")
        # Without padding to do, both kinds are the same.
        same = padding == conv.padding or conv.kernel[:2] == (1, 1)
        if strides != [1, conv.stride, conv.stride, 1] or not same:
            raise UserError(
                f"the convolution {node.name!r} has strides {strides} and padding {padding}, expected "
                f"{conv.stride} and {conv.padding}"
            )
        kernel = self._constant(node.input[1], conv.kernel)
        return Layer(kernel, bias) if norm is None else fold_batch_norm(kernel, *norm)

    def classifier(self) -> Layer | None:
        """The last layer, if the graph has one under the published names."""
        if not {"softmax/weights", "softmax/biases"} <= self._nodes.keys():
            return None
        kernel = self._constant("softmax/weights", (NUM_FEATURES, NUM_CLASSES))
        return Layer(kernel, self._constant("softmax/biases", (NUM_CLASSES,)))
