"""Whether a run trains like others: loss curves beside those of runs that differ in nothing but their seed.

    python benchmarks/compare_runs.py RUN REFERENCE REFERENCE [...] --out curves.png

For every statistic: the mean distance of RUN from the references, over the mean distance of the references from each
other. About 1: RUN differs as a run of another seed does.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import click
import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

CURVES = ("Loss/G/loss", "Loss/D/loss", "Loss/scores/real", "Loss/scores/fake", "Loss/pl_lengths", "Gradients/D_main")


def read_curve(run: str, tag: str) -> tuple[np.ndarray, np.ndarray]:
    """(kimg, means per tick) of one statistic of a run directory."""
    lines = [json.loads(line) for line in Path(run, "stats.jsonl").read_text("utf-8").splitlines()]
    found = [(line["nimg"] / 1000, line[tag]["mean"]) for line in lines if tag in line]
    if not found:
        raise click.ClickException(f"{run}: no statistic {tag} in stats.jsonl")
    return tuple(np.array(column) for column in zip(*found, strict=True))


def distance(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> float:
    """Mean absolute difference of two curves at the ticks of the first."""
    return float(np.mean(np.abs(a[1] - np.interp(a[0], *b))))


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("references", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False))
@click.option("--out", default="curves.png", show_default=True, type=click.Path(dir_okay=False))
def main(run: str, references: tuple[str, ...], out: str) -> None:
    """Compare the curves of RUN with those of two or more REFERENCES."""
    if len(references) < 2:
        raise click.UsageError("two references or more are needed: their distance from each other is the measure")
    table = Table("statistic", "run to references", "among references", "ratio")
    figure, axes = plt.subplots(2, 3, figsize=(15, 8), layout="constrained")
    for tag, ax in zip(CURVES, axes.flat, strict=True):
        curve, others = read_curve(run, tag), [read_curve(r, tag) for r in references]
        apart = float(np.mean([distance(curve, other) for other in others]))
        noise = float(np.mean([distance(a, b) for a, b in itertools.combinations(others, 2)]))
        table.add_row(tag, f"{apart:.4g}", f"{noise:.4g}", f"{apart / noise:.2f}")
        for name, other in zip(references, others, strict=True):
            ax.plot(*other, color="tab:grey", label=Path(name).name)
        ax.plot(*curve, color="tab:red", label=Path(run).name)
        ax.set(title=tag, xlabel="kimg")
    axes.flat[0].legend(fontsize="small")
    figure.savefig(out, dpi=90)
    Console().print(table)
    print(f"Wrote {out}")


if __name__ == "__main__":
    main()
