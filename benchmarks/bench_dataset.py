"""Speed and size of data sets, written and read: `python benchmarks/bench_dataset.py`.

Runs `dataset_conversion.py` and `dataset_reading.py`, which tell what their columns are.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click  # noqa: E402

from benchmarks import dataset_conversion, dataset_reading  # noqa: E402


@click.command()
@click.option("--seconds", type=float, default=8.0, show_default=True, help="Of one run of a conversion, about.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Of every conversion.")
@click.option("--reading-seconds", type=float, default=3.0, show_default=True, help="For every row of reading.")
@click.option(
    "--case", "names", type=click.Choice(list(dataset_conversion.CASES)), multiple=True, help="Only this row."
)
@click.option("--size", "sizes", type=int, multiple=True, default=dataset_reading.SIZES, show_default=True)
def main(
    seconds: float, repeats: int, reading_seconds: float, names: tuple[str, ...], sizes: tuple[int, ...]
) -> None:  # fmt: skip
    """Measures conversions and reading; exit code 1 if reading is slower than training wants it."""
    dataset_conversion.report(dataset_conversion.rows(seconds, repeats, names))
    slow = dataset_reading.report(dataset_reading.rows(sizes, seconds=reading_seconds))
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
