"""Frozen TensorFlow graphs from files: cut to what is needed, checked op by op, and brought up to date."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError

# Arithmetic on tensors. Nothing here reads files, calls Python or holds state.
_ALLOWED_OPS = frozenset(
    {
        "Add", "AvgPool", "BatchNormWithGlobalNormalization", "BiasAdd", "CheckNumerics", "Concat", "ConcatV2", "Const",
        "Conv2D", "ExpandDims", "FusedBatchNorm", "FusedBatchNormV3", "Identity", "MaxPool", "Mul", "Relu", "Reshape",
        "ResizeBilinear", "Rsqrt", "Squeeze", "Sub",
    }
)  # fmt: skip


def parse_graph(data: bytes) -> tf.GraphDef:
    """The graph in the bytes of a `.pb` file. Raises `UserError` if they hold none."""
    graph = tf.GraphDef()
    try:
        graph.ParseFromString(data)
    except DecodeError as err:
        raise UserError(f"not a TensorFlow graph file ({err})") from err
    if not graph.node:
        raise UserError("not a TensorFlow graph file (it has no nodes)")
    return graph


def prepare_graph(graph: tf.GraphDef, input_name: str, output_name: str) -> tf.GraphDef:
    """A graph that computes the node `output_name` from a float32 placeholder in place of the node `input_name`.

    Only nodes on the way are kept. The input may have any batch size and image size, whatever the file was made for.
    Ops that today's TensorFlow has given up are replaced by others with the same result, so that the graph can be
    imported into one that is already there without lowering its version.
    Raises `UserError` if a node is missing, or an op on the way is not plain arithmetic.
    """
    nodes = {node.name: node for node in graph.node}
    for name in (input_name, output_name):
        if name not in nodes:
            raise UserError(f"the graph has no node {name!r}")
    needed, todo, uses_input = {input_name}, [output_name], False
    while todo:
        name = todo.pop()
        uses_input |= name == input_name
        if name in needed:
            continue
        if name not in nodes:
            raise UserError(f"the graph refers to a node {name!r} that it does not have")
        node = nodes[name]
        if node.op not in _ALLOWED_OPS:
            raise UserError(f"the node {name!r} is a {node.op}, which a feature network does not need; refused")
        needed.add(name)
        todo += [_node_of(reference) for reference in node.input if not reference.startswith("^")]
    if not uses_input:
        raise UserError(f"its node {output_name!r} does not depend on {input_name!r}")

    result = tf.GraphDef()
    result.versions.producer = tf.version.GRAPH_DEF_VERSION
    for node in graph.node:
        if node.name not in needed:
            continue
        if node.name == input_name:
            _add_placeholder(result, input_name)
        elif node.op == "BatchNormWithGlobalNormalization":
            _add_batch_norm(result, node)
        else:
            _add_copy(result, node)
    return result


def _node_of(reference: str) -> str:
    return reference.removeprefix("^").split(":")[0]


def _add_placeholder(graph: tf.GraphDef, name: str) -> None:
    node = graph.node.add(name=name, op="Placeholder")
    node.attr["dtype"].type = tf.float32.as_datatype_enum
    node.attr["shape"].shape.unknown_rank = True


def _add_copy(graph: tf.GraphDef, source: tf.NodeDef) -> None:
    node = graph.node.add()
    node.CopyFrom(source)
    node.device = ""
    # Control inputs order the checks for NaN, which are dropped: bytes cannot be NaN, and on a GPU each check waits.
    del node.input[:]
    node.input.extend(reference for reference in source.input if not reference.startswith("^"))
    # Shapes noted when the file was made are those of a batch of one.
    for name in [name for name in node.attr if name.startswith("_")]:
        del node.attr[name]
    if node.op == "CheckNumerics":
        node.op = "Identity"
        del node.attr["message"]


def _add_batch_norm(graph: tf.GraphDef, source: tf.NodeDef) -> None:
    """(t - m) / sqrt(v + eps) * (gamma, if scale_after_normalization) + beta, as the op that replaced it."""
    values, mean, variance, beta, gamma = source.input[:5]
    if not source.attr["scale_after_normalization"].b:
        gamma = f"{source.name}/ones"
        ones = graph.node.add(name=gamma, op="OnesLike", input=[mean])
        ones.attr["T"].type = tf.float32.as_datatype_enum
    node = graph.node.add(name=source.name, op="FusedBatchNormV3", input=[values, gamma, beta, mean, variance])
    for name in ("T", "U"):
        node.attr[name].type = tf.float32.as_datatype_enum
    node.attr["epsilon"].f = source.attr["variance_epsilon"].f
    node.attr["is_training"].b = False
    node.attr["data_format"].s = b"NHWC"
