"""A generator as a graph for inference: stored noise, no random op, nothing compiled; basis of SavedModel and ONNX."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.snapshot.writer import dump_states
from dnnlib.tflib import pickles, tfutil
from dnnlib.tflib.ops.impl import requested_impl, set_default_impl
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from training.generator import truncate
from training.surgery.states import refuse_growing, resolution_of

# How far another program's images may be from TensorFlow's in float32, relative to their largest value.
TOLERANCE, TOLERANCE_FP16 = 1e-3, 0.03
TAKES = ("z", "w")


@dataclass(frozen=True)
class Inference:
    """Inputs by name, and the images [N, C, H, W] float32 in about [-1, 1], in an open session.

    Inputs: `latents` [N, latent_size] or `dlatents` [N, num_layers, dlatent_size]; `labels` [N, label_size] of
    conditional networks; `psi` [] unless it is baked in. in_float32: images of the values of `sample`, if the graph
    itself computes in float16.
    """

    session: tf.Session
    inputs: dict[str, tf.Tensor]
    images: tf.Tensor
    in_float32: np.ndarray | None = None

    def sample(self, seed: int = 0, count: int = 2) -> dict[str, np.ndarray]:
        """Values for all inputs, to compare programs with."""
        rng = np.random.RandomState(seed)
        values = {}
        for name, tensor in self.inputs.items():
            size = [count, *tensor.shape.as_list()[1:]]
            if name == "psi":
                values[name] = np.array(0.7, np.float32)
            elif name == "labels":
                values[name] = np.eye(size[1], dtype=np.float32)[np.arange(count) % size[1]]
            else:
                values[name] = rng.randn(*size).astype(np.float32)
        return values

    def run(self, values: dict[str, np.ndarray]) -> np.ndarray:
        """Images of these inputs."""
        return self.session.run(self.images, {self.inputs[name]: value for name, value in values.items()})


@contextmanager
def open_inference(
    state: NetworkState, takes: str = "z", psi: float | None = None, fp16: bool = False
) -> Iterator[Inference]:
    """Context manager: the graph of a generator in a session of its own.

    Args:
        state: of G or Gs.
        takes: input `z` (mapped, truncated and drawn) or `w` (drawn as it is).
        psi: truncation baked in; None makes it an input of graphs that take z.
        fp16: the synthesis network computes in float16 but for its first block, as far as published ones may (spec
            2.13); inputs and images stay float32.
    Raises:
        UserError: these do not go together, or the network has no float16 form.
    """
    if takes not in TAKES:
        raise UserError(f"found takes={takes!r}, expected {' or '.join(TAKES)}")
    if takes == "w" and psi is not None:
        raise UserError("psi truncates w when it is made from z; a model that takes w has no use for it")
    precision, in_float32 = {}, None
    if fp16:
        refuse_growing(state, "--fp16", "float16")
        precision = {"num_fp16_res": resolution_of(state).bit_length() - 3, "fp16_dtype": "float16"}
        with open_inference(state, takes, psi) as plain:
            in_float32 = plain.run(plain.sample())
    previous = requested_impl()
    set_default_impl("ref")  # compiled ops would have to travel with the file
    try:
        with tf.Graph().as_default(), tfutil.create_session() as session:
            data = io.BytesIO()
            dump_states(state, data)
            data.seek(0)
            net = pickles.load(data)
            build = _from_latents if takes == "z" else _from_dlatents
            inputs, images = build(net, psi, precision)
            yield Inference(session, inputs, tf.identity(images, name="images"), in_float32)
    finally:
        set_default_impl(previous)


# One convolution for all samples, in the layout that every device computes; stored noise.
_OPTIONS: dict[str, Any] = {"randomize_noise": False, "fused_modconv": False, "data_format": "NHWC"}


def _from_latents(net: Any, psi: float | None, precision: dict[str, Any]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    inputs = {"latents": tf.placeholder(tf.float32, net.input_shapes[0], name="latents")}
    labels = None
    if net.input_shapes[1][1]:
        labels = inputs["labels"] = tf.placeholder(tf.float32, net.input_shapes[1], name="labels")
    if psi is None:
        psi = inputs["psi"] = tf.placeholder(tf.float32, [], name="psi")
    dlatents = net.components.mapping.get_output_for(inputs["latents"], labels)
    cutoff = net.static_kwargs.get("truncation_cutoff")  # as the network itself does
    dlatents = truncate(dlatents, net.find_var("dlatent_avg").value(), psi, cutoff)
    return inputs, _draw(net, dlatents, precision)


def _from_dlatents(net: Any, psi: float | None, precision: dict[str, Any]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    synthesis = net.components.synthesis
    inputs = {"dlatents": tf.placeholder(tf.float32, synthesis.input_shapes[0], name="dlatents")}
    return inputs, _draw(net, inputs["dlatents"], precision)


def _draw(net: Any, dlatents: tf.Tensor, precision: dict[str, Any]) -> tf.Tensor:
    # Of networks of progressive growing the generator as a whole says the level of detail, if it has one.
    grows = "lod" in net.components.synthesis.own_vars and "lod" in net.own_vars
    level = {"lod_in": net.find_var("lod").value()} if grows else {}
    synthesis = net.components.synthesis
    # Low precision that the network was trained in is bfloat16 in this layout, which few programs can run.
    exact = {"num_fp16_res": 0} if synthesis.static_kwargs.get("num_fp16_res") else {}
    return synthesis.get_output_for(dlatents, **{**_OPTIONS, **level, **exact, **precision})


def check_against(inference: Inference, run: Callable[[dict[str, np.ndarray]], np.ndarray], what: str) -> float:
    """Largest difference of another program's images from TensorFlow's in float32, relative to their largest value.

    Raises:
        UserError: it exceeds `TOLERANCE`, or `TOLERANCE_FP16` of graphs that compute in float16.
    """
    values, expected = inference.sample(), inference.in_float32
    most = TOLERANCE if expected is None else TOLERANCE_FP16
    expected = inference.run(values) if expected is None else expected
    worst = float(np.abs(run(values) - expected).max() / max(np.abs(expected).max(), 1.0))
    if not worst <= most:
        raise UserError(f"{what}: its images differ from TensorFlow's by {worst:.2g}, expected at most {most}")
    return worst
