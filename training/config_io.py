"""Configurations as JSON, as `KEY=VALUE` text, and compared with each other (what may change when a run resumes)."""

from __future__ import annotations

import dataclasses
import json
import os
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dnnlib.submission.options import read_options, write_options
from dnnlib.util import UserError, list_nearest
from training.config import TrainConfig
from training.config_types import parse_text

# Fields that a resumed run may change, by path or section, and what such a change means. All others are fixed.
RESUMABLE: dict[str, str] = {
    "num_gpus": "the same sub-batches on other devices while schedule.batch_gpu stays; results agree to rounding",
    "device": "results agree to rounding only",
    "ops": "results agree to rounding only",
    "deterministic": "results agree to rounding only",
    "tf32": "results agree to the rounding of TensorFloat-32 only",
    "data.data_dir": "the same data set is expected at the new place",
    "data.prefetch_mb": "no influence on results",
    "data.threads": "no influence on results",
    "G.fused_modconv": "results agree to rounding only",
    "G.style_mixing_prob": "applies from here on",
    "loss.G_loss": "applies from here on; Adam's moments are kept",
    "loss.D_loss": "applies from here on; Adam's moments are kept",
    "loss.D_penalty": "applies from here on; Adam's moments are kept",
    "loss.top_k": "applies from here on",
    **dict.fromkeys(("loss.G_flood", "loss.D_flood", "loss.flood_stops"), "applies from here on"),
    **dict.fromkeys(("loss.bcr_real", "loss.bcr_fake", "loss.bcr_shift"), "applies from here on"),
    **dict.fromkeys(("loss.zcr_gen", "loss.zcr_dis", "loss.zcr_std"), "applies from here on"),
    "loss.r1_gamma": "applies from here on",
    "loss.pl_weight": "applies from here on",
    "loss.pl_decay": "applies from here on",
    "opt.G_lrate": "applies from here on; Adam's moments are kept",
    "opt.D_lrate": "applies from here on; Adam's moments are kept",
    "schedule.total_kimg": "the run ends there",
    "schedule.batch": "applies from here on; the half-life of Gs stays the same in kimg",
    "schedule.D_repeats": "applies from here on",
    "schedule.batch_gpu": "another split of the same minibatch; minibatch-stddev groups and random numbers differ",
    "schedule.kimg_per_tick": "from the next tick on",
    "schedule.ema_kimg": "applies from here on",
    "schedule.ema_rampup": "applies from here on",
    "schedule.G_lrate_steps": "applies from here on",
    "schedule.D_lrate_steps": "applies from here on",
    "schedule.gamma_steps": "applies from here on",
    "schedule.mixing_steps": "applies from here on",
    "schedule.batch_steps": "applies from here on",
    "schedule.lrate_curve": "applies from here on",
    "schedule.gamma_curve": "applies from here on",
    "schedule.mixing_curve": "applies from here on",
    "G.num_fp16_res": "applies from here on; variables are float32 in either case",
    "D.num_fp16_res": "applies from here on; variables are float32 in either case",
    "G.conv_clamp": "applies from here on",
    "D.conv_clamp": "applies from here on",
    "precision": "applies from here on; variables are float32 in either case",
    "freeze": "applies from here on; Adam's moments are kept",
    "watch": "applies from here on",
    "augment": "applies from here on; a probability that is adjusted goes on from where it is",
    "snapshots": "no influence on training",
    "metrics": "no influence on training",
}


# ---------------------------------------------------------------- fields


def field_types() -> dict[str, Any]:
    """Type of every field by its path, e.g. `{'seed': int, 'G.fmap_base': int, ...}`, in the order of declaration."""
    result: dict[str, Any] = {}
    for name, hint in _fields(TrainConfig):
        if dataclasses.is_dataclass(hint):
            result.update((f"{name}.{leaf}", leaf_hint) for leaf, leaf_hint in _fields(hint))
        else:
            result[name] = hint
    return result


def _fields(cls: Any) -> Iterator[tuple[str, Any]]:
    hints = typing.get_type_hints(cls)
    return ((spec.name, hints[spec.name]) for spec in dataclasses.fields(cls))


def get_field(config: TrainConfig, path: str) -> Any:
    """Value of the field at a path such as `G.fmap_base`."""
    value: Any = config
    for part in path.split("."):
        value = getattr(value, part)
    return value


