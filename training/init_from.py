"""Transfer learning: start a new run from the networks of a pickle (`--init-from`).

The architecture is the pickle's; the configuration's architecture fields are overwritten by it, each change told. So
are the clamp of activations and the groups of minibatch stddev, which change what the same weights compute, unless
somebody asked for others. How to train (mixing, precision, losses, rates) stays the configuration's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnnlib import snapshot
from dnnlib.tflib import tfutil
from dnnlib.tflib.network import Network
from dnnlib.util import UserError
from training import config_io
from training.ada_source import as_stylegan2
from training.base_shape import image_size
from training.config import TrainConfig
from training.surgery.states import refuse_growing

# Options that say how to train or run a network, not what it is.
_TRAINING_OPTIONS = {
    "style_mixing_prob",
    "dlatent_avg_beta",
    "fused_modconv",
    "num_fp16_res",
    "conv_clamp",
    "mbstd_group_size",
    "resolution",
    "base_shape",
    "num_channels",
    "label_size",
    "truncation_psi",
    "truncation_cutoff",
}
# Of these, the ones that change what the same weights compute: adopted unless they were asked for.
_COMPUTED_WITH = ("conv_clamp", "mbstd_group_size")
_NAMED = 4  # variables that an error names


@dataclass(frozen=True)
class SourceNetworks:
    """States of G, D, Gs read from a pickle: static_kwargs and variables by flat name."""

    path: str
    kwargs: Mapping[str, Mapping[str, Any]]
    variables: Mapping[str, Mapping[str, np.ndarray]]


def read_source(path: str) -> SourceNetworks:
    """Read (G, D, Gs) without building anything. Raises `UserError` for files that hold something else."""
    states = snapshot.load_state(path)
    is_triple = isinstance(states, (tuple, list)) and len(states) == 3
    if not is_triple or not all(isinstance(state, snapshot.NetworkState) for state in states):
        found = f"{len(states)} objects" if isinstance(states, (tuple, list)) else f"a {type(states).__name__}"
        if isinstance(states, snapshot.NetworkState):
            found = f"{states['name']} alone"
        raise UserError(
            f"{path}: expected a pickle of (G, D, Gs), found {found}; --init-from needs all three: give the snapshot "
            "that it was taken from, or `run_surgery.py copy` it into one"
        )
    for state in states:
        refuse_growing(state, path, "training")
    named = dict(zip(("G", "D", "Gs"), map(as_stylegan2, states), strict=True))
    return SourceNetworks(
        path,
        {name: dict(state["static_kwargs"]) for name, state in named.items()},
        {name: _flat(state) for name, state in named.items()},
    )


def _flat(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    values = {name: np.asarray(value) for name, value in state["variables"]}
    for component in state.get("components", {}).values():
        values |= {f"{component['name']}/{n}": v for n, v in _flat(component).items()}
    return values


def check_source(source: SourceNetworks, shape: tuple[int, int, int], label_size: int) -> None:
    """Raise `UserError` listing every way in which the networks do not fit the data, with the remedy for each.

    shape: (C, H, W) of the data set.
    """
    kwargs = source.kwargs["G"]
    problems = []
    height, width = image_size(kwargs.get("resolution", 1024), kwargs.get("base_shape"))
    channels = kwargs.get("num_channels", 3)
    labels = kwargs.get("label_size", 0)
    if (height, width) != tuple(shape[1:]):
        size = f"{width}x{height}" if height != width else str(height)
        problems.append(
            f"it draws {width}x{height}, the data set has {shape[2]}x{shape[1]} "
            f"(--set data.resolution={max(height, width)} if the set holds that level, "
            f"else dataset_tool.py --resolution {size})"
        )
    if channels != shape[0]:
        problems.append(f"it has {channels} channels, the data set {shape[0]} (dataset_tool.py --channels {channels})")
    if labels != label_size:
        problems.append(
            f"it has {labels} label components, the data set {label_size} (--set data.max_label_size={labels})"
        )
    if problems:
        raise UserError(f"--init-from {source.path}: " + "; ".join(problems))


def adopt_architecture(
    config: TrainConfig, source: SourceNetworks, asked_for: Collection[str] = ()
) -> tuple[TrainConfig, list[str]]:
    """(configuration with the pickle's architecture, one line per field that differed).

    asked_for: paths of fields that were set for this run by name; of these, what is no architecture stays.
    """
    notes: list[str] = []
    sections = {}
    for name, section in (("G", config.G), ("D", config.D)):
        kwargs, changes = source.kwargs[name], {}
        known = {spec.name for spec in dataclasses.fields(section)} | _TRAINING_OPTIONS
        foreign = sorted(set(kwargs) - known)
        if foreign:
            raise UserError(f"--init-from {source.path}: {name} has options that training does not know: {foreign}")
        for spec in dataclasses.fields(section):
            # What a pickle does not say takes the published default, which is the field's default.
            there, here = kwargs.get(spec.name, spec.default), getattr(section, spec.name)
            there = tuple(there) if isinstance(there, list) else there
            if there == here or spec.name in _TRAINING_OPTIONS and spec.name not in _COMPUTED_WITH:
                continue
            obstacle = ""
            if spec.name in _COMPUTED_WITH:
                obstacle = _obstacle(config, f"{name}.{spec.name}", there, asked_for)
            if obstacle:
                notes.append(
                    f"{name}.{spec.name}: {here}, {obstacle} (the pickle was trained with {there}; to keep that: "
                    f"--set {name}.{spec.name}={str(there).lower()})"
                )
            else:
                notes.append(f"{name}.{spec.name}: {here} -> {there} (from the pickle)")
                changes[spec.name] = there
        sections[name] = dataclasses.replace(section, **changes)
    return dataclasses.replace(config, **sections), notes


def _obstacle(config: TrainConfig, path: str, value: Any, asked_for: Collection[str]) -> str:
    """Why a run keeps its own value instead of the pickle's; empty if it takes the pickle's."""
    section, _, leaf = path.partition(".")
    if path in asked_for:
        return "as asked for"
    if leaf == "conv_clamp" and value is None and getattr(config, section).num_fp16_res:
        return "so that nothing overflows in low precision"
    try:
        config_io.with_fields(config, {path: value})
    except UserError:
        return "because the images per device are no multiple of that of the pickle"
    return ""


def copy_into(source: SourceNetworks, networks: Mapping[str, Network]) -> None:
    """Set all variables of G, D, Gs. Raises `UserError` listing missing names and shapes that differ."""
    with tfutil.gathered():
        for name, net in networks.items():
            _copy_one(source, name, net)


def _copy_one(source: SourceNetworks, name: str, net: Network) -> None:
    values = source.variables[name]
    missing = [n for n in net.vars if n not in values]
    shapes = [
        f"{n} {list(values[n].shape)} (network: {v.shape.as_list()})"
        for n, v in net.vars.items()
        if n in values and list(values[n].shape) != v.shape.as_list()
    ]
    if missing or shapes:
        problems = [
            f"{what} {', '.join(found[:_NAMED])}" + (f" and {len(found) - _NAMED} more" if found[_NAMED:] else "")
            for what, found in (("lacks", missing), ("differs in shape:", shapes))
            if found
        ]
        raise UserError(f"--init-from {source.path}: {name} {'; it '.join(problems)}")
    tfutil.set_vars({v: values[n] for n, v in net.vars.items()})
