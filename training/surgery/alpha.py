"""From RGB to RGBA (or from any number of channels to one more): drawn opaque, and not looked at until trained."""

from __future__ import annotations

import math

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError
from training.surgery.report import Report, compare
from training.surgery.states import (
    Model,
    Variables,
    flat_variables,
    is_generator,
    option,
    require_plain,
    resolution_of,
    synthesis_prefix,
    with_options,
    with_variables,
)

MOST_CHANNELS = 4
_OPAQUE = 1.0  # of images in [-1, 1]


def add_alpha(model: Model) -> tuple[Model, Report]:
    """The model with one more channel, 1 (opaque) in all its images; discriminators give it weight zero.

    Raises:
        UserError: the model has four channels already.
    """

    def change(name: str, state: NetworkState) -> NetworkState:
        require_plain(state, model.path, "add-alpha")
        channels = int(option(state, "num_channels", 3))
        if channels >= MOST_CHANNELS:
            raise UserError(
                f"{model.path}: {name} has {channels} channels already, expected fewer than {MOST_CHANNELS}"
            )
        values = _draw_opaque(state) if is_generator(state) else _ignore(state)
        return with_variables(with_options(state, num_channels=channels + 1), values)

    result = model.map(change)
    report = compare(model, result)
    report.notes.append("function kept: colours and scores are those from before; the new channel is opaque")
    return result, report


def _draw_opaque(state: NetworkState) -> Variables:
    values, prefix = flat_variables(state), synthesis_prefix(state)
    top = f"{prefix}{resolution_of(state)}x{resolution_of(state)}/"
    for name in [name for name in values if name.endswith("/ToRGB/weight")]:
        layer = name.removesuffix("weight")
        values[name] = np.pad(values[name], [(0, 0), (0, 0), (0, 0), (0, 1)])
        # Only the last layer adds it: what comes from below is filtered, which darkens the borders.
        alpha = _OPAQUE if layer.startswith(top) else 0.0
        values[f"{layer}bias"] = np.append(values[f"{layer}bias"], np.float32(alpha))
    return values


def _ignore(state: NetworkState) -> Variables:
    values = flat_variables(state)
    for name in [name for name in values if name.endswith("/FromRGB/weight")]:
        channels = values[name].shape[2]
        grown = np.float32(math.sqrt((channels + 1) / channels))  # equalised learning rate
        values[name] = np.pad(values[name] * grown, [(0, 0), (0, 0), (0, 1), (0, 0)])
    return values
