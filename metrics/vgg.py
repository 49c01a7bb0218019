"""Features of VGG16 for precision and recall, and LPIPS, the perceptual distance in VGG16.

Both take their convolutions from torchvision's weights. What is known of the published feature network of precision and
recall is its output, 4096 numbers after the second dense layer; that images are brought to 224 x 224 by TensorFlow's
bilinear resize without antialiasing, and that pixels are normalised as torchvision's weights want it, is how the
independent implementations that report the published numbers do it. The record of a result says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.feature_names import VGG16, VGG16_LPIPS
from metrics.layers import Constants
from metrics.perceptual import perceptual_embedding
from metrics.vgg_network import STAGES, load_layers, normalize, stages
from metrics.weight_files import WeightFile, pick, read_weight_file
from metrics.weights import WeightSource

INPUT_SIZE = 224
NUM_FEATURES = 4096

_GRID = INPUT_SIZE // 32
_MIN_SIZE = 16  # the pools of LPIPS leave one pixel


class Vgg16:
    """Features after the second dense layer and its ReLU.

    source: torchvision's state dict `vgg16-397923af.pth`, its tensors in another container, or the published network
    pickle (layers by order; the first dense layer taken to read channels first). Raises `UserError`.
    """

    name = VGG16
    outputs = ("features",)
    num_features = NUM_FEATURES

    def __init__(self, source: WeightSource) -> None:
        file = read_weight_file(source)
        self.weights_sha256 = file.sha256
        dense = {
            "classifier.0": (STAGES[-1][-1] * _GRID**2, NUM_FEATURES),
            "classifier.3": (NUM_FEATURES, NUM_FEATURES),
        }
        self._layers, _ = load_layers(file, dense)
        self._constants = Constants()

    def resize_name(self, height: int, width: int) -> str:
        """What happens to the size of images, for the record of a result."""
        done = (height, width) == (INPUT_SIZE, INPUT_SIZE)
        return "none" if done else f"bilinear (TensorFlow 2015) to {INPUT_SIZE}x{INPUT_SIZE}"

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """Features float32 [N, 4096] of images float32 [N, 3, H, W] in 0..255.

        Adds constants (537 MB, of which 411 are shared by all devices) and no variables to the graph. While a session
        takes in such a graph, it needs about 8 GB of the host's memory.
        """
        with tf.name_scope("Vgg16"):
            constant = self._constants.here()
            x = normalize(images)
            x = tf.image.resize_bilinear(x, [INPUT_SIZE] * 2, align_corners=False, half_pixel_centers=False)
            *_, x = stages(x, self._layers, constant)
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
            # The dense layer was trained on rows of all pixels of one channel after the other.
            x = tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [-1, STAGES[-1][-1] * _GRID**2])
            for name in ("classifier.0", "classifier.3"):
                kernel, bias = (constant(f"{name}/{part}", a) for part, a in self._layers[name]._asdict().items())
                x = tf.nn.relu(tf.matmul(x, kernel) + bias)
            return x


class Vgg16Lpips:
    """LPIPS of version 0.1 with VGG16, as an embedding whose squared distance it is. It gives no other features.

    source: the published network pickle, or the state dict of an LPIPS module, which hold everything; or VGG16 of
    torchvision, and then linear: says where the state dict of linear weights from the package lpips is
    (weights/v0.1/vgg.pth). Raises `UserError`.
    """

    name = VGG16_LPIPS
    outputs = ("perceptual",)
    num_features = 0

    def __init__(self, source: WeightSource, linear: Callable[[], WeightSource]) -> None:
        file = read_weight_file(source)
        self._layers, rest = load_layers(file, {})
        self.weights_sha256 = file.sha256
        if _has_linear(rest):
            self._linear = _linear_weights(rest)
        else:
            other = read_weight_file(linear())
            self._linear = _linear_weights(other)
            self.weights_sha256 = hashlib.sha256(f"{file.sha256} {other.sha256}".encode()).hexdigest()
        self._constants = Constants()

    def resize_name(self, height: int, width: int) -> str:
        """What happens to the size of images, for the record of a result: nothing."""
        return "none"

    def num_embedding(self, height: int, width: int) -> int:
        """Length E of the embedding of images of this size."""
        return sum(stage[-1] * (height >> i) * (width >> i) for i, stage in enumerate(STAGES))

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """Raises `UserError`: distances are all that this network is for."""
        raise UserError(f"{self.name} measures perceptual distances and gives no features: use {VGG16} for these")

    def perceptual(self, images: tf.Tensor) -> tf.Tensor:
        """Embeddings float32 [N, E] of images float32 [N, 3, H, W] in 0..255 (H, W static, at least 16).

        The squared distance of two rows is the LPIPS of their images. Adds constants (59 MB per device) and no
        variables to the graph.
        """
        height, width = images.shape[2:].as_list()
        if min(height, width) < _MIN_SIZE:
            raise UserError(f"LPIPS needs images of {_MIN_SIZE} pixels at least, found {height}x{width}")
        with tf.name_scope("Lpips"):
            activations = list(stages(normalize(images), self._layers, self._constants.here()))
            return perceptual_embedding(activations, self._linear)


def _has_linear(file: WeightFile) -> bool:
    if any(name.startswith("lin0.") for name in file.tensors):
        return True
    # After the layers of a network pickle, vectors in order; VGG16's own classifier is larger and has other sizes.
    return file.kind == "network pickle" and len(_vectors(file)) == len(STAGES)


def _vectors(file: WeightFile) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for value in file.tensors.values():
        if len(found) < len(STAGES) and value.size == STAGES[len(found)][-1]:
            found.append(value.reshape(-1))
    return found


def _linear_weights(file: WeightFile) -> list[np.ndarray]:
    """Weights [C] of the channels of each stage. Raises `UserError` if one is missing or negative."""
    if file.kind == "network pickle":
        weights = _vectors(file)
    else:
        names = [f"lin{index}.model.1.weight" for index in range(len(STAGES))]
        expected = {name: (1, stage[-1], 1, 1) for name, stage in zip(names, STAGES, strict=True)}
        weights = [value.reshape(-1) for value in pick(file, expected, "LPIPS").values()]
    for index, weight in enumerate(weights):
        if not (np.isfinite(weight).all() and (weight >= 0).all()):
            raise UserError(f"{file.place}: linear weights {index} of LPIPS are not all >= 0; expected those of v0.1")
    return weights
