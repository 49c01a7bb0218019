"""Training: check everything that can be refused, build or restore the run, then let it loop.

`train(config, ...)` is the whole of it; scripts only parse. Everything that survives a restart is in
`training/state.py`, and everything random or ordered derives from (seed, images shown).
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnnlib.submission import log, options, run_dir, stop
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from training import config_io, init_from
from training.config import TrainConfig
from training.evaluation import EvaluatorFactory
from training.run import Run
from training.startup import check_same_data, find_state, open_dataset, open_session
from training.watch import TrainingStopped


@dataclass(frozen=True)
class TrainResult:
    """How a run ended. finished: it reached `total_kimg`; state: the last training state, if any."""

    run_dir: Path
    nimg: int
    finished: bool
    state: Path | None
    best: dict[str, list[Any]]


def train(
    config: TrainConfig,
    result_dir: str | Path = "results",
    run_desc: str = "stylegan2",
    resume: str | Path | None = None,
    init_from_pkl: str | None = None,
    make_evaluator: EvaluatorFactory | None = None,
    asked_for: Collection[str] = (),
) -> TrainResult:
    """Train until `total_kimg`, a signal, or a file `abort.txt` in the run directory.

    resume: `latest`, a run directory or a state file: continues there with `config` (already checked against the
    run's own). init_from_pkl: a pickle of (G, D, Gs) to start from. make_evaluator: builds what measures snapshots.
    asked_for: paths of fields that the pickle does not change, see `training.init_from`.
    Raises `UserError` before anything is written if configuration and data do not fit each other, or if another process
    trains in the run directory; `TrainingStopped` if the watch ended the run.
    """
    if resume and init_from_pkl:
        raise UserError("--resume continues a run, --init-from starts a new one from a pickle: give one of them")
    dataset = open_dataset(config)
    source = init_from.read_source(init_from_pkl) if init_from_pkl else None
    notes: list[str] = []
    if source is not None:
        init_from.check_source(source, dataset.shape, dataset.label_size)
        config, notes = init_from.adopt_architecture(config, source, asked_for)
    directory, found = find_state(resume, result_dir) if resume else (None, None)
    # Building the graph takes long: what is known now is refused now.
    if found is not None:
        check_same_data(*found[:2], dataset)
    if directory is None:
        run_dir.check_result_dir(result_dir)
    with contextlib.ExitStack() as stack:
        if directory is not None:
            stack.enter_context(run_dir.hold_run_dir(directory))
        stack.enter_context(tf.Graph().as_default())
        stack.enter_context(open_session(config))
        run = stack.enter_context(Run(config, dataset, make_evaluator))
        if source is not None:
            init_from.copy_into(source, run.networks)
        if found is not None:
            run.restore(*found)
        # Whatever can be refused has been refused now; only then something is written.
        if directory is None:
            directory = run_dir.create_run_dir(result_dir, run_desc)
            stack.enter_context(run_dir.hold_run_dir(directory))
        options.write_options(directory, config_io.to_dict(config))
        stop.clear_abort(directory)
        with log.LogTee(directory / "log.txt"), stop.GracefulStop() as stopper:
            for note in notes:
                print(note)
            finished = run.loop(directory, stopper)
        if run.alarm and not finished:
            resume_command = f"python run_training.py --resume {shlex.quote(str(directory))}"
            raise TrainingStopped(f"{run.alarm}; the training state is kept: {resume_command}")
        return TrainResult(directory, run.progress.nimg, finished, run.state, run.progress.best)
