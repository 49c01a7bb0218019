"""The training loop: initialise, resume, then iterate; ticks report, snapshots are written, states allow to resume.

`train(config, ...)` is the whole of it; scripts only parse. Everything that survives a restart is in
`training/state.py`, and everything random or ordered derives from (seed, images shown).
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dnnlib.submission import disk, log, options, run_dir, stop
from dnnlib.tflib import tfutil
from dnnlib.tflib.autosummary import StatsWriter
from dnnlib.tflib.network import Network
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError, format_time
from training import config_io, init_from, schedule
from training.augment.held_out import open_held_out
from training.augment.state import summary as augment_summary
from training.augment.zoom import zoomed
from training.config import TrainConfig
from training.config_networks import D_kwargs, G_kwargs
from training.dataset import TFRecordDataset
from training.describe import network_sizes, plan_disk
from training.prefetcher import Prefetcher
from training.reporting import TickReport
from training.snapshots import SnapshotWriter, list_snapshots, snapshot_nimg
from training.startup import find_state, open_dataset, open_session
from training.state import (
    Progress,
    list_states,
    progress_from,
    remove_unfinished,
    restore,
    save_state,
    set_aside_newer,
    state_nimg,
)
from training.steps import MinibatchSettings, TrainingGraph

# Labels of the fakes are drawn from streams of their own: (seed, images shown, phase).
_LABEL_PHASES = {"G_main": 0, "G_reg": 1}


class Evaluator(Protocol):
    """Measures snapshots; see metrics/evaluate.py. Made before the graph is closed, adds nothing to it afterwards."""

    def run(self, name: str) -> Any:
        """Evaluate one metric on the networks as they are; the result has a `value` and a one-line `str`."""

    def write(self, directory: Path, snapshot: str, result: Any) -> None:
        """Append the result to the files of a run directory."""


EvaluatorFactory = Callable[[TrainConfig, Network, TFRecordDataset], Evaluator]


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
) -> TrainResult:
    """Train until `total_kimg`, a signal, or a file `abort.txt` in the run directory.

    resume: `latest`, a run directory or a state file: continues there with `config` (already checked against the
    run's own). init_from_pkl: a pickle of (G, D, Gs) to start from. make_evaluator: builds what measures snapshots.
    Raises `UserError` before anything is written if configuration and data do not fit each other.
    """
    if resume and init_from_pkl:
        raise UserError("--resume continues a run, --init-from starts a new one from a pickle: give one of them")
    dataset = open_dataset(config)
    source = init_from.read_source(init_from_pkl) if init_from_pkl else None
    notes: list[str] = []
    if source is not None:
        init_from.check_source(source, dataset.shape, dataset.label_size)
        config, notes = init_from.adopt_architecture(config, source)
    directory, found = find_state(resume, result_dir) if resume else (None, None)
    with tf.Graph().as_default(), open_session(config), _Run(config, dataset, make_evaluator) as run:
        if source is not None:
            init_from.copy_into(source, run.networks)
        if found is not None:
            run.restore(*found)
        # Whatever can be refused has been refused now; only then something is written.
        if directory is None:
            directory = run_dir.create_run_dir(result_dir, run_desc)
        options.write_options(directory, config_io.to_dict(config))
        stop.clear_abort(directory)
        with log.LogTee(directory / "log.txt"), stop.GracefulStop() as stopper:
            for note in notes:
                print(note)
            return run.loop(directory, stopper)


class _Run:
    """One process's share of a run, between building the graph and leaving it."""

    def __init__(self, config: TrainConfig, dataset: TFRecordDataset, make_evaluator: EvaluatorFactory | None) -> None:
        self.config, self.dataset, self.source = config, dataset, zoomed(dataset, config.augment)
        self.settings = schedule.schedule(config, 0, dataset.shape[1])
        shape = dict(num_channels=dataset.shape[0], resolution=dataset.shape[1], label_size=dataset.label_size)
        self.G = Network("G", func_name="G_main", **shape, **G_kwargs(config.G))
        self.D = Network("D", func_name="D_stylegan2", **shape, **D_kwargs(config.D))
        self.Gs = self.G.clone("Gs")
        self.networks = {"G": self.G, "D": self.D, "Gs": self.Gs}
        g_adam, d_adam = schedule.G_adam(config), schedule.D_adam(config)
        self._lazy = (g_adam.lrate / config.opt.G_lrate, d_adam.lrate / config.opt.D_lrate)
        self.graph = TrainingGraph(
            self.G,
            self.D,
            self.Gs,
            config,
            self.settings.batch_gpu,
            self.settings.rounds > 1,
            (g_adam.beta1, g_adam.beta2),
            (d_adam.beta1, d_adam.beta2),
        )
        self.variables = {f"{name}/{n}": v for name, net in self.networks.items() for n, v in net.vars.items()}
        self.variables |= self.graph.variables
        if self.graph.held_out is not None:
            self.graph.held_out.images = open_held_out(dataset)
        self.progress = Progress()
        self.evaluator = make_evaluator(config, self.Gs, dataset) if make_evaluator and config.metrics.names else None
        self.dir: Path | None = None
        self.snapshots: SnapshotWriter | None = None
        self.state: Path | None = None
        self.stats: StatsWriter | None = None
        self.prefetcher: Prefetcher | None = None

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.prefetcher is not None:
            self.prefetcher.close()
        if self.stats is not None:
            self.stats.close()

    def _introduce(self) -> None:
        channels, height, width = self.dataset.shape
        labels = f", {self.dataset.label_size} label components" if self.dataset.label_size else ""
        print(f"Run directory: {self.dir}")
        print(f"Data set {self.dataset.name}: {self.dataset.num_images} images, {width}x{height}x{channels}{labels}")
        if self.state is not None:
            print(f"Resuming from {self.state.name} at {self.progress.nimg / 1000:g} kimg")
        plan = plan_disk(self.config, self.dataset.shape, network_sizes(self.G, self.D))
        free = disk.free_bytes(self.dir)
        print(f"Disk: {plan}; {disk.format_bytes(free)} free")
        if plan.total > free:
            print("warning: that does not fit; --keep-snapshots N keeps only the newest N snapshots and the best")

    def restore(self, path: Path, meta: dict[str, Any], values: dict[str, np.ndarray]) -> None:
        """Continue from a state. Raises `UserError` if it belongs to other data or to another configuration."""
        if meta.get("data_hash") != self.dataset.content_hash:
            raise UserError(
                f"{path}: was trained on other data than {self.dataset.path} holds now; "
                "continue with the same data, or start a new run with --init-from and a snapshot"
            )
        restore(self.variables, values, path)
        self.progress, self.state = progress_from(meta), path

    def loop(self, directory: Path, stopper: stop.GracefulStop) -> TrainResult:
        """Train to the end or until told to stop, writing into `directory`."""
        progress, total = self.progress, round(self.config.schedule.total_kimg * 1000)
        self.dir = directory
        self._introduce()
        remove_unfinished(directory)
        set_aside_newer(list_states(directory), state_nimg, progress.nimg)
        set_aside_newer(list_snapshots(directory), snapshot_nimg, progress.nimg)
        self.snapshots = SnapshotWriter(directory, self.config.snapshots, self.dataset, self.config.seed, self.Gs)
        self.stats = StatsWriter(self.dir, resume_nimg=progress.nimg)
        fresh = progress.nimg == 0
        if fresh:
            self.snapshots.write_reals()
        # Drawing once also builds the grid's graph, after which no node may be added.
        self.snapshots.write_fakes(self.Gs, "fakes_init" if fresh else f"fakes{progress.nimg // 1000:06d}")
        tf.get_default_graph().finalize()
        if fresh and self.config.snapshots.first_tick:
            self._snapshot(with_metrics=not self.config.metrics.skip_first)
        self.prefetcher = Prefetcher(
            self.source,
            start=progress.nimg,
            batch=self.settings.batch,
            threads=self.config.data.threads,
            bytes_limit=self.config.data.prefetch_mb << 20,
        )
        print(f"Training to {total / 1000:g} kimg ...", flush=True)
        maintenance, started = 0.0, time.time()
        tick_images = 0
        while progress.nimg < total and not stopper.requested and not stop.abort_requested(self.dir):
            self._minibatch()
            tick_images += self.settings.batch
            done = progress.nimg >= total
            if done or progress.nimg >= progress.tick_nimg + self.settings.kimg_per_tick * 1000:
                now = time.time()
                tick_seconds, progress.seconds = now - started, progress.seconds + now - started
                progress.tick, progress.tick_nimg = progress.tick + 1, progress.nimg
                self._report(tick_images, tick_seconds, maintenance)
                self._maintain(done)
                maintenance, started, tick_images = time.time() - now, time.time(), 0
        finished = progress.nimg >= total
        progress.seconds += time.time() - started
        if not finished or self.state is None:
            self._save_state()
        self._say_goodbye(finished, stopper.reason)
        return TrainResult(self.dir, progress.nimg, finished, self.state, progress.best)

    def _minibatch(self) -> None:
        progress = self.progress
        s = self.settings = schedule.schedule(self.config, progress.nimg, self.dataset.shape[1])
        reals, labels = self.prefetcher.next(s.batch)
        g_labels = {
            phase: self.dataset.random_labels(s.batch, np.random.default_rng([self.config.seed, progress.nimg, code]))
            for phase, code in _LABEL_PHASES.items()
        }
        step = MinibatchSettings(s.G_lrate * self._lazy[0], s.D_lrate * self._lazy[1], s.r1_gamma, s.ema_beta, s.rounds)
        values = self.graph.run_minibatch(progress.nimg, progress.step, step, reals, labels, g_labels)
        for name, value in values.items():
            self.stats.report(name, value)
        progress.nimg += s.batch
        progress.step += 1

    def _report(self, images: int, seconds: float, maintenance: float) -> None:
        progress, total = self.progress, round(self.config.schedule.total_kimg * 1000)
        report = TickReport(
            progress.tick, progress.nimg, total, images, seconds, progress.seconds, maintenance, self.dataset.num_images
        )
        skipped = {name: int(tfutil.run(o.skipped)) for name, o in (("G", self.graph.G_opt), ("D", self.graph.D_opt))}
        extra = {f"Train{name}/skipped_steps": n for name, n in skipped.items()}
        extra |= {
            "TrainG/learning_rate": self.settings.G_lrate * self._lazy[0],
            "TrainD/learning_rate": self.settings.D_lrate * self._lazy[1],
        }
        means = self.stats.flush(progress.nimg, {**report.scalars(), **extra})
        scores = "".join(
            f"  {label} {means[tag]:.2f}"
            for label, tag in (("D(real)", "Loss/scores/real"), ("D(fake)", "Loss/scores/fake"))
            if tag in means
        )
        scores += augment_summary(means)
        warning = f"  skipped non-finite steps {skipped}" if any(skipped.values()) else ""
        print(report.line(scores + warning), flush=True)

    def _maintain(self, done: bool) -> None:
        """Images, snapshot, metrics and state at the end of a tick, as due."""
        s, tick = self.config.snapshots, self.progress.tick
        if done or (s.image_ticks and tick % s.image_ticks == 0):
            self.snapshots.write_fakes(self.Gs, f"fakes{self.progress.nimg // 1000:06d}")
        if done or (s.network_ticks and tick % s.network_ticks == 0):
            every = self.config.metrics.ticks
            with_metrics = done or (every > 0 and tick - self.progress.metric_tick >= every)
            if with_metrics and self.evaluator is not None:
                self._save_state()  # Metrics may take long: nothing is lost if they are killed.
            self._snapshot(with_metrics)
        if done or (s.state_ticks and tick % s.state_ticks == 0):
            self._save_state()

    def _snapshot(self, with_metrics: bool) -> None:
        progress = self.progress
        path = self.snapshots.write_networks((self.G, self.D, self.Gs), progress.nimg)
        if with_metrics and self.evaluator is not None:
            progress.metric_tick = progress.tick
            for name in self.config.metrics.names:
                result = self.evaluator.run(name)
                self.evaluator.write(self.dir, path.name, result)
                self.stats.report(f"Metrics/{name}", result.value)
                sign = -1 if getattr(result, "higher_is_better", False) else 1
                if name not in progress.best or sign * result.value < sign * progress.best[name][0]:
                    progress.best[name] = [float(result.value), path.name]
                value, best = progress.best[name]
                print(f"{path.name}  {result}  best so far {value:.4f} ({best})", flush=True)
            self.stats.flush(progress.nimg)
        self.snapshots.prune({best[1] for best in progress.best.values()})

    def _save_state(self) -> None:
        config = config_io.to_dict(self.config)
        keep = self.config.snapshots.keep_states
        data = self.dataset.content_hash
        self.state = save_state(self.dir, self.progress, self.variables, config, data, keep)

    def _say_goodbye(self, finished: bool, reason: str) -> None:
        for name, (value, best) in self.progress.best.items():
            print(f"Best {name}: {value:.4f} ({best})")
        took = format_time(self.progress.seconds)
        if finished:
            print(f"Finished {self.progress.nimg / 1000:g} kimg in {took}: {self.dir}")
        else:
            why = reason or stop.ABORT_FILE
            print(f"Stopped by {why} at {self.progress.nimg / 1000:g} kimg after {took}; training state saved.")
            print(f"Resume with: python run_training.py --resume {shlex.quote(str(self.dir))}")
