"""From a model without labels to a conditional one at the same function.

Generators draw for every label what they drew before. Discriminators of StyleGAN2 score every one-hot label as before
(their score is a sum weighted by the label, so it is 0 for the zero label); those that project on labels, as those of
StyleGAN2-ADA do, score the zero label as before, and others a little differently, since a projection on equal
embeddings could not learn to tell them apart.
"""

from __future__ import annotations

import math

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError
from training.surgery.label_layers import embeds_labels, label_map_layers, label_map_width, projects_labels
from training.surgery.report import Report, compare
from training.surgery.states import (
    Fresh,
    Model,
    Variables,
    flat_variables,
    is_generator,
    mapping_prefix,
    option,
    with_options,
    with_variables,
)


def add_labels(model: Model, label_size: int, seed: int = 0) -> tuple[Model, Report]:
    """The model with labels of `label_size` components.

    Raises:
        UserError: the model has labels already, `label_size` is below 1, or D would map labels by more than one layer.
    """
    if label_size < 1:
        raise UserError(f"label_size: found {label_size}, expected at least 1")
    fresh = Fresh(seed)

    def change(name: str, state: NetworkState) -> NetworkState:
        found = option(state, "label_size", 0)
        if found:
            raise UserError(f"{model.path}: {name} has labels of {found} components already")
        if is_generator(state):
            values = (_embedding if embeds_labels(state) else _mapping)(state, label_size, fresh)
        elif projects_labels(state):
            if label_map_layers(state):
                raise UserError(
                    f"{model.path}: {name} would map labels by layers (label_map_layers, mapping_layers); "
                    "labels are added to discriminators that only embed them"
                )
            values = _projection(state, label_size, fresh)
        else:
            values = _output(state, label_size)
        return with_variables(with_options(state, label_size=label_size), values)

    result = model.map(change)
    report = compare(model, result)
    report.notes.append("function kept: images of all labels are those from before")
    if "D" in model.networks:
        which = "of the zero label" if projects_labels(model.networks["D"]) else "of every one-hot label"
        report.notes.append(f"function kept: scores {which} are those from before")
    return result, report


def _mapping(state: NetworkState, label_size: int, fresh: Fresh) -> Variables:
    """Labels times zero beside z. All of it is normalised to norm sqrt(2n) instead of sqrt(n) (spec 2.7), which cancels
    with the first layer's sqrt(fan_in); weights that read labels are random, so that the zeros learn."""
    values, prefix = flat_variables(state), mapping_prefix(state)
    first = values[f"{prefix}Dense0/weight"]
    name, std = f"{prefix}Dense0/weight", 1 / float(option(state, "mapping_lrmul", 0.01))
    values[name] = np.concatenate([first, fresh.normal(name, *first.shape, std=std)])
    if not option(state, "normalize_latents", True):
        values[name] *= np.float32(math.sqrt(2))
    label = np.zeros([label_size, first.shape[0]], np.float32)
    return {f"{prefix}LabelConcat/weight": label, **values}


def _embedding(state: NetworkState, label_size: int, fresh: Fresh) -> Variables:
    """A random embedding, normalised apart from z (spec 2.7), and read with weight zero."""
    values, prefix = flat_variables(state), mapping_prefix(state)
    first = values[f"{prefix}Dense0/weight"]
    width = int(option(state, "label_fmaps", first.shape[0]))
    grown = np.float32(math.sqrt(1 + width / first.shape[0]))
    values[f"{prefix}Dense0/weight"] = np.concatenate([first * grown, np.zeros([width, first.shape[1]], np.float32)])
    embed = f"{prefix}LabelEmbed"
    weight = fresh.normal(f"{embed}/weight", label_size, width)
    return {f"{embed}/weight": weight, f"{embed}/bias": np.zeros(width, np.float32), **values}


def _output(state: NetworkState, label_size: int) -> Variables:
    """One output per label, all alike."""
    values = flat_variables(state)
    values["Output/weight"] = np.tile(values["Output/weight"], (1, label_size))
    values["Output/bias"] = np.tile(values["Output/bias"], label_size)
    return values


def _projection(state: NetworkState, label_size: int, fresh: Fresh) -> Variables:
    """An embedding b + Wy with signs b, of mean square 1: projected on b, outputs give the old score (spec 2.10)."""
    values = flat_variables(state)
    width = label_map_width(state)
    signs = np.where(fresh.rng("LabelEmbed/bias").random(width) < 0.5, -1, 1).astype(np.float32)
    values["Output/weight"] = values["Output/weight"] * signs / np.float32(math.sqrt(width))
    values["Output/bias"] = values["Output/bias"] * signs / np.float32(math.sqrt(width))
    weight = fresh.normal("LabelEmbed/weight", label_size, width)
    return {"LabelEmbed/weight": weight, "LabelEmbed/bias": signs, **values}
