"""Networks of twice and of half the resolution.

Growing keeps the function: images of the grown generator are the old ones upsampled with the network's own filter
(architecture skip: the new ToRGB starts at zero), and the grown discriminator scores images as the old one scores them
downsampled (all architectures). Shrinking undoes growing; of other networks it takes off the top block.
"""

from __future__ import annotations

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError
from training.fmaps import Fmaps
from training.surgery.report import Report, compare
from training.surgery.resize_discriminator import grow_discriminator, shrink_discriminator
from training.surgery.states import (
    Fresh,
    Model,
    StoredVariables,
    Variables,
    flat_variables,
    fmaps_of,
    is_generator,
    noise_resolution,
    option,
    published_order,
    require_plain,
    resolution_of,
    synthesis_prefix,
    with_options,
    with_variables,
)

MIN_RESOLUTION, MAX_RESOLUTION = 8, 2048


def resize(model: Model, resolution: int, fmaps: int | None = None, seed: int = 0) -> tuple[Model, Report]:
    """The model at another resolution, doubled or halved as often as needed.

    Args:
        resolution: power of two from 8 to 2048.
        fmaps: feature maps of the new blocks (None: what the network's rule gives, half of the block below where an
            explicit table has no entry).
        seed: of the new weights.
    Raises:
        UserError: no such resolution, or a network with layers that this does not know.
    """
    if resolution & (resolution - 1) or not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        found = f"expected a power of two from {MIN_RESOLUTION} to {MAX_RESOLUTION}, found {resolution}"
        raise UserError(f"resolution: {found}")
    fresh, notes = Fresh(seed), []
    result = model
    for state in model.networks.values():
        require_plain(state, model.path, "resizing")

    def step(name: str, state: NetworkState) -> NetworkState:
        while resolution_of(state) != resolution:
            grows = resolution_of(state) < resolution
            change = grow_state if grows else shrink_state
            state, note = change(state, fmaps, fresh, model.path)
            notes.append(f"{name}, {resolution_of(state)}x{resolution_of(state)}: {note}")
        return state

    result = result.map(step)
    report = compare(model, result)
    report.notes += notes
    return result, report


def grow_state(state: NetworkState, fmaps: int | None, fresh: Fresh, path: str) -> tuple[NetworkState, str]:
    """(a network of twice the resolution, what is kept of its function)."""
    top = 2 * resolution_of(state)
    state, count = _with_fmaps(state, top, fmaps)
    if is_generator(state):
        values, note = _grow_generator(state, count, fresh)
    else:
        values, note = grow_discriminator(state, count, fresh)
    state = with_options(state, resolution=top)
    return with_variables(state, published_order(state, values)), note


