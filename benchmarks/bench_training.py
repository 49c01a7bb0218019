"""Training speed against the speed of the convolutions it is made of: `python benchmarks/bench_training.py`.

Prints images per second, counted model FLOPs per image over all passes (regularisation at its share), and two ratios
measured in the same run:

* of conv time: time that the same convolutions take on their own, at the same shapes, over the time of a step;
* of peak: model FLOP/s over the FLOP/s of the fastest of those convolutions as TensorFlow does them (ours make fewer
  products than their taps count), which is run in turn with the phases of training: on a machine whose speed varies
  both see the same of it. (Of a hundred convolutions timed once each, on such a machine the fastest is one that was
  lucky.)

All times are medians, so that a ratio compares like with like.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click  # noqa: E402
import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.flops import Convolution, time_convolution  # noqa: E402
from benchmarks.op_profile import profile  # noqa: E402
from dnnlib.tflib import tfutil  # noqa: E402
from dnnlib.tflib.network import Network  # noqa: E402
from dnnlib.tflib.tfutil import tf  # noqa: E402
from run_training import PRESETS  # noqa: E402
from training import schedule  # noqa: E402
from training.config import TrainConfig  # noqa: E402
from training.config_io import apply_set, with_fields  # noqa: E402
from training.config_networks import D_kwargs, G_kwargs  # noqa: E402
from training.flops import ConvShape, find_convolutions, matmul_flops  # noqa: E402
from training.steps import MinibatchSettings, TrainingGraph  # noqa: E402

RIVALS = 4  # convolutions that seemed fastest, timed again beside training
RESOLUTION = {"demo32": 32, "bench32": 32, "bench64": 64}


class Bench:
    """A training graph on random images, and what it takes."""

    def __init__(self, config: TrainConfig, resolution: int) -> None:
        shape = dict(num_channels=3, resolution=resolution, label_size=0)
        self.config, self.s = config, schedule.schedule(config, 0, resolution)
        G = Network("G", func_name="G_main", **shape, **G_kwargs(config.G))
        D = Network("D", func_name="D_stylegan2", **shape, **D_kwargs(config.D))
        g, d = schedule.G_adam(config), schedule.D_adam(config)
        betas = (g.beta1, g.beta2), (d.beta1, d.beta2)
        self.graph = TrainingGraph(G, D, G.clone("Gs"), config, self.s.batch_gpu, False, *betas)
        self.settings = MinibatchSettings(g.lrate, d.lrate, self.s.r1_gamma, self.s.ema_beta, 1)
        rng = np.random.RandomState(0)
        self.reals = rng.randint(0, 256, [self.s.batch, 3, resolution, resolution]).astype(np.uint8)
        self.labels = np.zeros([self.s.batch, 0], np.float32)
        self.step = 0

    def run(self, phase: str) -> None:
        """One execution of a phase, or of the moving average (`ema`)."""
        self.graph.run_phase(phase, self.step * self.s.batch, self.settings, self.reals, self.labels, self.labels)
        self.step += 1

    def share(self, phase: str) -> float:
        """How often a phase runs per minibatch."""
        loss = self.config.loss
        return {"G_reg": 1 / (loss.G_reg_interval or 1), "D_reg": 1 / (loss.D_reg_interval or 1)}.get(phase, 1.0)

    def work(self) -> tuple[Counter[ConvShape], float]:
        """(convolutions per minibatch, FLOPs per image), averaged over the phases' shares."""
        convs: Counter[ConvShape] = Counter()
        flops = 0.0
        for name, phase in self.graph.phases.items():
            found = find_convolutions([phase.step])
            for shape, count in found.items():
                convs[shape] += count * self.share(name)
            flops += self.share(name) * (sum(s.flops * n for s, n in found.items()) + matmul_flops([phase.step]))
        return convs, flops / self.s.batch


