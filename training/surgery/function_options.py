"""Options that change what networks compute but not their variables: weights of one value are not those of another."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnnlib.snapshot import NetworkState
from training.base_shape import SQUARE
from training.surgery.label_layers import label_map_lrmul, label_map_nonlinearity, projects_labels
from training.surgery.states import is_ada, is_generator, option

_OF_G = {
    "rectify_latents": False,
    "normalize_latents": True,
    "nonlinearity": "lrelu",
    "mapping_nonlinearity": "lrelu",
    "mapping_lrmul": 0.01,
    "demodulate": True,
}
_OF_D = {"nonlinearity": "lrelu"}


def function_options(state: NetworkState) -> dict[str, Any]:
    """Name and value of all such options that a network looks at, defaults filled in."""
    generates = is_generator(state)
    found = {key: option(state, key, default) for key, default in (_OF_G if generates else _OF_D).items()}
    found["base_shape"] = list(option(state, "base_shape", SQUARE))
    found["resample_kernel"] = _kernel(option(state, "resample_kernel", (1, 3, 3, 1)))
    if not generates and option(state, "label_size", 0) and projects_labels(state):
        found |= {"label_map_lrmul": label_map_lrmul(state), "label_map_nonlinearity": label_map_nonlinearity(state)}
    return found


def range_options(state: NetworkState) -> dict[str, Any]:
    """The same for options that change little: weights trained with one value do something with another."""
    found = {"conv_clamp": option(state, "conv_clamp", None)}
    if not is_generator(state):
        default = None if is_ada(state) else 4
        found["mbstd_group_size"] = state["static_kwargs"].get("mbstd_group_size", default)
        found["mbstd_of_one"] = option(state, "mbstd_of_one", False)
    return found


def _kernel(taps: Any) -> list[Any]:
    """Taps as they are used: only their ratio counts (spec 2.11)."""
    values = np.asarray(taps, np.float64)
    return np.round(values / values.sum(), 6).tolist()
