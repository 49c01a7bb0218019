"""Models of one architecture mixed: averages, and layers of one model in another (by resolution)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError
from training.surgery.function_options import function_options, range_options
from training.surgery.report import Report
from training.surgery.states import (
    Model,
    block_resolution,
    flat_variables,
    is_generator,
    is_growing,
    lod_of,
    noise_resolution,
    refuse_growing,
    synthesis_prefix,
    with_variables,
)


def average(models: Sequence[Model], weights: Sequence[float] | None = None) -> tuple[Model, Report]:
    """The weighted mean of all variables; noise buffers are the first model's, whose mean would be weaker noise.

    weights: one per model, of any positive sum (None: equal). Raises `UserError` for models of different architecture,
    and for those that grow and stand at different levels of detail (`lod`): most weights of one are not the other's.
    """
    shares = np.ones(len(models)) if weights is None else np.asarray(weights, float)
    if len(models) < 2 or len(shares) != len(models) or shares.sum() <= 0:
        raise UserError(
            f"average: expected two models or more and a weight for each, of a positive sum; "
            f"found {len(models)} models and weights {[float(s) for s in shares]}"
        )
    shares = shares / shares.sum()

    def mix(name: str, local: str, values: Sequence[np.ndarray]) -> np.ndarray:
        if noise_resolution(local) is not None:
            return values[0]
        return sum(share * value.astype(np.float64) for share, value in zip(shares, values, strict=True))

    result, report = _mix(models, mix)
    shown = ", ".join(f"{share:.4g} of {model.path}" for share, model in zip(shares, models, strict=True))
    report.notes.append(f"average of {shown}; noise buffers of the first")
    return result, report


def interpolate(low: Model, high: Model, at: int, width: float = 0.0, mapping: float = 0.0) -> tuple[Model, Report]:
    """Coarse layers of one model, fine layers of another (layer swapping, network blending).

    Args:
        low, high: models of one architecture, best of one ancestor. Blocks below `at` are those of `low`.
        at: resolution of the first block of `high`.
        width: 0 swaps at once. Otherwise the share of `high` rises smoothly (a sigmoid in octaves of resolution) from
            12% to 88% over `width` octaves around the boundary.
        mapping: share of `high` in the mapping network and the mean of w.
    Raises:
        UserError: models of different architecture, numbers out of range.
    """
    if at < 4 or at & (at - 1):
        raise UserError(f"interpolate: found at={at}, expected the resolution of a block: 4, 8, 16, ...")
    if width < 0 or not 0 <= mapping <= 1:
        raise UserError(f"interpolate: expected width >= 0 and mapping in [0, 1], found {width} and {mapping}")
    for model in (low, high):
        for state in model.networks.values():
            refuse_growing(state, model.path, "interpolate")

    def share_at(resolution: int) -> float:
        octaves = math.log2(resolution / at) + 0.5  # the boundary lies between two blocks
        if width == 0:
            return float(octaves > 0)
        return 1 / (1 + math.exp(-4 * octaves / width))

    used: dict[int, float] = {}

    def mix(name: str, local: str, values: Sequence[np.ndarray]) -> np.ndarray:
        noise = noise_resolution(local)
        resolution = block_resolution(local) if noise is None else noise
        if resolution is None:
            share = share_at(4) if local.startswith("Output/") else mapping
        else:
            share = used[resolution] = share_at(resolution)
        if noise is not None or share in (0, 1):
            return values[int(share >= 0.5)]
        return values[0] + share * (values[1].astype(np.float64) - values[0])

    result, report = _mix([low, high], mix)
    shown = ", ".join(f"{resolution}: {share:.2f}" for resolution, share in sorted(used.items()))
    report.notes.append(f"share of {high.path} by resolution: {shown}; in the mapping network: {mapping:.2f}")
    return result, report


def _mix(models: Sequence[Model], mix: Callable[[str, str, Sequence[np.ndarray]], np.ndarray]) -> tuple[Model, Report]:
    """Every variable through `mix(network, name inside synthesis or D, values)`."""
    first, report = models[0], Report()
    for model in models[1:]:
        _require_equal(first, model)
        report.notes += _notes_on_ranges(first, model)

    def change(name: str, state: NetworkState) -> NetworkState:
        sources = [flat_variables(model.networks[name]) for model in models]
        prefix = synthesis_prefix(state) if is_generator(state) else ""
        values = {}
        for variable in sources[0]:
            found = [source[variable] for source in sources]
            value = np.asarray(mix(name, variable.removeprefix(prefix), found), np.float32)
            report.add(name, variable, "copied" if np.array_equal(value, found[0]) else "changed", found[0], value)
            values[variable] = value
        return with_variables(state, values)

    return first.map(change), report


def _differing(
    options: Callable[[NetworkState], dict[str, Any]], a: NetworkState, b: NetworkState
) -> list[tuple[str, Any, Any]]:
    """(name, value of `a`, value of `b`) of options that differ."""
    of_a, of_b = options(a), options(b)
    return [(key, of_a[key], of_b[key]) for key in of_a if key in of_b and of_a[key] != of_b[key]]


def _notes_on_ranges(first: Model, other: Model) -> list[str]:
    return [
        f"{name}: {key} stays {a}, as in {first.path}; {other.path} has {b}"
        for name, state in first.networks.items()
        for key, a, b in _differing(range_options, state, other.networks[name])
    ]


def _require_equal(first: Model, other: Model) -> None:
    if set(first.networks) != set(other.networks):
        found = f"{', '.join(first.networks)} and {', '.join(other.networks)}"
        raise UserError(f"{other.path}: the same networks as in {first.path} are needed, found {found}")
    for name, state in first.networks.items():
        a, b = flat_variables(state), flat_variables(other.networks[name])
        differing = [n for n in {**a, **b} if n not in a or n not in b or a[n].shape != b[n].shape]
        if differing:
            raise UserError(
                f"{other.path}: {name} is of another architecture than in {first.path}: {len(differing)} variables "
                f"differ, first {differing[0]}; bring one to the other's with copy, grow, shrink or widen"
            )
        for key, a, b in _differing(function_options, state, other.networks[name]):
            raise UserError(
                f"{other.path}: {name} has {key} {b}, that in {first.path} has {a}: their weights are of different "
                "functions"
            )
        levels = [lod_of(part[name]) for part in (first.networks, other.networks)]
        if is_growing(state) and levels[0] != levels[1]:
            raise UserError(
                f"{other.path}: {name} of progressive growing has lod {levels[1]:g}, expected {levels[0]:g} as in "
                f"{first.path}: between resolutions there is no average"
            )
