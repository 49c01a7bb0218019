"""Whether the variables of a file fit each other, layer by layer, so that what calculates with them may rely on it."""

from __future__ import annotations

import re

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError
from training.surgery.states import Variables, flat_variables

# Layers that all networks have in common, by the last part of their scope, and how many axes their weights have.
_CONVOLUTION = re.compile(r"Conv|Conv[01]|Conv0_up|Conv1_down|Skip|(To|From)RGB(_lod\d+)?")
_DENSE = re.compile(r"Dense\d+|Output|LabelConcat|LabelEmbed|Mapping\d+")
_AXES = {"dlatent_avg": 1, "lod": 0, "noise_strength": 0, "const": 4}


def check_shapes(state: NetworkState, path: str) -> None:
    """Raises `UserError`, with the variable's name, unless the parts of every layer have the same feature maps."""
    values = flat_variables(state)
    for name, value in values.items():
        scope, _, part = name.rpartition("/")
        axes = _AXES.get(part)
        if axes is not None and (value.ndim != axes or not value.size):
            _refuse(state, path, name, value, f"{axes} axes")
        if part == "weight":
            _check_layer(state, path, values, scope)
    styles = {name: value for name, value in values.items() if name.endswith("/mod_weight")}
    if "dlatent_avg" in values and styles:
        for name, value in styles.items():
            if value.shape[:1] != values["dlatent_avg"].shape:
                _refuse(state, path, name, value, f"{values['dlatent_avg'].size} rows, as dlatent_avg has")


def _check_layer(state: NetworkState, path: str, values: Variables, scope: str) -> None:
    name, layer = f"{scope}/weight", scope.rpartition("/")[2]
    weight = values[name]
    axes = 4 if _CONVOLUTION.fullmatch(layer) else 2 if _DENSE.fullmatch(layer) else None
    if axes is None:
        return
    if weight.ndim != axes or not weight.size:
        _refuse(state, path, name, weight, f"{axes} axes")
    expected = {"bias": weight.shape[-1:], "mod_bias": weight.shape[-2:-1]}
    for part, shape in expected.items():
        value = values.get(f"{scope}/{part}")
        if value is not None and value.shape != shape:
            _refuse(state, path, f"{scope}/{part}", value, f"{shape[0]} numbers, for its layer's weight")
    style = values.get(f"{scope}/mod_weight")
    if style is not None and (style.ndim != 2 or style.shape[1] != weight.shape[-2]):
        _refuse(
            state, path, f"{scope}/mod_weight", style, f"{weight.shape[-2]} columns, as its layer's weight has rows"
        )


def _refuse(state: NetworkState, path: str, name: str, value: np.ndarray, expected: str) -> None:
    raise UserError(f"{path}: {name} of network {state['name']} has shape {list(value.shape)}, expected {expected}")
