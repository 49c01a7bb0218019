"""One process's share of a run: it builds the graph, feeds it minibatch by minibatch, and says when a tick is over."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.submission import stop
from dnnlib.tflib import tfutil
from dnnlib.tflib.network import Network
from dnnlib.tflib.tfutil import tf
from training import freeze, schedule
from training.augment.held_out import open_held_out
from training.augment.zoom import zoomed
from training.config import TrainConfig
from training.config_networks import D_kwargs, G_kwargs
from training.dataset import TFRecordDataset
from training.evaluation import EvaluatorFactory
from training.prefetcher import Prefetcher
from training.reporting import TickReport
from training.run_output import RunOutput
from training.startup import network_shape
from training.state import Progress, progress_from, read_state, restore
from training.steps import MinibatchSettings, TrainingGraph
from training.watch import Watch

# Labels of the fakes are drawn from streams of their own: (seed, images shown, phase).
_LABEL_PHASES = {"G_main": 0, "G_reg": 1}


class Run:
    """Between building the graph and leaving it; a context manager.

    Attributes: networks (`G`, `D`, `Gs`), graph (`TrainingGraph`), variables (name -> variable: all that a state
    holds), progress (counters), state (path of the newest training state), alarm (why the watch stopped the run; empty
    if it did not).
    """

    def __init__(self, config: TrainConfig, dataset: TFRecordDataset, make_evaluator: EvaluatorFactory | None) -> None:
        self.config, self.dataset, self.source = config, dataset, zoomed(dataset, config.augment)
        self.settings = schedule.schedule(config, 0, dataset.resolution)
        shape = network_shape(config, dataset.shape) | {"label_size": dataset.label_size}
        g_adam, d_adam = schedule.G_adam(config), schedule.D_adam(config)
        self._lazy = (g_adam.lrate / config.opt.G_lrate, d_adam.lrate / config.opt.D_lrate)
        with tfutil.gathered():
            G = Network("G", func_name="G_main", **shape, **G_kwargs(config.G))
            D = Network("D", func_name="D_stylegan2", **shape, **D_kwargs(config.D))
            self.networks = {"G": G, "D": D, "Gs": G.clone("Gs")}
            self.graph = TrainingGraph(
                *self.networks.values(),
                config,
                self.settings.batch_gpu,
                schedule.uses_rounds(config, dataset.resolution),
                (g_adam.beta1, g_adam.beta2),
                (d_adam.beta1, d_adam.beta2),
            )
        self.variables = {f"{name}/{n}": v for name, net in self.networks.items() for n, v in net.vars.items()}
        self.variables |= self.graph.variables
        if self.graph.held_out is not None:
            self.graph.held_out.images = open_held_out(dataset)
        self.progress = Progress()
        self.watch = Watch(config.watch, self.progress.watch)
        self.alarm = ""
        self._frozen = ""
        use_evaluator = make_evaluator and config.metrics.names
        self.evaluator = make_evaluator(config, self.networks["Gs"], dataset) if use_evaluator else None
        self.state: Path | None = None
        self._output: RunOutput | None = None
        self._prefetcher: Prefetcher | None = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exc: object) -> None:
        for part in (self._prefetcher, self._output):
            if part is not None:
                part.close()

    def restore(self, path: Path, meta: dict[str, Any], values: dict[str, np.ndarray]) -> None:
        """Continue from a state of the same data. Raises `UserError` if it belongs to another configuration."""
        mode = meta.get("config", {}).get("augment", {}).get("mode")
        if mode != self.config.augment.mode:
            # Another kind of augmentation starts as configured; what the old one counted says nothing about it.
            values = {name: value for name, value in values.items() if not name.startswith("augment_")}
        restore(self.variables, values, path)
        self.state = path
        self._go_on_from(progress_from(meta))

    def _go_on_from(self, progress: Progress) -> None:
        """Take over counters; the object stays the same for those who hold it."""
        vars(self.progress).update(vars(progress))
        self.watch = Watch(self.config.watch, self.progress.watch)

    def loop(self, directory: Path, stopper: stop.GracefulStop) -> bool:
        """Train to the end or until told to stop, writing into `directory`. Returns whether the end was reached."""
        progress, total = self.progress, round(self.config.schedule.total_kimg * 1000)
        output = self._output = RunOutput(
            directory, self.config, self.dataset, self.networks, self.variables, progress, self.evaluator, self.state
        )
        output.first_images()
        tf.get_default_graph().finalize()
        if self.evaluator is not None:
            self.evaluator.interrupted = lambda: stopper.requested or stop.abort_requested(directory)
        output.first_snapshot()
        self._start_reading()
        measured = output.finish_snapshot(self.watch)
        if not (measured and output.has_good_state() and self._act_on_alarms()):
            self._keep_good_state()
        print(f"Training to {total / 1000:g} kimg ...", flush=True)
        self._say_what_is_frozen()
        maintenance, started, tick_images = 0.0, time.time(), 0
        while progress.nimg < total and not (self.alarm or stopper.requested or stop.abort_requested(directory)):
            values = self._minibatch()
            output.collect(values)
            self.watch.minibatch(values)
            tick_images += self.settings.batch
            tick_is_over = progress.nimg >= min(progress.tick_nimg + self.settings.kimg_per_tick * 1000, total)
            if self._act_on_alarms():
                now = time.time()
                progress.seconds += now - started
                started, tick_images = now, 0
            elif tick_is_over:
                now = time.time()
                self._end_tick(tick_images, now - started, maintenance)
                self._maintain(done=progress.nimg >= total)
                maintenance, started, tick_images = time.time() - now, time.time(), 0
        finished = progress.nimg >= total and not progress.metrics_due
        progress.seconds += time.time() - started
        if not finished or output.state is None:
            output.save_state()
        output.say_goodbye(finished, "the watch" if self.alarm else stopper.reason)
        self.state = output.state
        return finished

    def _maintain(self, done: bool) -> None:
        """What is due at the end of a tick, unless the run goes back to an earlier one."""
        if self._act_on_alarms():
            return
        self._output.write_results(done, self.watch)
        if self._act_on_alarms():
            return
        self._keep_good_state()
        self._output.save_state_if_due(done)

    def _keep_good_state(self) -> None:
        """Keep a state to roll back to, if that may happen: at the start, and now and then while all is well."""
        plan, tick, state = self.config.watch, self.progress.tick, self.progress.watch
        due = self.watch.healthy and tick - state.good_tick >= plan.good_ticks
        if plan.may_roll_back and not self.alarm and (due or state.good_tick < 0 or not self._output.has_good_state()):
            state.good_tick = tick
            self._output.save_good_state()

    def _act_on_alarms(self) -> bool:
        """Do what is configured about new alarms. Returns whether the run went back to a good state."""
        alarms = self.watch.take()
        for alarm in alarms:
            print(f"watch: {alarm.text} ({alarm.action})", flush=True)
        worst = {alarm.action: alarm.text for alarm in reversed(alarms)}
        if "rollback" in worst and "stop" not in worst:
            if self.progress.rollbacks < self.config.watch.max_rollbacks:
                self._roll_back()
                return True
            worst["stop"] = f"{worst['rollback']} (after {self.progress.rollbacks} roll-backs)"
        if "stop" in worst:
            self.alarm = worst["stop"]
            self.watch.forget()
            self.progress.watch.good_tick = self.progress.tick  # what follows a stop must prove itself healthy first
        return False

    def _roll_back(self) -> None:
        """Go back to a good state with lower learning rates: a function of the training state alone."""
        path, before = self._output.good_state(), self.progress
        meta, values = read_state(path)
        restore(self.variables, values, path)
        good = progress_from(meta)
        good.seconds, good.rollbacks = before.seconds, before.rollbacks + 1
        good.snapshot_due, good.metrics_due = False, []
        good.lrate_scale = before.lrate_scale * self.config.watch.rollback_lrate
        print(
            f"watch: back from {before.nimg / 1000:g} to {good.nimg / 1000:g} kimg, learning rates times "
            f"{good.lrate_scale:g} from here on (roll-back {good.rollbacks} of {self.config.watch.max_rollbacks})",
            flush=True,
        )
        self._go_on_from(good)
        self._output.go_back()
        self._prefetcher.close()
        self._start_reading()

    def _say_what_is_frozen(self) -> None:
        def size(name: str, variable: str) -> int:
            return int(np.prod(self.networks[name].trainables[variable].shape.as_list()))

        frozen = freeze.describe(self.graph.freezing, self.progress.nimg / 1000, size)
        if frozen != self._frozen:
            print(f"Frozen from {self.progress.nimg / 1000:g} kimg on: {frozen or 'nothing'}", flush=True)
        self._frozen = frozen

    def _start_reading(self) -> None:
        data = self.config.data
        self._prefetcher = Prefetcher(
            self.source,
            start=self.progress.nimg,
            batch=self.settings.batch,
            threads=data.threads,
            bytes_limit=data.prefetch_mb << 20,
        )

    def _minibatch(self) -> dict[str, float]:
        """Train on the next minibatch; returns scalars for reports."""
        progress = self.progress
        s = self.settings = schedule.schedule(self.config, progress.nimg, self.dataset.resolution)
        reals, labels = self._prefetcher.next(s.batch)
        g_labels = {
            phase: self.dataset.random_labels(s.batch, np.random.default_rng([self.config.seed, progress.nimg, code]))
            for phase, code in _LABEL_PHASES.items()
        }
        lrates = (s.G_lrate * self._lazy[0] * progress.lrate_scale, s.D_lrate * self._lazy[1] * progress.lrate_scale)
        step = MinibatchSettings(*lrates, s.r1_gamma, s.ema_beta, s.rounds, s.mixing)
        values = self.graph.run_minibatch(progress.nimg, progress.step, step, reals, labels, g_labels)
        progress.nimg += s.batch
        progress.step += 1
        return values

    def _end_tick(self, images: int, seconds: float, maintenance: float) -> None:
        progress, total = self.progress, round(self.config.schedule.total_kimg * 1000)
        progress.seconds += seconds
        progress.tick, progress.tick_nimg = progress.tick + 1, progress.nimg
        report = TickReport(
            progress.tick, progress.nimg, total, images, seconds, progress.seconds, maintenance, self.dataset.num_images
        )
        self._output.report_tick(report, self._tick_scalars())
        self.watch.end_tick(progress.nimg / 1000)
        self._say_what_is_frozen()

    def _tick_scalars(self) -> dict[str, float]:
        """Values at the end of a tick."""
        s, scale = self.settings, self.progress.lrate_scale
        skipped = tfutil.run({"G": self.graph.G_opt.skipped, "D": self.graph.D_opt.skipped})
        return {
            **{f"Train{name}/skipped_steps": int(n) for name, n in skipped.items()},
            "TrainG/learning_rate": s.G_lrate * self._lazy[0] * scale,
            "TrainD/learning_rate": s.D_lrate * self._lazy[1] * scale,
            "Schedule/batch": s.batch,
            "Schedule/r1_gamma": s.r1_gamma,
            "Schedule/style_mixing_prob": s.mixing,
            "Watch/rollbacks": self.progress.rollbacks,
        }
