"""What augmentation costs: `python benchmarks/bench_augment.py`.

Prints how much longer a training minibatch takes at a fixed probability of augmentation than without any. Both
graphs are built in one process and take turns, phase by phase, so that a machine whose speed varies is fair to both.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click  # noqa: E402
import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.bench_training import RESOLUTION, Bench  # noqa: E402
from dnnlib.tflib import tfutil  # noqa: E402
from dnnlib.tflib.tfutil import tf  # noqa: E402
from run_training import PRESETS  # noqa: E402
from training.config import TrainConfig  # noqa: E402
from training.config_io import apply_set, with_fields  # noqa: E402

# fmt: off
ARMS = {
    "none":        (),
    "bgc":         ("augment.mode=fixed", "augment.pipe=bgc"),
    "bgcfnc":      ("augment.mode=fixed", "augment.pipe=bgcfnc"),
    "diffaugment": ("augment.diffaugment=color,translation,cutout",),
}
# fmt: on


def measure(benches: dict[str, Bench], seconds: float) -> dict[str, float]:
    """Seconds per minibatch of every arm: medians of all phases, weighted by how often they run."""
    times: dict[str, dict[str, list[float]]] = {
        name: {phase: [] for phase in [*bench.graph.phases, "ema"]} for name, bench in benches.items()
    }
    end = time.perf_counter() + seconds
    rounds = 0
    while time.perf_counter() < end or rounds < 5:
        for name, bench in benches.items():
            for phase, found in times[name].items():
                start = time.perf_counter()
                bench.run(phase)
                if rounds >= 2:  # the first executions plan and allocate
                    found.append(time.perf_counter() - start)
        rounds += 1
    return {
        name: sum(float(np.median(found)) * bench.share(phase) for phase, found in times[name].items())
        for name, bench in benches.items()
    }


@click.command()
@click.option("--preset", type=click.Choice(list(RESOLUTION)), multiple=True, default=("bench32",), show_default=True)
@click.option("--p", default=0.6, show_default=True, help="Probability of every operation.")
@click.option("--arms", default="none,bgc", show_default=True, help=f"Of {', '.join(ARMS)}.")
@click.option("--seconds", default=20.0, show_default=True, help="How long to measure each preset.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change any field of the configuration.")
def main(preset: tuple[str, ...], p: float, arms: str, seconds: float, assignments: tuple[str, ...]) -> None:
    """Measure the share of augmentation in a training minibatch."""
    names = list(dict.fromkeys(["none", *arms.split(",")]))
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise click.UsageError(f"--arms: unknown {', '.join(unknown)}; known are {', '.join(ARMS)}")
    table = Table("preset", "augmentation", "ms / minibatch", "img/s", "more time", title=f"Augmentation at p = {p:g}")
    for name in preset:
        # Without what the preset does itself, so that the first arm is the one without augmentation.
        base = apply_set(with_fields(TrainConfig(), PRESETS[name].fields()), "augment.diffaugment=[]", *assignments)
        with tf.Graph().as_default(), tfutil.create_session():
            benches = {}
            for arm in names:
                more = ARMS[arm] + ((f"augment.p={p}",) if "augment.mode=fixed" in ARMS[arm] else ())
                with tf.variable_scope(arm):
                    benches[arm] = Bench(apply_set(base, *more), RESOLUTION[name])
            found = measure(benches, seconds)
        for arm, step in found.items():
            batch = benches[arm].s.batch
            share = f"{step / found['none'] - 1:+.1%}"
            table.add_row(name, arm, f"{step * 1000:.1f}", f"{batch / step:.0f}", share)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
