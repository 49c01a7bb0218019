"""Options and reports that commands share."""

from __future__ import annotations

from collections.abc import Callable

import click
from rich.console import Console
from rich.table import Table

from dnnlib.util import UserError
from training import dataset_inspect as inspect
from training.dataset import TFRecordDataset
from training.dataset_build import PUBLISHED_SEED, BuildOptions, BuildReport
from training.dataset_files import SKIPPED_NAME
from training.image_files import FILTERS


def build_options(command: Callable) -> Callable:
    """The options that all create commands have."""
    for option in reversed(
        (
            click.option("--shuffle", type=click.IntRange(0, 1), default=1, show_default=True, help="Mix the order."),
            click.option("--seed", type=int, default=PUBLISHED_SEED, show_default=True, help="Of the order."),
            click.option("--max-images", type=click.IntRange(1), help="Stop after so many (a random choice if mixed)."),
            click.option("--workers", type=click.IntRange(1), help="Processes. [default: one per core]"),
            click.option("--strict", is_flag=True, help="A bad image is an error instead of being skipped."),
            click.option("--overwrite", is_flag=True, help="Replace an existing data set."),
            click.option(
                "--filter", "filter_name", type=click.Choice(list(FILTERS)), default="lanczos", show_default=True,
                help="For resizing.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def make_options(
    shuffle: int, seed: int, max_images: int | None, workers: int | None, strict: bool, overwrite: bool
) -> BuildOptions:
    """The options that all create commands have, as the functions take them."""
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed is {seed}, expected 0 to {2**32 - 1}")
    return BuildOptions(
        shuffle=bool(shuffle),
        seed=seed,
        max_images=max_images,
        workers=workers,
        strict=strict,
        overwrite=overwrite,
    )


def print_report(report: BuildReport) -> None:
    """Says what was written, which classes there are, and what was skipped."""
    dataset = TFRecordDataset(report.path)
    channels, height, width = dataset.shape
    click.echo(f"Wrote {report.num_images} images of {width}x{height}x{channels} to {report.path}")
    print_classes(dataset)
    for name, reason in report.skipped[:5]:
        click.echo(f"Skipped {name}: {reason}")
    if report.num_skipped:
        click.echo(f"Skipped {report.num_skipped} files, all listed in {report.path / SKIPPED_NAME}")


def print_classes(dataset: TFRecordDataset) -> None:
    """A table of the classes, if the labels are one-hot."""
    counts = inspect.class_counts(dataset)
    if counts is None:
        return
    table = Table("class", "name", "images", title=f"{len(counts)} classes")
    for index, (name, count) in enumerate(counts):
        table.add_row(str(index), name, str(count))
    Console().print(table)
