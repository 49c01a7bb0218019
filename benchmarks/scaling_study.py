"""What ADA, wider networks and bfloat16 are worth where images are few: `python benchmarks/scaling_study.py OUT`.

Trains each arm of the table below for the same time on 300 drawings at 32x32, once per seed, measures the Fréchet
distance of its snapshots to 1,700 drawings that were held out, and writes curves, grids and a table to OUT. Time is
that of training alone: the speed of every arm is measured first, arms taking turns, and becomes a number of images,
so that what runs beside the study does not decide it. Finished parts are not repeated: give the command again to go
on, or with more seeds.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click  # noqa: E402
import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from dnnlib.util import UserError, atomic_write  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
IMAGES, HELD_OUT = 300, 1700
METRIC = "fd1k_effnet"  # 1,000 fakes against the held-out drawings
SNAPSHOTS = 6  # per run
RATE_KIMG = 2.0  # what is trained to measure the speed of an arm, once per turn; the first tick does not count
TURNS = 3
GRID_CELLS = (8, 4)  # columns, rows of the fakes that are shown of every run


@dataclass(frozen=True)
class Arm:
    """One way to train: its name in pictures, and what the command line says beyond the base."""

    label: str
    options: tuple[str, ...] = ()


# fmt: off
ARMS = {
    "base":     Arm("base"),
    # p may move by 1 within 50 kimg instead of 500: these runs last minutes, not days.
    "ada":      Arm("ADA",                       ("--aug", "ada", "--set", "augment.tune_kimg=50")),
    "wide":     Arm("wider (as M)",              ("--set", "G.fmap_base=768", "--set", "D.fmap_base=768")),
    "bfloat16": Arm("bfloat16",                  ("--set", "G.num_fp16_res=3", "--set", "D.num_fp16_res=3",
                                                  "--set", "G.conv_clamp=256", "--set", "D.conv_clamp=256")),
}
# fmt: on


@dataclass(frozen=True)
class Run:
    """One arm with one seed: distance to held-out images by snapshot."""

    arm: str
    seed: int
    kimg: np.ndarray
    distance: np.ndarray
    directory: Path


def call(script: str, *args: str, log: Path) -> None:
    """Runs a script of the repository, its output in `log`. Raises `UserError` with the last line if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with open(log, "w", encoding="utf-8") as f:
        code = subprocess.run([sys.executable, str(ROOT / script), *args], stdout=f, stderr=subprocess.STDOUT, env=env)
    if code.returncode:
        last = log.read_text("utf-8").strip().splitlines()[-1:]
        raise UserError(f"{script} failed ({log}): {' '.join(last)}")


def make_data(out: Path) -> Path:
    """The data set: 300 drawings to train on, 1,700 others held out."""
    path = out / "emoji300"
    if not (path / "dataset.json").is_file():
        sizes = ("--max-images", str(IMAGES), "--validation", str(HELD_OUT))
        call("dataset_tool.py", "create_openmoji", str(path), "--no-skin-tones", *sizes, log=out / "data.log")
    return path


# The recipe that the figures in docs/scaling.md are of: without what the preset does against few images.
_PLAIN = ("--gamma=0.02", "--set=augment.diffaugment=[]", "--set=G_lrate_steps=[]", "--set=D_lrate_steps=[]")


def train(out: Path, arm: str, kimg: float, tick: float, result_dir: Path, *more: str) -> None:
    """Trains an arm, or goes on with it. Snapshots come every tick."""
    call(
        "run_training.py",
        *("--preset", "demo32", "--data-dir", str(out), "--dataset", "emoji300", "--metrics", "none"),
        *_PLAIN,
        *("--result-dir", str(result_dir), "--resume", "latest", "--total-kimg", f"{kimg:g}"),
        *("--set", f"schedule.kimg_per_tick={tick:g}", "--set", "snapshots.network_ticks=1"),
        *ARMS[arm].options,
        *more,
        log=result_dir / "train.log",
    )


def run_dir_of(result_dir: Path) -> Path:
    """The one run in a result directory."""
    return next(result_dir.glob("00000-*"))


def read_stats(run_dir: Path, tag: str) -> np.ndarray:
    """A number that a run notes once per tick."""
    lines = [json.loads(line) for line in (run_dir / "stats.jsonl").read_text("utf-8").splitlines()]
    return np.array([line[tag] for line in lines if tag in line])


def measure_rates(out: Path, arms: list[str]) -> dict[str, float]:
    """{arm: images per second}: the median over ticks of several short runs, arms taking turns."""
    path = out / "rates.json"
    known = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    new = [arm for arm in arms if arm not in known]
    if not new:
        return known
    # All together, also those measured before: speeds compare only within one measurement.
    everyone, seconds = [*known, *new], {arm: [] for arm in [*known, *new]}
    turn_dir = out / "rates" / str(len(everyone))
    for turn in range(TURNS):
        for arm in everyone:
            result_dir = turn_dir / f"{arm}-{turn}"
            train(out, arm, RATE_KIMG, RATE_KIMG / 8, result_dir, "--set", "snapshots.network_ticks=0")
            seconds[arm].append(read_stats(run_dir_of(result_dir), "Timing/sec_per_kimg")[2:])
    rates = {arm: float(1000 / np.median(np.concatenate(found))) for arm, found in seconds.items()}
    with atomic_write(path) as f:
        f.write(json.dumps(rates, indent=1).encode())
    return rates


