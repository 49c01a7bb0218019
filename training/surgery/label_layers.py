"""Which of the two kinds of label layers a network has, or would have with labels (spec 2.7, 2.10).

StyleGAN2-ADA always embeds labels in G and projects on them in D; networks of StyleGAN2's builders do so with the
options `embed_labels` and `project_labels`, which the training configurations of ADA set.
"""

from __future__ import annotations

from typing import Any

from dnnlib.snapshot import NetworkState
from training.surgery.states import fmaps_of, is_ada, option


def embeds_labels(state: NetworkState) -> bool:
    """Whether G reads labels by an embedding that is normalised apart from z, instead of multiplied beside z."""
    return is_ada(state) or bool(option(state, "embed_labels", False))


def projects_labels(state: NetworkState) -> bool:
    """Whether D's score is a projection on mapped labels, instead of one output per label."""
    return is_ada(state) or bool(option(state, "project_labels", False))


def _name(state: NetworkState, what: str) -> str:
    """Name of an option of D's label mapping: StyleGAN2-ADA calls it as that of the mapping network of G."""
    own = f"label_map_{what}"
    return f"mapping_{what}" if is_ada(state) and own not in state["static_kwargs"] else own


def label_map_layers(state: NetworkState) -> int:
    """Layers after the embedding of labels in D."""
    return int(option(state, _name(state, "layers"), 0))


def label_map_width(state: NetworkState) -> int:
    """Numbers that D projects on: as many as its last dense layer has, unless an option says otherwise."""
    return int(option(state, _name(state, "fmaps"), fmaps_of(state)(0)))


def label_map_lrmul(state: NetworkState) -> float:
    """Learning rate multiplier of these layers, which what they store is multiplied by."""
    return float(option(state, _name(state, "lrmul"), 0.1))


def label_map_nonlinearity(state: NetworkState) -> str:
    """Their activation."""
    return str(option(state, _name(state, "nonlinearity"), "lrelu"))


def label_map_width_option(state: NetworkState, width: int) -> dict[str, Any]:
    """The option that says so many."""
    return {_name(state, "fmaps"): width}
