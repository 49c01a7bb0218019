"""From a learned constant to a first block driven by w ("Scaling up StyleGAN2", Noconst), at the same function.

The seed of that text starts the new layers at random and trains until the model has recovered. Here they draw the old
constant at first: the dense layer has weight zero and a random bias, so its output is the same for every w, and the
filters of the upsampling convolution are those that make the constant out of it. They must have norm 1, for
demodulation gives them that in any case (paper section 2.2): the smallest filter that fits is completed by a random
one that sees nothing. Training turns on what depends on w.

The upsampled maps are smooth and the constant is not, so it is drawn by the small differences of numbers that are some
hundred times larger, and float32 rounds those. `_draw` keeps that small: no filter has more to cancel than it must, and
of some random maps the best are taken.
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
_TRIES = 12  # random maps that are tried, for the ones that round best
_TOLD = 1e-5  # error relative to the largest value from which on it is told


def to_noconst(model: Model, seed: int = 0, keep_function: bool = True) -> tuple[Model, Report]:
    """The model with `noconst` generators; D stays.

    keep_function: draw the old constant at first; otherwise the new layers start at random. Raises `UserError` for
    networks that have no constant, or sides of the first block that are odd.
    """
    fresh = Fresh(seed)
    precision: list[str] = []

    def change(name: str, state: NetworkState) -> NetworkState:
        if not is_generator(state):
            return state
        state, note = _convert(state, fresh, keep_function, model.path)
        precision.append(note)
        return state

    result = model.map(change)
    report = compare(model, result)
    kept = f"function kept: the first block draws the old constant{max(precision, default='')}"
    report.notes.append(kept if keep_function else "function not kept: the first block starts anew")
    return result, report


def _convert(state: NetworkState, fresh: Fresh, keep_function: bool, path: str) -> tuple[NetworkState, str]:
    """(the generator without constant, how well the constant is drawn if that is worth telling)."""
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
    note = ""
    if keep_function:
        new[f"{dense}/weight"][:] = 0
        new[f"{up}/mod_weight"][:] = 0
        kernel = np.asarray(option(state, "resample_kernel", (1, 3, 3, 1)), np.float64)
        rng = fresh.rng(f"{dense}/bias")
        bias, weight, error = min((_draw(const, start, kernel, rng, path) for _ in range(_TRIES)), key=lambda d: d[2])
        new[f"{dense}/bias"], new[f"{up}/weight"] = bias, weight
        if error > _TOLD:
            note = (
                f" to about {error:.1g} of its largest value, because it takes the small differences of large numbers "
                f"to draw {const.shape[2]}x{const.shape[1]} pixels from {start} feature maps of half the size"
            )
    state = with_options(state, noconst=True)
    return with_variables(state, published_order(state, {**new, **values})), note


def _draw(
    const: np.ndarray, start: int, kernel: np.ndarray, rng: np.random.Generator, path: str
) -> tuple[np.ndarray, np.ndarray, float]:
    """(bias of the dense layer [start * h/2 * w/2] and filters [3, 3, start, maps], float32, that draw `const`; largest
    error of that in float32, relative to the largest value)."""
    maps, height, width = const.shape
    pixels = height * width // 4
    # What completes the filters sees nothing by seeing maps of zeros, if there are maps enough; else what it sees
    # cancels, up to its rounding.
    drawing_maps = max(pixels, (start + 1) // 2) if start > pixels else start
    images = np.zeros([start, height // 2, width // 2])
    images[:drawing_maps] = _images(drawing_maps, pixels, rng).reshape(drawing_maps, *images.shape[1:])
    target = (np.where(const > 0, const, const / SLOPE) / GAIN).reshape(maps, -1)
    smallest = _smallest_filters(images, target, kernel)
    if smallest is None:
        raise UserError(
            f"{path}: {start} feature maps are too few to draw the constant; noconst cannot keep the function"
        )
    images *= max(1.0, np.linalg.norm(smallest, axis=1).max() / _MOST)
    bias = (np.where(images > 0, images, images / SLOPE) / GAIN).astype(np.float32)
    # Once more for what the bias is after rounding.
    patches = _patches(_upsample(_lrelu(bias.astype(np.float64)), kernel))
    inverse = np.linalg.pinv(patches)
    drawing = target @ inverse.T
    unseen = rng.standard_normal(drawing.shape)
    if drawing_maps < start:
        unseen.reshape(maps, 9, start)[:, :, :drawing_maps] = 0
    else:
        unseen -= unseen @ patches.T @ inverse.T
    unseen /= np.linalg.norm(unseen, axis=1, keepdims=True)
    filters = drawing + unseen * np.sqrt(1 - np.sum(drawing**2, axis=1, keepdims=True))
    drawn = filters.astype(np.float32) @ patches.astype(np.float32).T
    error = np.abs(drawn - target) * np.where(target > 0, 1, SLOPE) * GAIN
    filters *= math.sqrt(filters.shape[1])  # as large as weights start; demodulation cancels it
    weight = filters.reshape(maps, 3, 3, start).transpose(1, 2, 3, 0)
    return bias.ravel(), weight.astype(np.float32), float(error.max() / max(np.abs(const).max(), 1e-30))


def _images(count: int, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """Random maps [count, pixels] of mean square 1. Where there are enough, pixels are orthogonal to one another, so
    that what tells neighbours apart is no smaller than the upsampling filter makes it."""
    values = rng.standard_normal([count, pixels])
    return np.linalg.qr(values)[0] * math.sqrt(count) if count >= pixels else values


def _smallest_filters(images: np.ndarray, target: np.ndarray, kernel: np.ndarray) -> np.ndarray | None:
    """Filters [maps, 3 * 3 * start] that make `target` [maps, height * width] of images; None if there are none."""
    # Every pixel of the result is a scalar product of the filter with a patch: [height * width, 3 * 3 * start].
    patches = _patches(_upsample(images, kernel))
    filters = target @ np.linalg.pinv(patches).T
    fits = np.allclose(filters @ patches.T, target, atol=1e-6 * max(1.0, np.abs(target).max()))
    return filters if fits else None


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
