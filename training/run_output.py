"""What a run writes while it trains: tick reports, image grids, snapshots with their metrics, training states."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from dnnlib.snapshot.files import list_snapshots
from dnnlib.submission import disk, stop
from dnnlib.tflib.autosummary import StatsWriter
from dnnlib.tflib.network import Network
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError, format_time
from training import config_io
from training.augment.state import summary as augment_summary
from training.config import TrainConfig
from training.dataset import TFRecordDataset
from training.describe import network_sizes, plan_disk
from training.evaluation import Evaluator
from training.reporting import TickReport, summary
from training.snapshots import SnapshotWriter, snapshot_name, snapshot_nimg
from training.state import (
    GOOD_PREFIX,
    Progress,
    list_states,
    remove_unfinished,
    save_state,
    set_aside_newer,
    state_nimg,
)
from training.watch import Watch


class RunOutput:
    """Files and lines of one run.

    directory: of the run; networks: `G`, `D`, `Gs`; variables: name -> variable, all that a state holds; progress: the
    run's counters, which this reads and whose metric entries it keeps; state: the state that the run goes on from.
    Attributes: state (path of the newest training state, if any).
    """

    def __init__(
        self,
        directory: Path,
        config: TrainConfig,
        dataset: TFRecordDataset,
        networks: Mapping[str, Network],
        variables: Mapping[str, tf.Variable],
        progress: Progress,
        evaluator: Evaluator | None,
        state: Path | None,
    ) -> None:
        self.dir, self.config, self.dataset, self.progress = directory, config, dataset, progress
        self.networks, self.variables, self.evaluator, self.state = networks, variables, evaluator, state
        self._introduce()
        remove_unfinished(directory)
        self._set_aside_newer()
        # States of versions that saved none between measuring and deleting may name a file that is gone.
        self._forget_best(self._is_missing)
        self._snapshots = SnapshotWriter(directory, config.snapshots, dataset, config.seed, networks["Gs"])
        self._stats = StatsWriter(directory, resume_nimg=progress.nimg)

    def _introduce(self) -> None:
        channels, height, width = self.dataset.shape
        labels = f", {self.dataset.label_size} label components" if self.dataset.label_size else ""
        print(f"Run directory: {self.dir}")
        print(f"Data set {self.dataset.name}: {self.dataset.num_images} images, {width}x{height}x{channels}{labels}")
        if self.state is not None:
            print(f"Resuming from {self.state.name} at {self.progress.nimg / 1000:g} kimg")
        plan = plan_disk(self.config, self.dataset.shape, network_sizes(self.networks["G"], self.networks["D"]))
        free = disk.free_bytes(self.dir)
        print(f"Disk: {plan}; {disk.format_bytes(free)} free")
        if plan.total > free:
            print("warning: that does not fit; --keep-snapshots N keeps only the newest N snapshots and the best")

    def _set_aside_newer(self) -> None:
        for states in (list_states(self.dir), list_states(self.dir, GOOD_PREFIX)):
            set_aside_newer(states, state_nimg, self.progress.nimg)
        set_aside_newer(list_snapshots(self.dir), snapshot_nimg, self.progress.nimg)

    def close(self) -> None:
        """End the statistics files."""
        self._stats.close()

    def first_images(self) -> None:
        """Grids of reals and of fakes. Drawing once also builds the grid's graph, after which no node may be added."""
        fresh = self.progress.nimg == 0
        if fresh:
            self._snapshots.write_reals()
        self._write_fakes("fakes_init" if fresh else None)

    def _write_fakes(self, name: str | None = None) -> None:
        self._snapshots.write_fakes(self.networks["Gs"], name or f"fakes{self.progress.nimg // 1000:06d}")

    def first_snapshot(self) -> None:
        """The snapshot of the untrained networks, if it is wanted."""
        if self.progress.nimg == 0 and self.config.snapshots.first_tick:
            self._write_snapshot(with_metrics=not self.config.metrics.skip_first)

    def finish_snapshot(self, watch: Watch) -> bool:
        """Write and measure what a stopped or killed run still owed of its newest snapshot. Returns whether it did."""
        known = () if self.evaluator is None else self.evaluator.names
        progress = self.progress
        progress.metrics_due = [name for name in progress.metrics_due if name in known]
        if not (progress.snapshot_due or progress.metrics_due):
            return False
        self._complete_snapshot(watch)
        return True

    def collect(self, values: Mapping[str, float]) -> None:
        """Scalars of one minibatch."""
        for name, value in values.items():
            self._stats.report(name, value)

    def report_tick(self, report: TickReport, extra: Mapping[str, float]) -> dict[str, float]:
        """Write and print the statistics of a tick; returns means by name. extra: values at its end."""
        means = self._stats.flush(self.progress.nimg, {**report.scalars(), **extra})
        print(report.line(summary(means) + augment_summary(means)), flush=True)
        return means

    def write_results(self, done: bool, watch: Watch) -> None:
        """Images, snapshot and metrics at the end of a tick, as due. watch: is told the metrics."""
        s, tick = self.config.snapshots, self.progress.tick
        if done or (s.image_ticks and tick % s.image_ticks == 0):
            self._write_fakes()
        if done or (s.network_ticks and tick % s.network_ticks == 0):
            every = self.config.metrics.ticks
            with_metrics = done or (every > 0 and tick - self.progress.metric_tick >= every)
            self._write_snapshot(with_metrics, watch)

    def save_state_if_due(self, done: bool) -> None:
        """The training state at the end of a tick."""
        every = self.config.snapshots.state_ticks
        if done or (every and self.progress.tick % every == 0):
            self.save_state()

    def _is_missing(self, file: str) -> bool:
        return not (self.dir / file).is_file()

    def _forget_best(self, gone: Callable[[str], bool]) -> None:
        """No best value is kept of a file that is not what it was measured on."""
        self.progress.best = {name: best for name, best in self.progress.best.items() if not gone(best[1])}

    def _write_snapshot(self, with_metrics: bool, watch: Watch | None = None) -> None:
        progress = self.progress
        # Ticks shorter than a kimg write another network to the same file.
        self._forget_best(lambda file: file == snapshot_name(progress.nimg))
        progress.snapshot_due = True
        if with_metrics and self.evaluator is not None:
            progress.metric_tick = progress.tick
            progress.metrics_due = list(self.evaluator.names)
            self._save_trained()  # Metrics may take long: nothing is lost if they are killed.
        self._complete_snapshot(watch)

    def _complete_snapshot(self, watch: Watch | None) -> None:
        """Write and measure what is due."""
        path = self.dir / snapshot_name(self.progress.nimg)
        if self.progress.snapshot_due or not path.is_file():
            self._snapshots.write_networks(tuple(self.networks[n] for n in ("G", "D", "Gs")), self.progress.nimg)
            self.progress.snapshot_due = False
        if self.progress.metrics_due:
            try:
                self._measure(self.evaluator, path, watch)
            except stop.Stopped:
                print(f"{path.name}: {', '.join(self.progress.metrics_due)} will be measured when the run goes on")
            except UserError:
                self.progress.metrics_due = []  # or it would fail again each time that the run is to go on
                self._save_trained()
                raise
        self._snapshots.prune({best[1] for best in self.progress.best.values()})

    def _measure(self, evaluator: Evaluator, path: Path, watch: Watch | None) -> None:
        progress, names = self.progress, tuple(self.progress.metrics_due)
        for name, result in zip(names, evaluator.run_all(names), strict=True):
            evaluator.write(self.dir, path.name, result)
            self._stats.report(f"Metrics/{name}", result.value)
            higher_is_better = getattr(result, "higher_is_better", False)
            sign = -1 if higher_is_better else 1
            if name not in progress.best or sign * result.value < sign * progress.best[name][0]:
                progress.best[name] = [float(result.value), path.name]
            value, best = progress.best[name]
            print(f"{path.name}  {result}  best so far {value:.4f} ({best})", flush=True)
            if watch is not None:
                watch.metric(name, float(result.value), value, higher_is_better)
            self._stats.flush(progress.nimg)
            progress.metrics_due.remove(name)
            self._save_trained()  # What is best now is known before another snapshot is deleted for it.

    def _save_trained(self) -> None:
        """A state, unless nothing has been trained that could be lost."""
        if self.progress.nimg:
            self.save_state()

    def save_state(self) -> None:
        """Write a training state; older ones than `keep_states` go."""
        self.state = self._save(self.config.snapshots.keep_states)

    def save_good_state(self) -> None:
        """Write a state to roll back to; only the two newest are kept."""
        self._save(2, GOOD_PREFIX)

    def _save(self, keep: int | None, *prefix: str) -> Path:
        config, data = config_io.to_dict(self.config), self.dataset.content_hash
        return save_state(self.dir, self.progress, self.variables, config, data, keep, *prefix)

    def has_good_state(self) -> bool:
        """Whether there is a state to roll back to: none of an abandoned future, none that was not copied along."""
        return bool(list_states(self.dir, GOOD_PREFIX))

    def good_state(self) -> Path:
        """The state to roll back to: the older one, which `good_ticks` healthy ticks have followed."""
        return list_states(self.dir, GOOD_PREFIX)[0]

    def go_back(self) -> None:
        """After a roll-back: what lies beyond the counters as they are now goes, or is set aside."""
        # A best of that time may have been pruned for a better one, which is now set aside.
        self._forget_best(self._is_missing)
        # First the new state: if this is interrupted, the run starts from before the alarm, and rolls back again.
        self.state = self._save(None)
        for path in [*list_states(self.dir), *list_states(self.dir, GOOD_PREFIX)]:
            if state_nimg(path) > self.progress.nimg:
                path.unlink()
        self._set_aside_newer()
        self._stats.close()
        self._stats = StatsWriter(self.dir, resume_nimg=self.progress.nimg)

    def say_goodbye(self, finished: bool, reason: str) -> None:
        """Print how the run ended and how it goes on. reason: what stopped it; empty: the file `abort.txt`."""
        for name, (value, best) in self.progress.best.items():
            print(f"Best {name}: {value:.4f} ({best})")
        took = format_time(self.progress.seconds)
        if finished:
            print(f"Finished {self.progress.nimg / 1000:g} kimg in {took}: {self.dir}")
        else:
            why = reason or stop.ABORT_FILE
            print(f"Stopped by {why} at {self.progress.nimg / 1000:g} kimg after {took}; training state saved.")
            print(f"Resume with: python run_training.py --resume {shlex.quote(str(self.dir))}")
