"""What happens to every image of a minibatch: all random numbers of the pipeline (ADA paper, appendix B).

A parameter that is not applied to an image has the value that changes nothing, so the operations need no conditions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from dnnlib.tflib.tfutil import tf
from training.config_augment import OPERATIONS

# Standard deviations and ranges (ADA paper, figure 19 and following; relative to the size of images where lengths).
XINT_MAX = 0.125
SCALE_STD = 0.2  # of log2
ANISO_STD = 0.2  # of log2
XFRAC_STD = 0.125
BRIGHTNESS_STD = 0.2  # images have values in [-1, 1]
CONTRAST_STD = 0.5  # of log2
SATURATION_STD = 1.0  # of log2
FILTER_STD = 1.0  # of log2
NOISE_STD = 0.1
CUTOUT_SIZE = 0.5
NUM_BANDS = 4


@dataclass(frozen=True)
class Parameters:
    """One row per image, float32 tensors (or arrays) [N] unless said otherwise.

    flip: 1 mirrors left-right; quarter_turns: 0..3; xint, xfrac [N, 2]: shifts (x, y) relative to the image's size,
    xint rounded to whole pixels; log2_scale, log2_aniso: zoom, stretch; rotate_pre, rotate_post: radians; brightness:
    added; log2_contrast, log2_saturation: factors; lumaflip: 1 inverts brightness; hue: radians; log2_bands [N, 4]:
    gains of four frequency bands; noise_sigma; cutout [N, 3]: centre (x, y) in [0, 1] and size, relative.
    """

    flip: Any
    quarter_turns: Any
    xint: Any
    log2_scale: Any
    rotate_pre: Any
    log2_aniso: Any
    rotate_post: Any
    xfrac: Any
    brightness: Any
    log2_contrast: Any
    lumaflip: Any
    hue: Any
    log2_saturation: Any
    log2_bands: Any
    noise_sigma: Any
    cutout: Any


def neutral(n: int) -> dict[str, np.ndarray]:
    """Fields of `Parameters` that change nothing: float32 arrays for n images."""
    width = {"xint": 2, "xfrac": 2, "log2_bands": NUM_BANDS, "cutout": 3}
    return {f.name: np.zeros([n, width[f.name]] if f.name in width else [n], np.float32) for f in fields(Parameters)}


# Rows of the blocks of random numbers. What is not in use is drawn all the same: the numbers of one operation do not
# depend on which others are on.
_GATES = (
    *(name for name in OPERATIONS if name not in ("rotate", "imgfilter")),
    "rotate_pre", "rotate_post", *(f"band{i}" for i in range(NUM_BANDS)),
)  # fmt: skip
_UNIFORMS = (
    "xflip", "rotate90", "xint_x", "xint_y", "rotate_pre", "rotate_post", "lumaflip", "hue", "cutout_x", "cutout_y",
)  # fmt: skip
_NORMALS = (
    "scale", "aniso", "xfrac_x", "xfrac_y", "brightness", "contrast", "saturation", "noise",
    *(f"band{i}" for i in range(NUM_BANDS)),
)  # fmt: skip


def draw_parameters(n: Any, p: Any, operations: Mapping[str, float], rng: Any) -> Parameters:
    """Random parameters for n images.

    Args:
        n: number of images, an integer or a scalar tensor.
        p: probability of every operation, scalar in [0, 1].
        operations: names of operations in use -> factor on p for each.
        rng: a `RandomSource`; draws `gates`, `uniforms` and `normals`.
    """
    gates = dict(zip(_GATES, tf.unstack(rng.uniform("gates", [len(_GATES), n]), num=len(_GATES)), strict=True))
    u = dict(zip(_UNIFORMS, tf.unstack(rng.uniform("uniforms", [len(_UNIFORMS), n]), num=len(_UNIFORMS)), strict=True))
    z = dict(zip(_NORMALS, tf.unstack(rng.normal("normals", [len(_NORMALS), n]), num=len(_NORMALS)), strict=True))
    p = tf.convert_to_tensor(p, tf.float32)
    zeros = tf.zeros([n])

    def gated(operation: str, value: tf.Tensor, gate: str = "", probability: Any = None) -> tf.Tensor:
        """`value` [N] where the operation is applied, else 0; nothing is computed for those not in use."""
        if operation not in operations:
            return zeros
        if probability is None:
            probability = p * np.float32(operations[operation])
        return tf.where(gates[gate or operation] < probability, value, zeros)

    def pair(operation: str, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.stack([gated(operation, x), gated(operation, y)], axis=1)

    # Two rotations, before and after the stretch: either happens with this probability, both or one with p.
    p_rotate = 1 - tf.sqrt(1 - tf.minimum(p * np.float32(operations.get("rotate", 0.0)), 1.0))
    angle = {name: (2 * u[name] - 1) * np.float32(np.pi) for name in ("rotate_pre", "rotate_post", "hue")}
    size = gated("cutout", tf.fill([n], np.float32(CUTOUT_SIZE)))
    return Parameters(
        flip=gated("xflip", tf.floor(2 * u["xflip"])),
        quarter_turns=gated("rotate90", tf.floor(4 * u["rotate90"])),
        xint=pair("xint", *((2 * u[f"xint_{axis}"] - 1) * np.float32(XINT_MAX) for axis in "xy")),
        log2_scale=gated("scale", z["scale"] * np.float32(SCALE_STD)),
        rotate_pre=gated("rotate", angle["rotate_pre"], "rotate_pre", p_rotate),
        log2_aniso=gated("aniso", z["aniso"] * np.float32(ANISO_STD)),
        rotate_post=gated("rotate", angle["rotate_post"], "rotate_post", p_rotate),
        xfrac=pair("xfrac", *(z[f"xfrac_{axis}"] * np.float32(XFRAC_STD) for axis in "xy")),
        brightness=gated("brightness", z["brightness"] * np.float32(BRIGHTNESS_STD)),
        log2_contrast=gated("contrast", z["contrast"] * np.float32(CONTRAST_STD)),
        lumaflip=gated("lumaflip", tf.floor(2 * u["lumaflip"])),
        hue=gated("hue", angle["hue"]),
        log2_saturation=gated("saturation", z["saturation"] * np.float32(SATURATION_STD)),
        log2_bands=tf.stack(
            [gated("imgfilter", z[f"band{i}"] * np.float32(FILTER_STD), f"band{i}") for i in range(NUM_BANDS)], axis=1
        ),
        noise_sigma=gated("noise", tf.abs(z["noise"]) * np.float32(NOISE_STD)),
        cutout=tf.stack([u["cutout_x"], u["cutout_y"], size], axis=1),
    )