def shrink_state(state: NetworkState, fmaps: int | None, fresh: Fresh, path: str) -> tuple[NetworkState, str]:
    """(a network of half the resolution, what is kept of its function)."""
    if fmaps is not None:
        raise UserError(f"{path}: feature maps are for the new blocks of grown networks; to narrow others use `copy`")
    if is_generator(state):
        values, note = _shrink_generator(state, fresh)
    else:
        values, note = shrink_discriminator(state)
    state = with_options(state, resolution=resolution_of(state) // 2)
    return with_variables(state, published_order(state, values)), note


def _with_fmaps(state: NetworkState, top: int, fmaps: int | None) -> tuple[NetworkState, int]:
    """The state with a count for the new block in its rule of feature maps, and that count."""
    rule = fmaps_of(state)
    levels = [2**level for level in range(2, top.bit_length() - 1)]
    if rule.explicit is not None:
        known = rule.explicit.get(top, max(rule.explicit[levels[-1]] // 2, 1))
        count = known if fmaps is None else fmaps
        return with_options(state, fmap_explicit={**rule.explicit, top: count}), count
    count = rule.at(top)
    if fmaps is None or fmaps == count:
        return state, count
    explicit = Fmaps(explicit={**{level: rule.at(level) for level in levels}, top: fmaps}).explicit
    rest = dict.fromkeys(("fmap_base", "fmap_decay", "fmap_min", "fmap_max"))
    return with_options(state, fmap_explicit=dict(explicit), **rest), fmaps


def _modulated(fresh: Fresh, name: str, kernel: int, w_size: int, maps: int, out: int) -> Variables:
    """Variables of a modulated convolution as training starts them, without noise."""
    return {
        f"{name}/weight": fresh.normal(f"{name}/weight", kernel, kernel, maps, out),
        f"{name}/mod_weight": fresh.normal(f"{name}/mod_weight", w_size, maps),
        f"{name}/mod_bias": np.zeros(maps, np.float32),
    }


def _grow_generator(state: NetworkState, count: int, fresh: Fresh) -> tuple[Variables, str]:
    values = flat_variables(state)
    prefix, top = synthesis_prefix(state), 2 * resolution_of(state)
    old, block = f"{prefix}{top // 2}x{top // 2}", f"{prefix}{top}x{top}"
    architecture = option(state, "architecture", "skip")
    below = values[f"{old}/Conv1/weight"].shape[-1]
    w_size = values[f"{old}/Conv1/mod_weight"].shape[0]
    use_noise = f"{old}/Conv1/noise_strength" in values

    def convolution(name: str, maps: int) -> None:
        values.update(_modulated(fresh, name, 3, w_size, maps, count))
        if use_noise:
            values[f"{name}/noise_strength"] = np.zeros([], np.float32)
        values[f"{name}/bias"] = np.zeros(count, np.float32)

    if use_noise:
        first = 2 * top.bit_length() - 7  # 2 log2(top) - 5: the number of the block's first layer
        height, width = (2 * n for n in values[f"{prefix}noise{first - 1}"].shape[2:])
        for index in (first, first + 1):
            name = f"{prefix}noise{index}"
            values[name] = fresh.normal(name, 1, 1, height, width)
    convolution(f"{block}/Conv0_up", below)
    convolution(f"{block}/Conv1", count)
    if architecture == "resnet":
        values[f"{block}/Skip/weight"] = fresh.normal(f"{block}/Skip/weight", 1, 1, below, count)
    colors = values[f"{old}/ToRGB/bias"].size
    values.update(_modulated(fresh, f"{block}/ToRGB", 1, w_size, count, colors))
    values[f"{block}/ToRGB/bias"] = np.zeros(colors, np.float32)
    if architecture == "skip":
        values[f"{block}/ToRGB/weight"][:] = 0
        return values, "function kept: images are the old ones upsampled"
    for name in [name for name in values if name.startswith(f"{old}/ToRGB/")]:
        del values[name]
    return values, f"function not kept: with architecture {architecture} the new block and its ToRGB start anew"


def _shrink_generator(state: NetworkState, fresh: Fresh) -> tuple[Variables, str]:
    values = flat_variables(state)
    prefix, top = synthesis_prefix(state), resolution_of(state)
    removed = f"{prefix}{top}x{top}/"
    below = f"{prefix}{top // 2}x{top // 2}"

    def is_above(name: str) -> bool:
        return name.startswith(removed) or noise_resolution(name.removeprefix(prefix)) == top

    kept = StoredVariables((name, value) for name, value in values.items() if not is_above(name))
    architecture = option(state, "architecture", "skip")
    if architecture == "skip":
        return kept, "function kept: images are what the old network had drawn below its top block"
    maps, w_size = kept[f"{below}/Conv1/weight"].shape[-1], kept[f"{below}/Conv1/mod_weight"].shape[0]
    colors = values[f"{removed}ToRGB/bias"]
    kept.update(_modulated(fresh, f"{below}/ToRGB", 1, w_size, maps, colors.size))
    kept[f"{below}/ToRGB/bias"] = colors
    return kept, f"function not kept: with architecture {architecture} ToRGB starts anew"
