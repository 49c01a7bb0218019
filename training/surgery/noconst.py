"""From a learned constant to a first block driven by w ("Scaling up StyleGAN2", Noconst), at the same function.

The seed of that text starts the new layers at random and trains until the model has recovered. Here they draw the old
constant at first: the dense layer has weight zero and a random bias, so its output is the same for every w, and the
filters of the upsampling convolution are those that make the constant out of it. They must have norm 1, for
demodulation gives them that in any case (paper section 2.2): the smallest filter that fits is completed by a random
one that sees nothing. Training turns on what depends on w.
"""

from __future__ import annotations

import math

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError
from training.surgery.equalized import GAIN, SLOPE, require_lrelu
from training.surgery.report import Report, compare
from training.surgery.states import (
    Fresh,
    Model,
    Variables,
    flat_variables,
    fmaps_of,
    is_ada,
    is_generator,
    option,
    published_order,
    require_plain,
    synthesis_prefix,
    with_options,
    with_variables,
)

_MOST = 0.7  # norm of the part of a filter that draws the constant


def to_noconst(model: Model, seed: int = 0, keep_function: bool = True) -> tuple[Model, Report]:
    """The model with `noconst` generators; D stays.

    keep_function: draw the old constant at first; otherwise the new layers start at random. Raises `UserError` for
    networks that have no constant, or sides of the first block that are odd.
    """
    fresh = Fresh(seed)

    def change(name: str, state: NetworkState) -> NetworkState:
        return _convert(state, fresh, keep_function, model.path) if is_generator(state) else state

    result = model.map(change)
    report = compare(model, result)
    kept = "function kept: the first block draws the old constant"
    report.notes.append(kept if keep_function else "function not kept: the first block starts anew")
    return result, report


def _convert(state: NetworkState, fresh: Fresh, keep_function: bool, path: str) -> NetworkState:
    require_plain(state, path, "noconst")
    values = flat_variables(state)
    block = f"{synthesis_prefix(state)}4x4"
    if f"{block}/Const/const" not in values:
        raise UserError(f"{path}: {state['name']} has no learned constant; it is a noconst model already")
    if is_ada(state):
        raise UserError(
            f"{path}: {state['name']} is of StyleGAN2-ADA, which knows no noconst; `convert --format tf` first"
        )
    require_lrelu(state, path, "noconst")
    const = values.pop(f"{block}/Const/const")[0].astype(np.float64)  # [maps, height, width]
    if const.shape[1] % 2 or const.shape[2] % 2:
        raise UserError(f"{path}: the first block is {const.shape[1]}x{const.shape[2]}; noconst needs even sides")

    start = fmaps_of(state)(0)
    w_size, maps = values[f"{block}/Conv/mod_weight"].shape
    size = start * (const.shape[1] // 2) * (const.shape[2] // 2)
    dense, up = f"{block}/Dense0", f"{block}/Conv0_up"
    new: Variables = {
        f"{dense}/weight": fresh.normal(f"{dense}/weight", w_size, size),
        f"{dense}/bias": np.zeros(size, np.float32),
        f"{up}/weight": fresh.normal(f"{up}/weight", 3, 3, start, maps),
        f"{up}/mod_weight": fresh.normal(f"{up}/mod_weight", w_size, start),
        f"{up}/mod_bias": np.zeros(start, np.float32),
        f"{up}/noise_strength": np.zeros([], np.float32),
        f"{up}/bias": np.zeros(maps, np.float32),
    }
    if f"{block}/Conv/noise_strength" not in values:
        del new[f"{up}/noise_strength"]
    if keep_function:
        new[f"{dense}/weight"][:] = 0
        new[f"{up}/mod_weight"][:] = 0
        kernel = np.asarray(option(state, "resample_kernel", (1, 3, 3, 1)), np.float64)
        bias, weight = _draw(const, start, kernel, fresh.rng(f"{dense}/bias"), path)
        new[f"{dense}/bias"], new[f"{up}/weight"] = bias, weight
    state = with_options(state, noconst=True)
    return with_variables(state, published_order(state, {**new, **values}))


def _draw(
    const: np.ndarray, start: int, kernel: np.ndarray, rng: np.random.Generator, path: str
) -> tuple[np.ndarray, np.ndarray]:
    """(bias of the dense layer [start * h/2 * w/2], filters [3, 3, start, maps]), float32, that draw `const`."""
    maps, height, width = const.shape
    bias = rng.standard_normal([start, height // 2, width // 2])
    images = _lrelu(bias)
    # Every pixel of the result is a scalar product of the filter with a patch: [height * width, 3 * 3 * start].
    patches = _patches(_upsample(images, kernel))
    target = (np.where(const > 0, const, const / SLOPE) / GAIN).reshape(maps, -1)
    inverse = np.linalg.pinv(patches)
    drawing = target @ inverse.T  # the smallest filters that fit, [maps, 3 * 3 * start]
    if not np.allclose(drawing @ patches.T, target, atol=1e-6 * max(1.0, np.abs(target).max())):
        raise UserError(
            f"{path}: {start} feature maps are too few to draw the constant; noconst cannot keep the function"
        )
    factor = max(1.0, np.linalg.norm(drawing, axis=1).max() / _MOST)
    bias, drawing = bias * factor, drawing / factor
    unseen = rng.standard_normal(drawing.shape)
    unseen -= unseen @ patches.T @ inverse.T
    unseen /= np.linalg.norm(unseen, axis=1, keepdims=True)
    filters = drawing + unseen * np.sqrt(1 - np.sum(drawing**2, axis=1, keepdims=True))
    filters *= math.sqrt(filters.shape[1])  # as large as weights start; demodulation cancels it
    weight = filters.reshape(maps, 3, 3, start).transpose(1, 2, 3, 0)
    return bias.ravel().astype(np.float32), weight.astype(np.float32)


def _lrelu(x: np.ndarray) -> np.ndarray:
    return GAIN * np.where(x > 0, x, x * SLOPE)


def _upsample(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Images [C, h, w] as an upsampling 3x3 convolution sees them, [C, 2h + 2, 2w + 2] (spec 2.11)."""
    taps = kernel / kernel.sum() * 2  # twice on either axis: the sum of what zeros were stuffed between stays
    shift = len(taps) - 4
    before, after = (shift + 1) // 2 + 3, shift // 2 + 2
    for axis in (1, 2):
        stuffed = np.zeros([2 * n if i == axis else n for i, n in enumerate(images.shape)])
        index = [slice(None)] * 3
        index[axis] = slice(None, None, 2)
        stuffed[tuple(index)] = images
        padded = np.pad(stuffed, [(before, after) if i == axis else (0, 0) for i in range(3)])
        images = np.apply_along_axis(lambda row: np.convolve(row, taps, "valid"), axis, padded)
    return images


def _patches(images: np.ndarray) -> np.ndarray:
    """All 3x3 patches of images [C, h, w], [(h - 2) * (w - 2), 3 * 3 * C] in the order of stored filters."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))  # [C, h - 2, w - 2, 3, 3]
    return windows.transpose(1, 2, 3, 4, 0).reshape(windows.shape[1] * windows.shape[2], -1)
