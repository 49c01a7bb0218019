"""More feature maps at the same function.

New maps either start at random and are read with weight zero (`zero`), or are copies of old ones (`split`). Of copies
every weight goes, whole, to one of them, drawn at random: a sum over halves would not survive demodulation, which
divides by the root of the sum of squares (paper section 2.2), and both partners would learn the same.
"""

from __future__ import annotations

import math

from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError
from training.fmaps import Fmaps
from training.surgery.equalized import require_lrelu
from training.surgery.label_layers import label_map_width_option, projects_labels
from training.surgery.report import Report, compare
from training.surgery.states import (
    Fresh,
    Model,
    fmaps_of,
    is_generator,
    mapping_prefix,
    option,
    require_plain,
    resolution_of,
    with_options,
    with_variables,
)
from training.surgery.widen_layers import HOW, Axis, Widener

_RULE = ("fmap_base", "fmap_decay", "fmap_min", "fmap_max", "fmap_explicit")


def widen(
    model: Model,
    fmaps: Fmaps | None = None,
    dlatent_size: int | None = None,
    mapping_fmaps: int | None = None,
    how: str = "zero",
    networks: tuple[str, ...] = ("G", "D", "Gs"),
    seed: int = 0,
) -> tuple[Model, Report]:
    """The model with more feature maps per stage, or a wider mapping network and w.

    Args:
        fmaps: feature maps of every stage, at least what the network has (None: as they are).
        dlatent_size, mapping_fmaps: width of w, and of the hidden mapping layers (None: as they are).
        how: `zero` or `split`.
        networks: which to change.
        seed: of the new weights.
    Raises:
        UserError: a stage would get narrower, or a network has layers that this does not know.
    """
    if how not in HOW:
        raise UserError(f"widen: found how={how!r}, expected {' or '.join(HOW)}")
    fresh = Fresh(seed)

    def change(name: str, state: NetworkState) -> NetworkState:
        if name not in networks:
            return state
        require_plain(state, model.path, "widening")
        if is_generator(state):
            return _widen_generator(state, fmaps, dlatent_size, mapping_fmaps, how, fresh, model.path)
        return _widen_discriminator(state, fmaps, how, fresh, model.path)

    result = model.map(change)
    report = compare(model, result)
    report.notes.append("function kept: new feature maps add nothing yet")
    return result, report


def _axis(old: int, new: int | None, how: str, what: str, path: str) -> Axis:
    new = old if new is None else new
    if new < old:
        raise UserError(f"{path}: {what} would shrink from {old} to {new}; widening needs at least {old}")
    return Axis.widened(old, new, how)


def _stages(state: NetworkState, fmaps: Fmaps | None, how: str, path: str) -> dict[int, Axis]:
    """Axis of the feature maps per stage: 0 for the narrowest dense layer, then one per resolution (`Fmaps`)."""
    old, new = fmaps_of(state), fmaps or fmaps_of(state)
    stages = range(resolution_of(state).bit_length() - 1)
    return {s: _axis(old(s), new(s), how, f"{state['name']} at stage {s}", path) for s in stages}


def _options(fmaps: Fmaps | None) -> dict[str, object]:
    """Static options that say `fmaps`; all of the rule, so that nothing is left of the old one."""
    if fmaps is None:
        return {}
    if fmaps.explicit is not None:
        return {**dict.fromkeys(_RULE), "fmap_explicit": dict(fmaps.explicit)}
    defaults = Fmaps()
    rule = {"fmap_base": "base", "fmap_decay": "decay", "fmap_min": "min", "fmap_max": "max"}
    changed = {key: getattr(fmaps, name) for key, name in rule.items()}
    return {k: None if v == getattr(defaults, rule[k]) else v for k, v in changed.items()} | {"fmap_explicit": None}


def _widen_generator(
    state: NetworkState,
    fmaps: Fmaps | None,
    dlatent_size: int | None,
    mapping_fmaps: int | None,
    how: str,
    fresh: Fresh,
    path: str,
) -> NetworkState:
    work = Widener(state, how, fresh)
    stages = _stages(state, fmaps, how, path)
    old_w = work.values["dlatent_avg"].size
    w = _axis(old_w, dlatent_size, how, "dlatent_size", path)
    work.per_map("dlatent_avg", w, new_std=0.0)

    prefix = mapping_prefix(state)
    layers = [name for name in work.values if name.startswith(f"{prefix}Dense") and name.endswith("/weight")]
    hidden = work.values[layers[0]].shape[1] if len(layers) > 1 else old_w
    middle = _axis(hidden, mapping_fmaps if len(layers) > 1 else None, how, "mapping_fmaps", path)
    std = 1 / float(option(state, "mapping_lrmul", 0.01))
    inputs = Axis.same(work.values[layers[0]].shape[0])
    for layer in layers:
        outputs = w if layer == layers[-1] else middle
        work.weight(layer, inputs, outputs, std=std)
        work.per_map(layer.removesuffix("weight") + "bias", outputs, new_std=0.0)
        inputs = outputs
    work.synthesis(stages, w)

    changes = _options(fmaps)
    if dlatent_size is not None:
        changes["dlatent_size"] = dlatent_size
    if middle.new != hidden or (dlatent_size is not None and len(layers) > 1):
        changes["mapping_fmaps"] = middle.new
    return with_variables(with_options(state, **changes), work.finish(path))


def _widen_discriminator(state: NetworkState, fmaps: Fmaps | None, how: str, fresh: Fresh, path: str) -> NetworkState:
    work = Widener(state, how, fresh)
    stages = _stages(state, fmaps, how, path)
    last = stages[1]  # the maps that minibatch standard deviation sees
    extra = work.values["4x4/Conv/weight"].shape[2] - last.old
    if extra > 1 and last.new > last.old:
        raise UserError(
            f"{path}: mbstd_num_features is {extra}; with more maps at 4x4 the statistics would be taken over other "
            "groups of them, so their number must stay"
        )
    if extra:
        require_lrelu(state, path, "widening")
    work.discriminator(stages, extra, math.sqrt(0.5) if option(state, "architecture", "resnet") == "resnet" else 1.0)
    changes = _options(fmaps)
    if projects_labels(state) and option(state, "label_size", 0):
        # Its default is the width of the last dense layer, which may have changed.
        changes |= label_map_width_option(state, work.values["Output/weight"].shape[1])
    return with_variables(with_options(state, **changes), work.finish(path))
