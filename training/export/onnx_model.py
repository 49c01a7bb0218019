"""A generator as ONNX, by tf2onnx; checked by onnxruntime (`pip install '.[export]'`)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError, atomic_write
from training.export.inference import Inference, check_against, open_inference

OPSET = 17  # onnxruntime 1.12 and newer
_MOST_BYTES = (1 << 31) - (1 << 20)  # of one protocol buffer, with room for the graph


def write_onnx(
    state: NetworkState, path: os.PathLike | str, takes: str = "z", psi: float | None = None, fp16: bool = False
) -> float:
    """Writes an ONNX model (names and shapes: `training.export.inference.Inference`), atomically.

    Returns the largest relative difference of its images, drawn by onnxruntime, from the network's.

    Raises:
        UserError: the libraries are missing, the network is too large for one file, or images differ by over 1e-3
            (3e-2 with `fp16`).
    """
    tf2onnx, ort = _libraries()
    with open_inference(state, takes, psi, fp16) as inference:
        graph = tf.graph_util.convert_variables_to_constants(
            inference.session, inference.session.graph.as_graph_def(), [inference.images.op.name]
        )
        if graph.ByteSize() > _MOST_BYTES:
            raise UserError(f"{path}: {graph.ByteSize() >> 20} MiB of weights are too many for one ONNX file (2 GiB)")
        data = _convert(tf2onnx, graph, inference)
        session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
        worst = check_against(inference, lambda values: session.run(["images"], values)[0], str(path))
    with atomic_write(path) as file:
        file.write(data)
    return worst


def _libraries() -> tuple[Any, Any]:
    try:
        import onnxruntime
        import tf2onnx
    except ImportError as err:
        raise UserError(f"ONNX needs {err.name}, which is not installed: pip install '.[export]'") from err
    return tf2onnx, onnxruntime


def _convert(tf2onnx: Any, graph: tf.GraphDef, inference: Inference) -> bytes:
    inputs = {tensor.name: name for name, tensor in inference.inputs.items()}
    model, _ = tf2onnx.convert.from_graph_def(
        graph,
        input_names=list(inputs),
        output_names=[inference.images.name],
        opset=OPSET,
    )
    names = {**inputs, inference.images.name: "images"}
    for value in (*model.graph.input, *model.graph.output):
        value.name = names[value.name]
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model.SerializeToString()


def run_onnx(path: os.PathLike | str, values: dict[str, np.ndarray]) -> np.ndarray:
    """Images [N, C, H, W] that onnxruntime draws with a file that `write_onnx` wrote."""
    _, ort = _libraries()
    return ort.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"]).run(["images"], values)[0]
