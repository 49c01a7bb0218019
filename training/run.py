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
from dnnlib.util import UserError
from training import schedule
from training.config import TrainConfig
from training.config_networks import D_kwargs, G_kwargs
from training.dataset import TFRecordDataset
from training.evaluation import EvaluatorFactory
from training.prefetcher import Prefetcher
from training.reporting import TickReport
from training.run_output import RunOutput
from training.state import Progress, progress_from, restore
from training.steps import MinibatchSettings, TrainingGraph

# Labels of the fakes are drawn from streams of their own: (seed, images shown, phase).
_LABEL_PHASES = {"G_main": 0, "G_reg": 1}


class Run:
    """Between building the graph and leaving it; a context manager.

    Attributes: networks (`G`, `D`, `Gs`), graph (`TrainingGraph`), variables (name -> variable: all that a state
    holds), progress (counters), state (path of the newest training state).
    """

    def __init__(self, config: TrainConfig, dataset: TFRecordDataset, make_evaluator: EvaluatorFactory | None) -> None:
        self.config, self.dataset = config, dataset
        self.settings = schedule.schedule(config, 0, dataset.shape[1])
        shape = dict(num_channels=dataset.shape[0], resolution=dataset.shape[1], label_size=dataset.label_size)
        G = Network("G", func_name="G_main", **shape, **G_kwargs(config.G))
        D = Network("D", func_name="D_stylegan2", **shape, **D_kwargs(config.D))
        self.networks = {"G": G, "D": D, "Gs": G.clone("Gs")}
        g_adam, d_adam = schedule.G_adam(config), schedule.D_adam(config)
        self._lazy = (g_adam.lrate / config.opt.G_lrate, d_adam.lrate / config.opt.D_lrate)
        self.graph = TrainingGraph(
            *self.networks.values(),
            config,
            self.settings.batch_gpu,
            self.settings.rounds > 1,
            (g_adam.beta1, g_adam.beta2),
            (d_adam.beta1, d_adam.beta2),
        )
        self.variables = {f"{name}/{n}": v for name, net in self.networks.items() for n, v in net.vars.items()}
        self.variables |= self.graph.variables
        self.progress = Progress()
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
        """Continue from a state. Raises `UserError` if it belongs to other data or to another configuration."""
        if meta.get("data_hash") != self.dataset.content_hash:
            raise UserError(
                f"{path}: was trained on other data than {self.dataset.path} holds now; "
                "continue with the same data, or start a new run with --init-from and a snapshot"
            )
        restore(self.variables, values, path)
        self.progress, self.state = progress_from(meta), path

    def loop(self, directory: Path, stopper: stop.GracefulStop) -> bool:
        """Train to the end or until told to stop, writing into `directory`. Returns whether the end was reached."""
        progress, total = self.progress, round(self.config.schedule.total_kimg * 1000)
        output = self._output = RunOutput(
            directory, self.config, self.dataset, self.networks, self.variables, progress, self.evaluator, self.state
        )
        output.first_images()
        tf.get_default_graph().finalize()
        output.first_snapshot()
        self._start_reading()
        print(f"Training to {total / 1000:g} kimg ...", flush=True)
        maintenance, started, tick_images = 0.0, time.time(), 0
        while progress.nimg < total and not stopper.requested and not stop.abort_requested(directory):
            output.collect(self._minibatch())
            tick_images += self.settings.batch
            done = progress.nimg >= total
            if done or progress.nimg >= progress.tick_nimg + self.settings.kimg_per_tick * 1000:
                now = time.time()
                self._end_tick(tick_images, now - started, maintenance)
                output.maintain(done)
                maintenance, started, tick_images = time.time() - now, time.time(), 0
        finished = progress.nimg >= total
        progress.seconds += time.time() - started
        if not finished or output.state is None:
            output.save_state()
        output.say_goodbye(finished, stopper.reason)
        self.state = output.state
        return finished

    def _start_reading(self) -> None:
        data = self.config.data
        self._prefetcher = Prefetcher(
            self.dataset,
            start=self.progress.nimg,
            batch=self.settings.batch,
            threads=data.threads,
            bytes_limit=data.prefetch_mb << 20,
        )

    def _minibatch(self) -> dict[str, float]:
        """Train on the next minibatch; returns scalars for reports."""
        progress = self.progress
        s = self.settings = schedule.schedule(self.config, progress.nimg, self.dataset.shape[1])
        reals, labels = self._prefetcher.next(s.batch)
        g_labels = {
            phase: self.dataset.random_labels(s.batch, np.random.default_rng([self.config.seed, progress.nimg, code]))
            for phase, code in _LABEL_PHASES.items()
        }
        step = MinibatchSettings(s.G_lrate * self._lazy[0], s.D_lrate * self._lazy[1], s.r1_gamma, s.ema_beta, s.rounds)
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

    def _tick_scalars(self) -> dict[str, float]:
        """Values at the end of a tick."""
        skipped = tfutil.run({"G": self.graph.G_opt.skipped, "D": self.graph.D_opt.skipped})
        return {
            **{f"Train{name}/skipped_steps": int(n) for name, n in skipped.items()},
            "TrainG/learning_rate": self.settings.G_lrate * self._lazy[0],
            "TrainD/learning_rate": self.settings.D_lrate * self._lazy[1],
        }