def measure(bench: Bench, seconds: float, fastest: Sequence[ConvShape]) -> tuple[float, float]:
    """(seconds per minibatch, FLOP/s of the fastest convolution): medians of all in turn.

    Phases are weighted by how often they run.
    """
    names = [*bench.graph.phases, "ema"]
    times: dict[str, list[float]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        rivals = [stack.enter_context(Convolution(shape)) for shape in fastest]
        alone: list[list[float]] = [[] for _ in rivals]
        for _ in range(2):  # the first executions plan and allocate
            for name in names:
                bench.run(name)
            for rival in rivals:
                rival.run()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times["ema"]) < 3:
            for name in names:
                start = time.perf_counter()
                bench.run(name)
                times[name].append(time.perf_counter() - start)
                for rival, found in zip(rivals, alone, strict=True):
                    found.append(rival.run())
    step = sum(float(np.median(times[name])) * bench.share(name) for name in names)
    return step, max(r.shape.flops / float(np.median(found)) for r, found in zip(rivals, alone, strict=True))


def print_profiles(bench: Bench) -> None:
    """What operations take the time of every phase, in a traced execution, which is slower."""
    for name in bench.graph.phases:
        found = profile(lambda name=name: bench.run(name), tf.get_default_session())
        parts = ", ".join(f"{kind} {ms:.1f}" for kind, ms in found.by_kind.items())
        print(f"{name}: {found.span:.1f} ms, busy {found.busy:.1f}: {parts}")


@click.command()
@click.option("--preset", type=click.Choice(list(RESOLUTION)), multiple=True, default=("bench32",), show_default=True)
@click.option("--seconds", default=15.0, show_default=True, help="How long to measure each.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change any field of the configuration.")
@click.option("--detail", is_flag=True, help="List the convolutions.")
@click.option("--profile", "profiled", is_flag=True, help="Say what operations take the time of every phase.")
def main(preset: tuple[str, ...], seconds: float, assignments: tuple[str, ...], detail: bool, profiled: bool) -> None:
    """Measure training of the benchmark presets."""
    table = Table(title="Training")
    for column in ("preset", "img/s", "MFLOP/image", "GFLOP/s", "peak GFLOP/s", "of peak", "of conv time"):
        table.add_column(column, justify="right")
    for name in preset:
        config = apply_set(with_fields(TrainConfig(), PRESETS[name].fields()), *assignments)
        with tf.Graph().as_default(), tfutil.create_session():
            bench = Bench(config, RESOLUTION[name])
            convs, flops = bench.work()
            # Before and after: the machine may not be equally fast all the time.
            times = {shape: time_convolution(shape) for shape in convs}
            by_tensorflow = dict.fromkeys(shape.plain() for shape in convs)
            plain = {shape: times.get(shape) or time_convolution(shape) for shape in by_tensorflow}
            fastest = sorted(plain, key=lambda shape: plain[shape] / shape.flops)[:RIVALS]
            step, peak = measure(bench, seconds, fastest)
            times = {shape: (t + time_convolution(shape)) / 2 for shape, t in times.items()}
            if profiled:
                print_profiles(bench)
        conv_seconds = sum(times[s] * n for s, n in convs.items())
        rate = flops * bench.s.batch / step
        table.add_row(
            name,
            f"{bench.s.batch / step:.1f}",
            f"{flops / 1e6:.0f}",
            f"{rate / 1e9:.0f}",
            f"{peak / 1e9:.0f}",
            f"{rate / peak:.2f}",
            f"{conv_seconds / step:.2f}",
        )
        if detail:
            for s, n in sorted(convs.items(), key=lambda item: -times[item[0]] * item[1]):
                share = times[s] * n / step
                speed = f"{s.flops / times[s] / 1e9:6.0f} GFLOP/s"
                by = "ours" if s.compiled else "TensorFlow"
                print(f"{share:6.1%} x{n:<5.3g} {speed} {s.op} {s.image} {s.kernel} /{s.stride} {by}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
