"""Inception-v3 as released on 2015-12-05 (Szegedy et al., arXiv:1512.00567), the network of published FID numbers.

It differs from later releases in what numbers depend on: average pools count no padding, the pool of the last block
takes the maximum, there are 1008 classes, images are enlarged by the bilinear resize of 2015 (corners not aligned, a
pixel's place is its corner, no antialiasing), and pixels become (x - 128) / 128.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from dnnlib.tflib.tfutil import tf
from metrics.layers import Layer

INPUT_SIZE = 299
NUM_FEATURES = 2048
NUM_CLASSES = 1008

# One row per block: names in PyTorch and in the graph, then branches `name: channels@kernel/stride ...`; a branch may
# begin with a pool, and `a|b` are two convolutions of the same input. Branches and forks are concatenated in order.
_A = "branch1x1: 64@1x1; branch5x5: 48@1x1 64@5x5; branch3x3dbl: 64@1x1 96@3x3 96@3x3; branch_pool: avg {}@1x1"
_B = "branch3x3: 384@3x3/2; branch3x3dbl: 64@1x1 96@3x3 96@3x3/2; pool: max/2"
_C = (
    "branch1x1: 192@1x1; branch7x7: {0}@1x1 {0}@1x7 192@7x1; "
    "branch7x7dbl: {0}@1x1 {0}@7x1 {0}@1x7 {0}@7x1 192@1x7; branch_pool: avg 192@1x1"
)
_D = "branch3x3: 192@1x1 320@3x3/2; branch7x7x3: 192@1x1 192@1x7 192@7x1 192@3x3/2; pool: max/2"
_E = (
    "branch1x1: 320@1x1; branch3x3: 384@1x1 384@1x3|384@3x1; branch3x3dbl: 448@1x1 384@3x3 384@1x3|384@3x1; "
    "branch_pool: {} 192@1x1"
)
_BLOCKS = (
    ("Mixed_5b", "mixed", _A.format(32)),
    ("Mixed_5c", "mixed_1", _A.format(64)),
    ("Mixed_5d", "mixed_2", _A.format(64)),
    ("Mixed_6a", "mixed_3", _B),
    ("Mixed_6b", "mixed_4", _C.format(128)),
    ("Mixed_6c", "mixed_5", _C.format(160)),
    ("Mixed_6d", "mixed_6", _C.format(160)),
    ("Mixed_6e", "mixed_7", _C.format(192)),
    ("Mixed_7a", "mixed_8", _D),
    ("Mixed_7b", "mixed_9", _E.format("avg")),
    ("Mixed_7c", "mixed_10", _E.format("max")),
)


class Conv(NamedTuple):
    """A convolution with batch norm and ReLU. name: in PyTorch; node: in the graph; kernel: [h, w, in, out]."""

    name: str
    node: str
    kernel: tuple[int, int, int, int]
    stride: int
    padding: str


class Branch(NamedTuple):
    """A pool (`avg`, `max`, `max/2`, or none), convolutions in a row, then convolutions side by side."""

    pool: str
    row: tuple[Conv, ...]
    fork: tuple[Conv, ...]


STEM = (
    (Conv("Conv2d_1a_3x3", "conv", (3, 3, 3, 32), 2, "VALID"), ""),
    (Conv("Conv2d_2a_3x3", "conv_1", (3, 3, 32, 32), 1, "VALID"), ""),
    (Conv("Conv2d_2b_3x3", "conv_2", (3, 3, 32, 64), 1, "SAME"), "max/2"),
    (Conv("Conv2d_3b_1x1", "conv_3", (1, 1, 64, 80), 1, "VALID"), ""),
    (Conv("Conv2d_4a_3x3", "conv_4", (3, 3, 80, 192), 1, "VALID"), "max/2"),
)


def _conv(name: str, node: str, text: str, channels: int) -> Conv:
    """`64@3x3/2` after so many channels."""
    out, _, size = text.partition("@")
    size, _, stride = size.partition("/")
    height, width = map(int, size.split("x"))
    return Conv(name, node, (height, width, channels, int(out)), int(stride or 1), "VALID" if stride else "SAME")


def _block(name: str, node: str, text: str, channels: int) -> tuple[tuple[Branch, ...], int]:
    """The branches of a row of the table, and the channels of their concatenation."""
    branches, towers, total = [], 0, 0
    for part in text.split("; "):
        title, _, steps = part.partition(": ")
        words = steps.split()
        pool = words.pop(0) if "@" not in words[0] else ""
        if not words:
            branches.append(Branch(pool, (), ()))
            total += channels
            continue
        # In the graph a lone convolution belongs to the block itself, others to numbered towers.
        alone = len(words) == 1 and not pool
        tower = node if alone else f"{node}/tower" + (f"_{towers}" if towers else "")
        towers += not alone
        row, fork, inner = [], [], channels
        for index, word in enumerate(words):
            suffix = "" if len(words) == 1 else f"_{index + 1}"
            sides = word.split("|")
            if len(sides) == 1:
                place = f"{tower}/conv" + (f"_{index}" if index else "")
                row.append(_conv(f"{name}.{title}{suffix}", place, word, inner))
                inner = row[-1].kernel[3]
            else:
                for side, letter, number in zip(sides, "ab", ("", "_1"), strict=True):
                    place = f"{tower}/mixed/conv{number}"
                    fork.append(_conv(f"{name}.{title}{suffix}{letter}", place, side, inner))
        total += sum(conv.kernel[3] for conv in fork) or inner
        branches.append(Branch(pool, tuple(row), tuple(fork)))
    return tuple(branches), total


def _blocks() -> tuple[tuple[Branch, ...], ...]:
    blocks, channels = [], STEM[-1][0].kernel[3]
    for name, node, text in _BLOCKS:
        branches, channels = _block(name, node, text, channels)
        blocks.append(branches)
    return tuple(blocks)


BLOCKS = _blocks()

#: All convolutions in the order of the table.
CONVS = (
    *(conv for conv, _ in STEM),
    *(conv for block in BLOCKS for branch in block for conv in (*branch.row, *branch.fork)),
)


def _pool(x: tf.Tensor, kind: str) -> tf.Tensor:
    if kind == "max/2":
        return tf.nn.max_pool2d(x, 3, 2, "VALID")
    # Both of TensorFlow's pools leave padding out of account.
    return (tf.nn.avg_pool2d if kind == "avg" else tf.nn.max_pool2d)(x, 3, 1, "SAME")


def pooled_features(
    images: tf.Tensor, layers: Mapping[str, Layer], constant: Callable[[str, np.ndarray], tf.Tensor]
) -> tf.Tensor:
    """Features float32 [N, 2048] of images float32 [N, 3, H, W] in 0..255.

    layers: by `Conv.name`, batch norms folded in; constant: of `metrics.layers.Constants`.
    """

    def conv(x: tf.Tensor, spec: Conv) -> tf.Tensor:
        kernel, bias = (constant(f"{spec.name}/{part}", a) for part, a in layers[spec.name]._asdict().items())
        return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, spec.stride, spec.padding), bias))

    x = tf.transpose(images, [0, 2, 3, 1])
    x = tf.image.resize_bilinear(x, [INPUT_SIZE, INPUT_SIZE], align_corners=False, half_pixel_centers=False)
    x = (x - 128) * (1 / 128)
    for spec, pool in STEM:
        x = conv(x, spec)
        x = _pool(x, pool) if pool else x
    for block in BLOCKS:
        ends = []
        for branch in block:
            y = _pool(x, branch.pool) if branch.pool else x
            for spec in branch.row:
                y = conv(y, spec)
            ends += [conv(y, spec) for spec in branch.fork] or [y]
        x = tf.concat(ends, axis=3)
    return tf.reduce_mean(x, axis=[1, 2])
