"""A network of StyleGAN2-ADA told in the terms of StyleGAN2's builders, which training uses."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnnlib.snapshot import NetworkState
from training.spectral_norm import PUBLISHED_LAYERS

_BUILDERS = {
    "G_main": "G_main",
    "G_mapping": "G_mapping",
    "G_synthesis": "G_synthesis_stylegan2",
    "D_main": "D_stylegan2",
}
# How ADA's scripts call options that have another name here, or that say how to train: read by no builder.
_RENAMED = {"w_avg_beta": "dlatent_avg_beta"}
_DROPPED = ("freeze_layers", "structure", "mapping_func", "synthesis_func")


def as_stylegan2(state: NetworkState) -> NetworkState:
    """The same function as a state of version 4: ADA's defaults become options, variables stay as they are.

    Older states, and networks that ADA's program has only taken over from StyleGAN2, are returned unchanged.
    """
    if state["version"] < 5 or state["build_func_name"] not in _BUILDERS or _has(state, "lod"):
        return state
    kwargs = {_RENAMED.get(key, key): value for key, value in state["static_kwargs"].items() if key not in _DROPPED}
    labels = kwargs.get("label_size", 0)
    if state["build_func_name"] == "D_main":
        options: dict[str, Any] = {"mbstd_group_size": None}
        for key, value in kwargs.items():
            name = "label_map_" + key.removeprefix("mapping_") if key.startswith("mapping_") else key
            if key == "use_spectral_norm":
                options["spectral_norm"] = PUBLISHED_LAYERS if value else False
            elif labels or name == key:  # without labels there is no label mapping
                options[name] = value
        if options["mbstd_group_size"] == 1:  # ADA adds its map all the same
            options["mbstd_of_one"] = True
        if labels:
            options["project_labels"] = True
            if options.get("label_map_nonlinearity") == "lrelu":
                del options["label_map_nonlinearity"]
    else:
        options = {**kwargs, "mapping_fmaps": kwargs.get("mapping_fmaps") or kwargs.get("dlatent_size", 512)}
        if options.get("mapping_nonlinearity") == "lrelu":
            del options["mapping_nonlinearity"]
        if labels:
            options["embed_labels"] = True
        else:
            options.pop("label_fmaps", None)
    variables = list(state["variables"])
    if state["build_func_name"] == "G_main":
        variables.insert(0, ("lod", np.float32(0)))  # belonged to progressive growing
    builder = _BUILDERS[state["build_func_name"]]
    return NetworkState(
        version=4,
        name=state["name"],
        static_kwargs=options,
        components={key: as_stylegan2(part) for key, part in state.get("components", {}).items()},
        build_module_src=f"from training.networks_stylegan2 import {builder}\n",
        build_func_name=builder,
        variables=variables,
    )


def _has(state: NetworkState, variable: str) -> bool:
    return any(name == variable for name, _ in state["variables"])