def measure(out: Path, arm: str, seed: int) -> Run:
    """Distances of the snapshots of a finished run."""
    result_dir = out / f"{arm}-seed{seed}"
    run_dir = run_dir_of(result_dir)
    call(
        "run_metrics.py",
        *("--network", str(run_dir), "--metrics", METRIC, "--data-dir", str(out), "--dataset", "emoji300"),
        *("--validation", "--result-dir", str(result_dir)),
        log=result_dir / "metrics.log",
    )
    lines = [json.loads(line) for line in (result_dir / f"metric-{METRIC}.jsonl").read_text("utf-8").splitlines()]
    found = {int(Path(line["snapshot"]).stem.rsplit("-", 1)[1]): line["values"][METRIC] for line in lines}
    kimg = np.array(sorted(found))
    return Run(arm, seed, kimg, np.array([found[k] for k in kimg]), run_dir)


def shared_kimg(runs: list[Run]) -> list[Run]:
    """The runs of an arm, with the snapshots that all of them have: some may have been trained for longer."""
    shared = functools.reduce(np.intersect1d, [run.kimg for run in runs])
    places = [np.searchsorted(run.kimg, shared) for run in runs]
    return [
        dataclasses.replace(run, kimg=shared, distance=run.distance[at]) for run, at in zip(runs, places, strict=True)
    ]


def draw_curves(runs: list[Run], rates: dict[str, float], path: Path) -> None:
    """Distance over minutes of training: the mean of the seeds as a line, their range as a band."""
    figure, ax = plt.subplots(figsize=(9, 5.5), layout="constrained")
    for arm in dict.fromkeys(run.arm for run in runs):
        mine = shared_kimg([run for run in runs if run.arm == arm])
        minutes = mine[0].kimg * 1000 / rates[arm] / 60
        values = np.array([run.distance for run in mine])
        label = f"{ARMS[arm].label} ({len(mine)} {'seeds' if len(mine) > 1 else 'seed'})"
        (line,) = ax.plot(minutes, values.mean(axis=0), marker="o", label=label)
        ax.fill_between(minutes, values.min(axis=0), values.max(axis=0), alpha=0.2, color=line.get_color())
    ax.set(xlabel="minutes of training", ylabel=f"{METRIC} to held-out drawings (lower is better)", ylim=(0, None))
    ax.grid(alpha=0.3)
    ax.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_grids(runs: list[Run], path: Path) -> None:
    """The last fakes of the first seed of every arm, beside each other."""
    arms = list(dict.fromkeys(run.arm for run in runs))
    figure, axes = plt.subplots(1, len(arms), figsize=(4.5 * len(arms), 2.7), layout="constrained", squeeze=False)
    for ax, arm in zip(axes[0], arms, strict=True):
        run = next(run for run in runs if run.arm == arm)
        with Image.open(max(run.directory.glob("fakes[0-9]*.png"))) as image:
            crop = np.asarray(image.convert("RGB"))[: GRID_CELLS[1] * 32, : GRID_CELLS[0] * 32]
        ax.imshow(crop, interpolation="nearest")
        ax.set(title=ARMS[arm].label, xticks=[], yticks=[])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def tabulate(runs: list[Run], rates: dict[str, float]) -> Table:
    """Mean and range over seeds of the last and of the best distance."""
    table = Table("arm", "img/s", "speed / base", "kimg", "last", "last by seed", "best", "best at kimg")
    for arm in dict.fromkeys(run.arm for run in runs):
        mine = shared_kimg([run for run in runs if run.arm == arm])
        last, best = [run.distance[-1] for run in mine], [run.distance.min() for run in mine]
        table.add_row(
            ARMS[arm].label,
            f"{rates[arm]:.0f}",
            f"{rates[arm] / rates['base']:.2f}",
            f"{mine[0].kimg[-1]}",
            f"{np.mean(last):.1f}",
            ", ".join(f"{v:.1f}" for v in last),
            f"{np.mean(best):.1f}",
            ", ".join(str(run.kimg[run.distance.argmin()]) for run in mine),
        )
    return table


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--minutes", type=float, default=6, show_default=True, help="Training time of every run.")
@click.option("--seeds", default="1,2,3", show_default=True, help="One run of each arm per seed.")
@click.option("--arms", default=",".join(ARMS), show_default=True, help="Which ways to train; base is always there.")
def main(out: Path, minutes: float, seeds: str, arms: str) -> None:
    """Run the study in OUT, or go on with it."""
    names = list(dict.fromkeys(["base", *arms.split(",")]))
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise click.UsageError(f"--arms: unknown {', '.join(unknown)}; known are {', '.join(ARMS)}")
    out.mkdir(parents=True, exist_ok=True)
    try:
        make_data(out)
        rates = measure_rates(out, names)
        runs = []
        for seed in [int(text) for text in seeds.split(",")]:
            for arm in names:
                tick = round(rates[arm] * minutes * 60 / 1000 / SNAPSHOTS, 1)
                click.echo(f"{arm}, seed {seed}: {tick * SNAPSHOTS:g} kimg")
                train(out, arm, tick * SNAPSHOTS, tick, out / f"{arm}-seed{seed}", "--seed", str(seed))
                runs.append(measure(out, arm, seed))
    except UserError as err:
        raise click.ClickException(str(err)) from err
    draw_curves(runs, rates, out / "curves.png")
    draw_grids(runs, out / "grids.png")
    Console(width=120).print(tabulate(runs, rates))
    click.echo(f"Wrote {out / 'curves.png'} and {out / 'grids.png'}")


if __name__ == "__main__":
    main()
