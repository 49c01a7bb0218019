"""The training state: everything a run needs to continue bit-exactly, in one file.

`training-state-NNNNNNNNN.npz` (N: images shown) holds all variables of G, D and Gs, the optimizers' moments, the
path-length mean and the run's counters. Randomness and data order are functions of (seed, images shown) and need no
storage. The file is a plain zip of arrays with checksums: reading it executes nothing and notices damage.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError, atomic_write
from training.watch import WatchState

FORMAT = 1
# What reading a damaged or foreign zip of arrays and JSON may raise.
_DAMAGE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error
)  # fmt: skip
_PREFIX = "training-state-"
_OPTIONAL = ("loss_scale/", "augment_")  # variables that a state may lack
GOOD_PREFIX = "good-state-"  # states of a healthy run, kept to roll back to


@dataclass
class Progress:
    """Counters of a run.

    nimg: real images shown to D; step: minibatches; tick: number of the current tick; tick_nimg: nimg at its start;
    seconds: training time so far; best: metric name -> (value, snapshot file); metric_tick: tick of the last
    evaluation; snapshot_due, metrics_due: whether the snapshot of this moment is still to be written, and what is
    still to be measured on it; watch: what the watch remembers; rollbacks: how often the run went back to a good state;
    lrate_scale: factor on both learning rates, lowered by each of them.
    """

    nimg: int = 0
    step: int = 0
    tick: int = 0
    tick_nimg: int = 0
    seconds: float = 0.0
    best: dict[str, list[Any]] = field(default_factory=dict)
    metric_tick: int = -1
    snapshot_due: bool = False
    metrics_due: list[str] = field(default_factory=list)
    watch: WatchState = field(default_factory=WatchState)
    rollbacks: int = 0
    lrate_scale: float = 1.0


def save_state(
    run_dir: Path,
    progress: Progress,
    variables: Mapping[str, tf.Variable],
    config: dict[str, Any],
    data_hash: str,
    keep: int | None,
    prefix: str = _PREFIX,
) -> Path:
    """Write the state atomically, then delete all but the newest `keep` (None: no other). Returns its path.

    data_hash: content of the data set, which a resumed run must find again. prefix: of the file's name.
    """
    names = list(variables)
    values = dict(zip(names, tfutil.run([variables[n] for n in names]), strict=True))
    meta = {
        "format": FORMAT,
        "progress": dataclasses.asdict(progress),
        "config": config,
        "data_hash": data_hash,
        "variables": names,  # a damaged index of the file may hide some
    }
    path = run_dir / f"{prefix}{progress.nimg:09d}.npz"
    with atomic_write(path) as f:
        np.savez(f, meta=np.array(json.dumps(meta)), **{f"var/{n}": v for n, v in values.items()})
    for old in list_states(run_dir, prefix)[:-keep] if keep else []:
        old.unlink()
    return path


def list_states(run_dir: Path, prefix: str = _PREFIX) -> list[Path]:
    """State files of a run directory, oldest first; with `GOOD_PREFIX` those to roll back to."""
    return sorted(run_dir.glob(f"{prefix}*.npz"))


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(meta, variables by name) of one file. Raises `UserError` naming the file if it is damaged or foreign."""
    try:
        # Opened here: numpy leaves the file open when it finds it damaged.
        with open(path, "rb") as f, np.load(f, allow_pickle=False) as data:
            meta = json.loads(str(data["meta"]))
            values = {n.removeprefix("var/"): data[n] for n in data.files if n.startswith("var/")}
        format_number = meta["format"]
        progress_from(meta)
        _check_names(meta.get("variables"), values)
    except FileNotFoundError:
        raise UserError(f"{path}: no such training state") from None
    except _DAMAGE as e:
        raise UserError(f"{path}: damaged or not a training state ({e}); resume from an older one") from None
    if format_number != FORMAT:
        raise UserError(f"{path}: training state of format {format_number}, this version reads {FORMAT}")
    return meta, values


def _check_names(expected: list[str] | None, values: Mapping[str, np.ndarray]) -> None:
    """Raise `ValueError` unless just the saved variables are there. None: a state of before they were listed."""
    differ = sorted(set(values if expected is None else expected) ^ set(values))
    if differ:
        raise ValueError(f"the variables in it are not those that were saved: {', '.join(differ[:3])}")


def read_newest_state(run_dir: Path) -> tuple[Path, dict[str, Any], dict[str, np.ndarray], list[str]]:
    """(path, meta, variables, warnings): the newest state that is whole; a warning for every damaged one passed over.

    Raises `UserError` if the directory has none.
    """
    warnings: list[str] = []
    for path in reversed(list_states(run_dir)):
        try:
            return path, *read_state(path), warnings
        except UserError as e:
            warnings.append(f"{e}; falling back to the one before")
    hint = f" ({'; '.join(warnings)})" if warnings else ""
    raise UserError(f"{run_dir}: no usable training state{hint}; start again or use --init-from with a snapshot")


def restore(variables: Mapping[str, tf.Variable], values: Mapping[str, np.ndarray], where: Path) -> None:
    """Set all variables. Raises `UserError` listing names that are missing, unknown or of another shape.

    Loss scales come and go with the precision of a run, and states from before there was augmentation lack its
    variables: those that are missing keep their first value.
    """
    values = {n: v for n, v in values.items() if n in variables or not n.startswith(_OPTIONAL)}
    absent = {n: v for n, v in variables.items() if n.startswith(_OPTIONAL) and n not in values}
    values |= tfutil.run(absent) if absent else {}
    for name, value in values.items():
        # Before variables could be frozen, all shared their powers of the betas.
        if name.endswith(("/beta1_power", "/beta2_power")) and value.shape == () and name in variables:
            values[name] = np.broadcast_to(value, variables[name].shape.as_list())
    missing = [n for n in variables if n not in values]
    unknown = [n for n in values if n not in variables]
    shapes = [n for n in variables if n in values and tuple(variables[n].shape.as_list()) != values[n].shape]
    if missing or unknown or shapes:
        found = f"missing {missing[:3]}, unknown {unknown[:3]}, other shape {shapes[:3]}"
        raise UserError(f"{where}: does not fit this configuration: {found}")
    tfutil.set_vars({variables[n]: values[n] for n in variables})


def set_aside_newer(paths: list[Path], nimg_of: Callable[[Path], int], nimg: int) -> list[Path]:
    """Rename files of a run that lie beyond the point it goes on from, so that nothing takes them for its own.

    nimg_of: the image count that a file's name tells. Returns the new paths, `abandoned-...`.
    """
    moved = []
    for path in paths:
        if nimg_of(path) > nimg:
            moved.append(path.rename(path.with_name(f"abandoned-{path.name}")))
    return moved


def remove_unfinished(run_dir: Path) -> None:
    """Delete what a killed process was writing: temporary files, which nothing will ever complete."""
    for path in run_dir.glob(".*.tmp"):
        path.unlink()


def state_nimg(path: Path) -> int:
    """Image count in the name of a state file."""
    return int(path.stem.rpartition("-")[2])


def progress_from(meta: Mapping[str, Any]) -> Progress:
    """The counters of a state's meta record."""
    progress = dict(meta["progress"])
    return Progress(**{**progress, "watch": WatchState(**progress.get("watch", {}))})
