"""VGG16 (Simonyan and Zisserman, arXiv:1409.1556, configuration D) and its weights from files.

Pixels are normalised with ImageNet's mean and deviation. The scaling layer of LPIPS does the same: its constants are
those of images in [-1, 1].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from dnnlib.tflib.ops import conv_2d, fused_bias_act
from dnnlib.tflib.tfutil import tf
from metrics.layers import Layer
from metrics.ordered_weights import layers_in_order
from metrics.weight_files import WeightFile, pick

MEAN = (-0.030, -0.088, -0.188)  # of pixels in [-1, 1]
DEVIATION = (0.458, 0.448, 0.450)

#: Output channels of the convolutions (3 x 3) of each stage; a 2 x 2 pool is between stages.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

_WHAT = "VGG16"
_LPIPS_NAME = re.compile(r"net\.slice\d\.(\d+)\.(weight|bias)")


def conv_shapes() -> dict[str, tuple[int, ...]]:
    """Kernels [h, w, in, out] by torchvision's names. ReLUs and pools count in the numbers of these names."""
    shapes, index, channels = {}, 0, 3
    for stage in STAGES:
        for out in stage:
            shapes[f"features.{index}"] = (3, 3, channels, out)
            index, channels = index + 2, out
        index += 1
    return shapes


def load_layers(file: WeightFile, dense: Mapping[str, tuple[int, int]]) -> tuple[dict[str, Layer], WeightFile]:
    """Convolutions and the named dense layers (kernel shapes [in, out]) of a file, and the file without them.

    Names are those of torchvision or of the package lpips; else layers are taken in order. Raises `UserError`.
    """
    shapes = conv_shapes() | dict(dense)
    named = {_LPIPS_NAME.sub(r"features.\1.\2", name): value for name, value in file.tensors.items()}
    if "features.0.weight" not in named:
        # The constants of a scaling layer, if any, are no layer.
        large = {name: value for name, value in named.items() if value.size > 3}
        return layers_in_order(file._replace(tensors=large), list(shapes), list(shapes.values()), 0, _WHAT)
    expected: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        expected[f"{name}.weight"] = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]
        expected[f"{name}.bias"] = shape[-1:]
    arrays = pick(file._replace(tensors=named), expected, _WHAT)
    layers = {}
    for name, shape in shapes.items():
        weight = arrays[f"{name}.weight"]
        kernel = weight.transpose(2, 3, 1, 0) if len(shape) == 4 else weight.T
        layers[name] = Layer(np.ascontiguousarray(kernel), arrays[f"{name}.bias"])
    return layers, file._replace(tensors={k: v for k, v in named.items() if k not in expected})


def normalize(images: tf.Tensor) -> tf.Tensor:
    """float32 [N, 3, H, W] in 0..255 to [N, H, W, 3] of about zero mean and unit deviation."""
    x = tf.transpose(images, [0, 2, 3, 1]) / 127.5 - 1
    return (x - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)


def stages(
    x: tf.Tensor, layers: Mapping[str, Layer], constant: Callable[[str, np.ndarray], tf.Tensor]
) -> Iterator[tf.Tensor]:
    """Activations of the last convolution of each stage, float32 [N, h, w, C], of normalised pixels [N, H, W, 3]."""
    names = iter(name for name in layers if name.startswith("features."))
    for index, stage in enumerate(STAGES):
        if index:
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        for _ in stage:
            name = next(names)
            kernel, bias = (constant(f"{name}/{part}", a) for part, a in layers[name]._asdict().items())
            x = conv_2d(x, kernel, data_format="NHWC")
            x = fused_bias_act(x, bias, act="relu", gain=1, axis=3)
        yield x
