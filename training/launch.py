"""From what a person asked for to a checked configuration, and to the run that is to be continued."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnnlib.snapshot.source import newest_snapshot, resolve_alias
from dnnlib.submission.options import OPTIONS_FILE
from dnnlib.submission.run_dir import find_run_dir
from dnnlib.util import UserError, is_url
from training import config_io
from training.config import TrainConfig
from training.dataset import TFRecordDataset

STATE_FILES = "training-state-*.npz"


@dataclass(frozen=True)
class Request:
    """What the command line names. Paths of fields to values: of the preset, and given explicitly, which win."""

    preset_fields: Mapping[str, Any] | None = None
    config_file: str | None = None
    explicit: Mapping[str, Any] | None = None
    resume: str | None = None
    init_from: str | None = None
    result_dir: str = "results"
    size: tuple[int, int] | None = None  # (height, width) that the images must have; None: whatever they have


@dataclass(frozen=True)
class Launch:
    """What will run.

    config: all of it; resume: the run directory or state to continue (None: a new run); notes: for people; asked_for:
    paths of the fields that were set by name or in a file, not by a preset; size: see `Request`.
    """

    config: TrainConfig
    resume: Path | None
    notes: tuple[str, ...]
    asked_for: frozenset[str] = frozenset()
    size: tuple[int, int] | None = None


def resolve(request: Request) -> Launch:
    """Base: the run's own configuration when one is resumed, else preset or file; explicit fields replace its values.

    Raises:
        UserError: contradicting options, unreadable files, a change that a run cannot make.
    """
    _check_options(request)
    notes: list[str] = []
    has_base = request.preset_fields is not None or request.config_file is not None
    run_dir = None
    if request.resume is not None:
        run_dir = find_run(request.resume, request.result_dir, may_start=has_base)
        if run_dir is None:
            notes.append(f"Nothing to resume in {request.result_dir}: starting a new run")
    if not has_base and run_dir is None:
        raise UserError("give --preset NAME (see --list-presets) or --config FILE")
    old = None if run_dir is None else config_io.load_config(run_dir)
    base = config_io.load_config(request.config_file) if request.config_file else old or TrainConfig()
    new, adapted = _apply(base, request.preset_fields or {}, request.explicit or {})
    notes += adapted
    if old is not None:
        notes += [f"Changed for the rest of the run: {note}" for note in config_io.check_resume(old, new)]
    asked_for = frozenset(config_io.field_types() if request.config_file else request.explicit or ())
    source = None if run_dir is None else _resume_source(request.resume, run_dir)
    return Launch(new, source, tuple(notes), asked_for, request.size)


def _check_options(request: Request) -> None:
    if request.preset_fields is not None and request.config_file is not None:
        raise UserError("--preset and --config both describe a run: give one of them, and --set for single fields")
    if request.resume is not None and request.init_from is not None:
        raise UserError(
            "--resume continues a run with its optimizer and counters, --init-from starts a new run from the networks "
            "of a pickle: give one of them"
        )
    pkl = request.init_from
    if pkl is None or is_url(resolve_alias(pkl)):
        return
    if Path(pkl).is_dir():
        newest_snapshot(pkl)  # raises if it has none
    elif not Path(pkl).is_file():
        raise UserError(f"--init-from {pkl}: no such file; expected a network pickle, a run directory, or a URL")


def _apply(base: TrainConfig, preset: Mapping[str, Any], explicit: Mapping[str, Any]) -> tuple[TrainConfig, list[str]]:
    """`base` with the fields of the preset and explicit ones, and notes."""
    fields = {**preset, **explicit}
    try:
        return config_io.with_fields(base, fields), []
    except UserError:
        # Images per device that nobody asked for need not fit another minibatch or number of devices.
        splits = {"schedule.batch", "schedule.batch_steps", "num_gpus"}
        if "schedule.batch_gpu" in explicit or not explicit.keys() & splits:
            raise
    config = config_io.with_fields(base, fields | {"schedule.batch_gpu": None})
    return config, [
        "Images per device: chosen, because the configured number does not fit this minibatch (--batch-gpu)"
    ]


def find_run(resume: str, result_dir: str, may_start: bool) -> Path | None:
    """Directory of the run that `--resume` means; None if there is none yet and the command can start one.

    resume: `latest`, a directory, a number, or a state file.

    Raises:
        UserError: no such run, or one without a training state.
    """
    if Path(resume).is_file():
        run_dir = Path(resume).parent
        if not zipfile.is_zipfile(resume) and not Path(resume).match(STATE_FILES):
            raise UserError(
                f"--resume {resume}: no training state ({STATE_FILES}); to continue its run give the run directory "
                f"({run_dir}), to start a new one from a network pickle --init-from"
            )
        if not (run_dir / OPTIONS_FILE).is_file():
            raise UserError(f"--resume {resume}: expected a training state in its run directory, beside {OPTIONS_FILE}")
        return run_dir
    try:
        run_dir = find_run_dir(resume, result_dir, having=OPTIONS_FILE)
    except UserError as err:
        if resume == "latest" and may_start:
            return None
        raise UserError(f"--resume: {err}; to start a run give --preset and --dataset without --resume") from err
    if not any(run_dir.glob(STATE_FILES)):
        if resume == "latest" and may_start:
            return None  # e.g. a restart loop whose last start was killed before its first state
        raise UserError(
            f"--resume {resume}: {run_dir} holds no training state, it ended before the first was written; start it "
            "again without --resume, or name another run"
        )
    return run_dir


def _resume_source(resume: str | None, run_dir: Path) -> Path:
    """The state file, if one was named, else the run directory."""
    return Path(resume) if resume is not None and Path(resume).is_file() else run_dir


def check_size(dataset: TFRecordDataset, size: tuple[int, int] | None) -> None:
    """Raises `UserError` if the images of a data set do not have the size (height, width) that was asked for."""
    found = dataset.shape[1:]
    if size is not None and found != size:
        raise UserError(
            f"--resolution {size[1]}x{size[0]}: images of {dataset.path} have {found[1]}x{found[0]} at that level; "
            f"leave the option out, or make the data set anew with dataset_tool.py --resolution {size[1]}x{size[0]}"
        )


def describe_launch(launch: Launch, init_from: str | None, memory_gb: float | None = None) -> Iterator[str]:
    """Lines of a dry run: the configuration, a first minibatch, costs of the networks, memory, disk. Writes nothing.

    memory_gb: GiB of memory of one device, for the largest minibatch that fits; None: what this machine's has.

    Raises:
        UserError: no data set and no resolution, or something about the data set or pickle does not fit.
    """
    from training import describe
    from training.init_from import adopt_architecture, check_source, read_source
    from training.schedule import schedule
    from training.startup import open_dataset

    config, notes, dataset = launch.config, launch.notes, None
    if config.data.dataset:
        dataset = open_dataset(config)
        check_size(dataset, launch.size)
        shape, label_size = dataset.shape, dataset.label_size
    elif config.data.resolution:
        side = config.data.resolution
        shape, label_size = (3, *(launch.size or (side, side))), 0
    else:
        raise UserError("--dry-run: give --dataset NAME, or --resolution N to stand in for one")
    if init_from is not None:
        source = read_source(init_from)
        check_source(source, shape, label_size)
        config, changes = adopt_architecture(config, source, launch.asked_for)
        notes = (*notes, *changes)
    first = list(describe.describe_minibatch(dataset, schedule(config, 0, max(shape[1:])).batch)) if dataset else []
    yield "Configuration:"
    yield from describe.describe_config(config)
    yield from ("", *notes, *first)
    yield from describe.describe_run(config, shape, label_size, memory_gb)
    yield "Dry run: nothing was written."
