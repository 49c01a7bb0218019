"""Whether the variables of a file are those that its options say, so that what calculates with them may rely on it."""

from __future__ import annotations

import re

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError
from training.surgery.states import (
    flat_variables,
    fmaps_of,
    is_ada,
    is_generator,
    mapping_prefix,
    option,
    resolution_of,
    synthesis_prefix,
)

_CONVOLUTION = re.compile(r"Conv|Conv[01]|Conv0_up|Conv1_down|Skip|(To|From)RGB(_lod\d+)?")
_DENSE = re.compile(r"Dense\d+|Output|LabelConcat|LabelEmbed|Mapping\d+")
_BLOCK = re.compile(r"(?:(\d+)x\1/)?(\w+?)(?:_lod(\d+))?")

Pattern = tuple[int | None, ...]  # None: any size


def check_shapes(state: NetworkState, path: str) -> None:
    """Raises `UserError`, with the variable's name, unless every variable of the layers that published networks have is
    as large as the network's options say. Other layers are not looked at."""
    try:
        _Checker(state).check()
    except UserError as err:
        raise UserError(f"{path}: network {state['name']}: {err}") from err


class _Checker:
    def __init__(self, state: NetworkState) -> None:
        self._state, self._values, self._nf = state, flat_variables(state), fmaps_of(state)
        self._generates = is_generator(state)
        self._synthesis = synthesis_prefix(state)
        self._mapping = mapping_prefix(state) if "mapping" in state.get("components", {}) else None
        self._colors = int(option(state, "num_channels", 3))
        self._w_size = int(option(state, "dlatent_size", 512))
        self._labels = int(option(state, "label_size", 0))

    def check(self) -> None:
        """Weights first: what else their layers have is as large as they are."""
        for part, find in (("weight", self._weight), (None, self._other)):
            for name, value in self._values.items():
                if part in (None, name.rpartition("/")[2]):
                    _require(name, value, find(name))
        embeds = any("/Label" in f"/{name}" for name in self._values)
        if self._labels and not embeds and (self._generates or is_ada(self._state)):
            raise UserError(f"label_size is {self._labels}, but no variables read labels")

    def _weight(self, name: str) -> Pattern | None:
        scope = name.removesuffix("/weight")
        layer = scope.rpartition("/")[2]
        if _CONVOLUTION.fullmatch(layer):
            return (None, None, *self._feature_maps(scope.removeprefix(self._synthesis)))
        return self._dense(scope) if _DENSE.fullmatch(layer) else None

    def _feature_maps(self, scope: str) -> Pattern:
        """(inputs, outputs) of a convolution (spec 2.1 to 2.4)."""
        found = _BLOCK.fullmatch(scope)
        if found is None:
            return (None, None)
        block, layer, lod = found.groups()
        resolution = resolution_of(self._state) >> int(lod or 0) if block is None else int(block)
        stage = resolution.bit_length() - 2
        if stage < 1:
            return (None, None)
        own, below = self._nf(stage), self._nf(stage - 1)
        if layer in ("ToRGB", "FromRGB"):
            return (own, self._colors) if layer == "ToRGB" else (self._colors, own)
        if layer == "Conv0_up" or (layer == "Skip" and self._generates):
            return (below, own)
        if layer in ("Conv1_down", "Skip"):
            return (own, below)
        return (None if layer == "Conv" else own, own)  # at 4x4 D has statistics beside its maps

    def _dense(self, scope: str) -> Pattern:
        layer = scope.rpartition("/")[2]
        if self._mapping is not None and scope.startswith(self._mapping):
            if layer.startswith("Label"):
                return (self._labels, None)
            read = [self._values.get(f"{self._mapping}{label}/weight") for label in ("LabelConcat", "LabelEmbed")]
            beside = sum(weight.shape[-1] for weight in read if weight is not None and weight.ndim)
            return (int(option(self._state, "latent_size", 512)) + beside if layer == "Dense0" else None, None)
        if self._generates:
            return (self._w_size, None)
        if layer == "Output":
            plain = not self._labels and not is_ada(self._state)
            return (self._nf(0), int(option(self._state, "score_max", 1)) if plain else None)
        return (self._labels if layer == "LabelEmbed" else None, self._nf(0) if layer == "Dense0" else None)

    def _other(self, name: str) -> Pattern | None:
        scope, _, part = name.rpartition("/")
        if part in ("lod", "noise_strength"):
            return ()
        if name == "dlatent_avg":
            return (self._w_size,)
        if part == "const":
            return (1, None if option(self._state, "fmap_const", 0) else self._nf(1), None, None)
        weight = self._values.get(f"{scope}/weight")
        if weight is None or self._weight(f"{scope}/weight") is None:
            return None
        return {
            "bias": weight.shape[-1:],
            "mod_bias": weight.shape[-2:-1],
            "mod_weight": (self._w_size, weight.shape[-2]),
        }.get(part)


def _require(name: str, value: np.ndarray, pattern: Pattern | None) -> None:
    if pattern is None:
        return
    fits = len(pattern) == value.ndim and all(p in (None, n) for p, n in zip(pattern, value.shape, strict=True))
    if not fits or not value.size:
        expected = ", ".join("any" if size is None else str(size) for size in pattern)
        raise UserError(f"{name} has shape {list(value.shape)}, expected [{expected}] by its options")