def with_fields(config: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """A copy with the fields at the given paths changed, all at once: only the result has to be consistent.

    Raises:
        UserError: an unknown path, a value of the wrong type, or a configuration that makes no sense.
    """
    sections: dict[str, dict[str, Any]] = {}
    top: dict[str, Any] = {}
    known = field_types()
    for path, value in changes.items():
        if path not in known:
            raise UserError(f"unknown configuration field {path!r}: {list_nearest(path, known)}")
        section, _, leaf = path.rpartition(".")
        (sections.setdefault(section, {}) if section else top)[leaf] = value
    for section, values in sections.items():
        top[section] = dataclasses.replace(getattr(config, section), **values)
    return dataclasses.replace(config, **top)


# ---------------------------------------------------------------- KEY=VALUE


def resolve_key(key: str) -> str:
    """Full path of a field given by its path or by its bare name where only one section has it.

    Raises:
        UserError: unknown (with the nearest name), or the bare name stands in several sections (with the list).
    """
    known = list(field_types())
    if key in known:
        return key
    paths = [path for path in known if path.rpartition(".")[2] == key]
    if len(paths) == 1:
        return paths[0]
    if paths:
        raise UserError(f"--set {key}: ambiguous, expected one of {', '.join(paths)}")
    section = key.partition(".")[0]
    nearby = [path for path in known if path.startswith(section + ".")] if "." in key else []
    raise UserError(f"--set {key}: unknown configuration field; {list_nearest(key, nearby or known)}")


def apply_set(config: TrainConfig, *assignments: str) -> TrainConfig:
    """Apply `KEY=VALUE` texts, typed by the fields: `G.fmap_base=512`, `r1_gamma=0.1`, `G.fmap_explicit={"4": 64}`.

    Raises:
        UserError: no `=`, unknown or ambiguous key, a value of the wrong type, an inconsistent result.
    """
    return with_fields(config, parse_sets(assignments))


def parse_sets(assignments: Iterable[str]) -> dict[str, Any]:
    """`KEY=VALUE` texts as {path: value}; see `apply_set`."""
    types = field_types()
    changes: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text!r}: expected KEY=VALUE, e.g. G.fmap_base=512")
        path = resolve_key(key.strip())
        changes[path] = parse_text(value, types[path], path)
    return changes


# ---------------------------------------------------------------- JSON


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Every field, as JSON types: tuples as lists, keys of maps as text."""
    return _jsonable(dataclasses.asdict(config))


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return value


def from_dict(values: Mapping[str, Any], where: str = "configuration") -> TrainConfig:
    """The inverse of `to_dict`. Fields that are missing take their defaults, unknown ones are refused.

    Raises:
        UserError: unknown field (with the nearest name), wrong type, inconsistent values; `where` names the source.
    """
    known = field_types()
    sections = {path.partition(".")[0] for path in known if "." in path}
    flat: dict[str, Any] = {}
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: found {type(values).__name__}, expected an object with the fields of a run")
    for key, value in values.items():
        if key in sections:
            if not isinstance(value, Mapping):
                raise UserError(f"{where}: {key}: found {value!r}, expected an object with the fields of that section")
            flat.update((f"{key}.{leaf}", item) for leaf, item in value.items())
        else:
            flat[key] = value
    for path in flat:
        if path not in known:
            section = path.partition(".")[0]
            nearby = [p for p in known if p.startswith(section + ".")] or sorted(
                {p for p in known if "." not in p} | sections
            )
            raise UserError(f"{where}: unknown field {path!r}: {list_nearest(path, nearby)}")
    try:
        return with_fields(TrainConfig(), flat)
    except UserError as err:
        raise UserError(f"{where}: {err}") from err


def save_config(config: TrainConfig, path: str | os.PathLike) -> None:
    """Write a configuration as JSON, atomically: to a file, or to `training_options.json` of a run directory."""
    write_options(path, to_dict(config))


def load_config(path: str | os.PathLike) -> TrainConfig:
    """Read a configuration from a JSON file, or from the `training_options.json` of a run directory.

    Raises:
        UserError: no such file, not JSON, or not a configuration.
    """
    return from_dict(read_options(path), where=str(path))


# ---------------------------------------------------------------- comparing


def diff(old: TrainConfig, new: TrainConfig) -> list[tuple[str, Any, Any]]:
    """Fields that differ: (path, old value, new value), in the order of declaration."""
    pairs = ((path, get_field(old, path), get_field(new, path)) for path in field_types())
    return [(path, a, b) for path, a, b in pairs if a != b]


def check_resume(old: TrainConfig, new: TrainConfig) -> list[str]:
    """Explain, field by field, what a resumed run changes against the run so far; empty if nothing.

    Raises:
        UserError: fields changed that a run cannot change (architecture, resolution, seed ...), all of them listed
            with both values.
    """
    fixed, notes = [], []
    for path, before, after in diff(old, new):
        meaning = RESUMABLE.get(path) or RESUMABLE.get(path.partition(".")[0])
        if meaning is None:
            fixed.append(f"{path} was {_show(before)}, found {_show(after)}")
        else:
            notes.append(f"{path}: {_show(before)} -> {_show(after)} ({meaning})")
    if fixed:
        raise UserError(
            f"cannot resume with a changed configuration: {'; '.join(fixed)}; leave these options out to continue the "
            "run, or start a new one from its last snapshot with --init-from"
        )
    return notes


def _show(value: Any) -> str:
    return json.dumps(_jsonable(value))
