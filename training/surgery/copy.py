"""Weights of one model put into another of a different configuration, by name (as for model upgrades and transplants).

What has the same name and shape is copied. Where shapes differ, the part that both have is (`copy_parts`): the first
feature maps, of these the middle, scaled so that they weigh as much as before (equalised learning rate). Everything
else stays as the target has it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError, list_nearest
from training.surgery.copy_parts import Resizer
from training.surgery.function_options import function_options
from training.surgery.report import Report
from training.surgery.states import (
    Model,
    flat_variables,
    is_growing,
    lod_of,
    resolution_of,
    synthesis_prefix,
    with_variables,
)

_OF_LATENTS = ("rectify_latents", "normalize_latents")


def copy(
    source: Model, target: Model, resize: bool = True, only: Sequence[str] = (), without: Sequence[str] = ()
) -> tuple[Model, Report]:
    """`target` with the weights of `source`.

    Args:
        resize: copy parts of variables whose shape differs; otherwise these stay the target's.
        only, without: patterns of flat names with `*` and `?`, as `G_synthesis/*` or `*/ToRGB/*`; what is copied
            matches one of `only` (if given) and none of `without`.
    Returns:
        The model and its report: copied, resized, new (the target's, which the source lacks), kept (not asked for, or
        of another shape), left out (the source's, which the target lacks).
    Raises:
        UserError: a pattern that matches nothing, no network in common, or networks of progressive growing whose
            layers have other places than those of the target.
    """
    common = [name for name in target.networks if name in source.networks]
    if not common:
        found = f"{', '.join(source.networks)} and {', '.join(target.networks)}"
        raise UserError(f"{source.path}, {target.path}: no network in common, found {found}")
    _check_patterns([*only, *without], source, target)
    report = Report(notes=[f"{name} is only in {target.path}" for name in target.networks if name not in common])
    report.notes += [f"{name} is only in {source.path}" for name in source.networks if name not in common]

    def wanted(name: str) -> bool:
        is_in = not only or any(fnmatch.fnmatchcase(name, pattern) for pattern in only)
        return is_in and not any(fnmatch.fnmatchcase(name, pattern) for pattern in without)

    report.notes += _notes_on_levels(common, source, target)
    report.notes += _notes_on_options(common, source, target)

    def change(name: str, state: NetworkState) -> NetworkState:
        if name not in common:
            return state
        old, new = flat_variables(source.networks[name]), flat_variables(state)
        resizer = Resizer(source.networks[name], state)
        place = synthesis_prefix(state)
        if any(n in old and n.startswith(place) and wanted(n) for n in new):
            _require_equal_places(name, source, target)
        for variable, value in new.items():
            if variable not in old:
                report.add(name, variable, "new", None, value)
            elif not wanted(variable) or (is_growing(state) and variable in ("lod", f"{place}lod")):
                report.add(name, variable, "kept", old[variable], value)
            elif resizer.is_alike(variable, old[variable], value):
                new[variable] = old[variable]
                report.add(name, variable, "copied", old[variable], value)
            elif resize and resizer.knows(variable, old[variable], value):
                new[variable] = resizer.resized(variable, old[variable], value)
                report.add(name, variable, "resized", old[variable], value)
            else:
                report.add(name, variable, "kept", old[variable], value)
        report.notes += [f"{name}: {note}" for note in resizer.notes]
        for variable in old:
            if variable not in new:
                report.add(name, variable, "left out", old[variable], None)
        return with_variables(state, new)

    return target.map(change), report


def _require_equal_places(name: str, source: Model, target: Model) -> None:
    """RGB layers of networks of progressive growing are numbered from the highest resolution down (spec 2.4)."""
    found = [
        f"{resolution_of(model.networks[name])} {'growing' if is_growing(model.networks[name]) else 'not growing'}"
        for model in (source, target)
    ]
    if found[0] != found[1] and any(is_growing(model.networks[name]) for model in (source, target)):
        raise UserError(
            f"{source.path}, {target.path}: {name} has resolution {found[0]}, that to copy into {found[1]}; layers of "
            "progressive growing fit their like alone: `run_surgery.py orig SRC OUT` writes networks that do not grow"
        )


def _notes_on_levels(names: Sequence[str], source: Model, target: Model) -> list[str]:
    growing = [name for name in names if is_growing(target.networks[name])]
    levels = {name: [lod_of(model.networks[name]) for model in (source, target)] for name in growing}
    return [f"{name}: lod stays {new:g}; it was {old:g} where weights come from" for name, (old, new) in levels.items()]


def _notes_on_options(names: Sequence[str], source: Model, target: Model) -> list[str]:
    notes = []
    for name in names:
        old, new = (function_options(model.networks[name]) for model in (source, target))
        for key in old:
            if key != "base_shape" and key in new and old[key] != new[key]:
                what = ": z gives another w" if key in _OF_LATENTS else ""
                notes.append(f"{name}: {key} stays {new[key]}; it was {old[key]} where weights come from{what}")
    return notes


def _check_patterns(patterns: Sequence[str], source: Model, target: Model) -> None:
    names = {n for model in (source, target) for state in model.networks.values() for n in flat_variables(state)}
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            scopes = {f"{name.split('/')[0]}/*" for name in names if "/" in name}
            raise UserError(f"no variable matches {pattern!r}: {list_nearest(pattern, scopes)}")
