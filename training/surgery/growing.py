"""Networks of progressive growing (config-b to config-d) as the networks of architecture `orig` that they have become.

Where growing is over, or stands at a resolution, one RGB layer is in use, and the rest is the chain of blocks that
`orig` has: the same weights under other names (spec 2.4).
"""

from __future__ import annotations

import re

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError
from training.surgery.report import Report, compare
from training.surgery.states import (
    GROWING,
    Model,
    Variables,
    block_resolution,
    flat_variables,
    is_generator,
    is_growing,
    lod_of,
    noise_resolution,
    option,
    resolution_of,
    synthesis_prefix,
    with_options,
    with_variables,
)

_RGB = re.compile(r"(ToRGB|FromRGB)_lod(\d+)/(.+)")
_BUILDERS = dict(zip(GROWING, ("G_synthesis_stylegan2", "D_stylegan2"), strict=True))


def to_orig(model: Model) -> tuple[Model, Report]:
    """The model without growing: networks that are not of progressive growing stay as they are.

    At `lod` n the new networks have the resolution divided by 2^n, and draw and score what the old ones do without the
    enlargement. RGB layers and blocks that are not in use are left out.

    Raises:
        UserError: there is nothing to do; a `lod` between two resolutions or out of range; networks that would be of
            different resolutions afterwards.
    """
    growing = {name: _lod(state, model.path) for name, state in model.networks.items() if is_growing(state)}
    if not growing:
        found = ", ".join(state["build_func_name"] for state in model.networks.values())
        raise UserError(f"{model.path}: expected networks of progressive growing (config-b to config-d), found {found}")
    tops = {name: resolution_of(state) >> growing.get(name, 0) for name, state in model.networks.items()}
    if len(set(tops.values())) > 1:
        shown = (f"{name} {top}" + (f" (lod {growing[name]})" if name in growing else "") for name, top in tops.items())
        raise UserError(f"{model.path}: its networks stand at different resolutions: {', '.join(shown)}")

    def change(name: str, state: NetworkState) -> NetworkState:
        return _settled(state, growing[name]) if name in growing else state

    result = model.map(change)
    report = compare(model, result)
    report.notes.append("function kept: the same weights under the names of architecture orig")
    return result, report


def _lod(state: NetworkState, path: str) -> int:
    value = lod_of(state)
    most = resolution_of(state).bit_length() - 4  # to 8x8, the smallest network there is
    if not value.is_integer() or not 0 <= value <= most:
        raise UserError(
            f"{path}: {state['name']} has lod {value:g}, expected a whole number from 0 to {most}; between two, it "
            "blends two resolutions, which architecture orig cannot"
        )
    return int(value)


def _settled(state: NetworkState, lod: int) -> NetworkState:
    top, prefix = resolution_of(state) >> lod, synthesis_prefix(state)
    values: Variables = {"lod": np.float32(0)} if is_generator(state) else {}
    for name, value in flat_variables(state).items():
        local = name.removeprefix(prefix)
        rgb = _RGB.fullmatch(local)
        resolution = noise_resolution(local) or block_resolution(local)
        if rgb and int(rgb[2]) == lod:
            values[f"{prefix}{top}x{top}/{rgb[1]}/{rgb[3]}"] = value
        elif not rgb and local != "lod" and (resolution is None or resolution <= top):
            values[name] = value
    changes = {"resolution": top} if lod or option(state, "resolution", None) else {}
    result = with_options(state, architecture="orig", synthesis_func=None, structure=None, **changes)
    return with_variables(_rebuilt(result), values)


def _rebuilt(state: NetworkState) -> NetworkState:
    bare = state["build_func_name"].rsplit(".", 1)[-1]
    parts = {key: _rebuilt(part) for key, part in state.get("components", {}).items()}
    return NetworkState({**state, "build_func_name": _BUILDERS.get(bare, bare), "components": parts})
