"""The discriminator's top block, added and taken off (`training.surgery.resize` says what that keeps).

Added to architectures orig and resnet it is a linear map, the downsampling of the image, followed by what FromRGB was:
pairs of feature maps (x, -x) carry every colour through the leaky ReLUs (`training.surgery.equalized`).
"""

from __future__ import annotations

import math

import numpy as np

from dnnlib.snapshot import NetworkState
from training.surgery.equalized import GAIN, PAIR, SLOPE, effective, stored
from training.surgery.states import Fresh, Variables, flat_variables, option, resolution_of

_ROOT_HALF = math.sqrt(0.5)  # weight of both branches in residual blocks


def grow_discriminator(state: NetworkState, count: int, fresh: Fresh) -> tuple[Variables, str]:
    """(variables with a block of `count` feature maps on top, what is kept of the function)."""
    values = flat_variables(state)
    top = 2 * resolution_of(state)
    old, block = f"{top // 2}x{top // 2}", f"{top}x{top}"
    architecture = option(state, "architecture", "resnet")
    weight, bias = values[f"{old}/FromRGB/weight"], values[f"{old}/FromRGB/bias"]
    colors, below = weight.shape[2:]

    new: Variables = {}
    for layer, size in (("FromRGB", (1, 1, colors, count)), ("Conv0", (3, 3, count, count))):
        new[f"{block}/{layer}/weight"] = fresh.normal(f"{block}/{layer}/weight", *size)
        new[f"{block}/{layer}/bias"] = np.zeros(count, np.float32)
    new[f"{block}/Conv1_down/weight"] = fresh.normal(f"{block}/Conv1_down/weight", 3, 3, count, below)
    new[f"{block}/Conv1_down/bias"] = np.zeros(below, np.float32)
    if architecture == "resnet":
        new[f"{block}/Skip/weight"] = np.zeros([1, 1, count, below], np.float32)

    note = "function kept: scores are those of the images downsampled"
    if architecture == "skip":
        # FromRGB of the block below still sees the downsampled image; the new block adds nothing yet.
        new[f"{block}/Conv1_down/weight"][:] = 0
        return {**new, **values}, note
    del values[f"{old}/FromRGB/weight"], values[f"{old}/FromRGB/bias"]
    if option(state, "nonlinearity", "lrelu") != "lrelu" or count < 2 * colors:
        if architecture == "resnet":
            new[f"{block}/Skip/weight"] = fresh.normal(f"{block}/Skip/weight", 1, 1, count, below)
        reason = f"that takes lrelu and {2 * colors} feature maps in the new block, it has {count}"
        return {**new, **values}, f"function not kept: {reason}; the block starts anew"
    _carry_colors(new, block, effective(weight)[0, 0], bias, _ROOT_HALF if architecture == "resnet" else 1.0)
    clamp = option(state, "conv_clamp", None)
    if clamp is not None:
        note += f", as long as activations stay below conv_clamp {clamp}"
    return {**new, **values}, note


def _carry_colors(new: Variables, block: str, from_rgb: np.ndarray, bias: np.ndarray, branch: float) -> None:
    """Writes into a fresh block: maps 2k and 2k + 1 carry +colour k and -colour k, Conv1_down does what FromRGB did.

    from_rgb: [colors, below], the weight as used; branch: what the block multiplies its convolutions by.
    """
    colors = from_rgb.shape[0]
    plus, minus = np.arange(colors) * 2, np.arange(colors) * 2 + 1
    pairs = 2 * colors

    w = np.zeros([colors, pairs])
    w[np.arange(colors), plus], w[np.arange(colors), minus] = 1, -1
    new[f"{block}/FromRGB/weight"][..., :pairs] = stored(w)

    conv0 = new[f"{block}/Conv0/weight"]
    conv0[:, :, :, :pairs] = 0
    scale = math.sqrt(np.prod(conv0.shape[:-1])) / PAIR
    for sign_in, source in ((1, plus), (-1, minus)):
        conv0[1, 1, source, plus], conv0[1, 1, source, minus] = sign_in * scale, -sign_in * scale

    conv1 = new[f"{block}/Conv1_down/weight"]
    conv1[:] = 0
    scale = math.sqrt(np.prod(conv1.shape[:-1])) / PAIR / branch
    conv1[1, 1, plus], conv1[1, 1, minus] = scale * from_rgb, -scale * from_rgb
    new[f"{block}/Conv1_down/bias"][:] = bias / branch


def shrink_discriminator(state: NetworkState) -> tuple[Variables, str]:
    """(variables without the top block, what is kept of the function)."""
    values = flat_variables(state)
    top = resolution_of(state)
    block, below = f"{top}x{top}", f"{top // 2}x{top // 2}"
    kept = {name: value for name, value in values.items() if not name.startswith(f"{block}/")}
    architecture = option(state, "architecture", "resnet")
    if architecture == "skip":
        return kept, "function kept as far as FromRGB of the lower blocks carries it"

    # The block with every leaky ReLU at its mean slope, and every filter summed over its taps.
    slope = GAIN * (1 + SLOPE) / 2
    from_rgb, conv0, conv1 = (
        effective(values[f"{block}/{layer}/weight"]).sum((0, 1)) for layer in ("FromRGB", "Conv0", "Conv1_down")
    )
    b, b0, b1 = (values[f"{block}/{layer}/bias"].astype(np.float64) for layer in ("FromRGB", "Conv0", "Conv1_down"))
    weight = slope**2 * from_rgb @ conv0 @ conv1
    bias = (slope**2 * b @ conv0 + slope * b0) @ conv1 + b1
    if architecture == "resnet":
        skip = effective(values[f"{block}/Skip/weight"])[0, 0]
        weight, bias = _ROOT_HALF * (weight + from_rgb @ skip), _ROOT_HALF * (bias + b @ skip)
    kept = {f"{below}/FromRGB/bias": bias.astype(np.float32), **kept}
    kept = {f"{below}/FromRGB/weight": stored(weight[None, None]), **kept}
    return kept, "function of grown networks restored; of others FromRGB is the top block's linear part"
