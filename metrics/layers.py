"""Layers of feature networks: weights as constants, batch norms folded into convolutions, channels last.

Channels last is what oneDNN runs fast, and what TensorFlow turns into the GPU's layout by itself.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dnnlib.tflib.tfutil import tf

_SHARED_BYTES = 100 << 20


class Layer(NamedTuple):
    """A convolution (kernel [h, w, in, out]) or dense layer (kernel [in, out]) with its bias [out], float32."""

    kernel: np.ndarray
    bias: np.ndarray


def fold_batch_norm(
    kernel: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    beta: np.ndarray,
    gamma: np.ndarray | None,
    epsilon: float,
) -> Layer:
    """The layer that does what a convolution (kernel [h, w, in, out]) and its batch norm do.

    gamma (w * x - mean) / sqrt(variance + epsilon) + beta, worked out in float64; no gamma is a gamma of 1.
    """
    scale = 1 / np.sqrt(variance.astype(np.float64) + epsilon)
    if gamma is not None:
        scale = scale * gamma
    return Layer((kernel * scale).astype(np.float32), (beta - mean * scale).astype(np.float32))


class Constants:
    """Arrays as constants of a graph, each once per device, so that towers of one device share them.

    What is over 100 MB (one matrix of VGG16) is there once for all devices: a graph may not exceed 2 GB, and every
    constant counts.
    """

    def __init__(self) -> None:
        # Names, because tensors would keep their graph alive.
        self._graphs: weakref.WeakKeyDictionary[tf.Graph, dict[tuple[str, str], str]] = weakref.WeakKeyDictionary()

    def here(self) -> Callable[[str, np.ndarray], tf.Tensor]:
        """A function (name, array) -> constant for the graph and device that are current now."""
        graph = tf.get_default_graph()
        made = self._graphs.setdefault(graph, {})
        with tf.control_dependencies(None):
            here = tf.no_op(name="device_of_constants").device

        def constant(name: str, value: np.ndarray) -> tf.Tensor:
            device = "" if value.nbytes > _SHARED_BYTES else here
            if (name, device) not in made:
                with tf.control_dependencies(None):
                    made[name, device] = tf.constant(value, name=name.replace("/", "_").lstrip("_")).name
            return graph.get_tensor_by_name(made[name, device])

        return constant


class MadeOnce:
    """Tensors of a graph that several outputs of a network need, each made once for the same images."""

    def __init__(self) -> None:
        self._graphs: weakref.WeakKeyDictionary[tf.Graph, dict[str, str]] = weakref.WeakKeyDictionary()

    def __call__(self, images: tf.Tensor, make: Callable[[], tf.Tensor]) -> tf.Tensor:
        """What `make` gave the first time that it was asked about these images."""
        graph = tf.get_default_graph()
        made = self._graphs.setdefault(graph, {})
        if images.name not in made:
            made[images.name] = make().name
        return graph.get_tensor_by_name(made[images.name])
