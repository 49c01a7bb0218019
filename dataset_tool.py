"""Makes data sets for training out of images, and looks at them: `python dataset_tool.py --help`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from dnnlib.util import UserError, atomic_write
from training import dataset_inspect as inspect
from training.cli import OneLineGroup
from training.dataset import TFRecordDataset
from training.dataset_build import PUBLISHED_SEED, BuildOptions, BuildReport, format_bytes
from training.dataset_files import SKIPPED_NAME, find_levels, read_info
from training.dataset_sources import LABEL_SOURCES, create_from_images
from training.image_files import FILTERS
from training.openmoji import GROUPS, create_openmoji
from training.openmoji import LABEL_SOURCES as EMOJI_LABEL_SOURCES


@click.group(cls=OneLineGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def cli() -> None:
    """Makes data sets for training out of images, and looks at them.

    A data set is a directory of TFRecords, one file per resolution, in the raw format that StyleGAN2 programs share.
    """


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


def _options(
    shuffle: int, seed: int, max_images: int | None, workers: int | None, strict: bool, overwrite: bool
) -> BuildOptions:
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed is {seed}, expected 0 to {2**32 - 1}")
    return BuildOptions(
        resolution=4,  # decided by the source
        shuffle=bool(shuffle),
        seed=seed,
        max_images=max_images,
        workers=workers,
        strict=strict,
        overwrite=overwrite,
    )


def _print_report(report: BuildReport) -> None:
    dataset = TFRecordDataset(report.path)
    channels, height, width = dataset.shape
    click.echo(f"Wrote {report.num_images} images of {width}x{height}x{channels} to {report.path}")
    _print_classes(dataset)
    for name, reason in report.skipped[:5]:
        click.echo(f"Skipped {name}: {reason}")
    if report.skipped:
        click.echo(f"Skipped {len(report.skipped)} files, all listed in {report.path / SKIPPED_NAME}")


def _print_classes(dataset: TFRecordDataset) -> None:
    counts = inspect.class_counts(dataset)
    if counts is None:
        return
    table = Table("class", "name", "images", title=f"{len(counts)} classes")
    for index, (name, count) in enumerate(counts):
        table.add_row(str(index), name, str(count))
    Console().print(table)


@cli.command("create_from_images")
@click.argument("tfrecord_dir")
@click.argument("image_dir")
@click.option("--resolution", type=int, help="Crop to the central square and resize to this power of two.")
@click.option("--channels", type=click.Choice(["1", "3"]), help="[default: 1 if all images are grey, else 3]")
@click.option("--labels-from", type=click.Choice(LABEL_SOURCES), help="folders: one class per sub-folder.")
@build_options
def create_from_images_command(
    tfrecord_dir: str,
    image_dir: str,
    resolution: int | None,
    channels: str | None,
    labels_from: str | None,
    filter_name: str,
    **options: Any,
) -> None:
    """A data set of all images below IMAGE_DIR.

    Any common format, grey, transparent (laid onto white), palette, CMYK or 16-bit. Files that cannot be read are
    skipped and listed.
    """
    report = create_from_images(
        tfrecord_dir,
        image_dir,
        resolution,
        None if channels is None else int(channels),
        labels_from,
        filter_name,
        _options(**options),
        click.echo,
    )
    _print_report(report)


@cli.command("create_openmoji")
@click.argument("tfrecord_dir")
@click.option("--resolution", type=int, default=32, show_default=True, help="A power of two.")
@click.option("--groups", default="", help=f"Only these, with commas: {', '.join(GROUPS)}.")
@click.option("--exclude-groups", default="", help="Not these.")
@click.option("--skin-tones/--no-skin-tones", default=True, show_default=True, help="With variants in skin tones.")
@click.option("--labels-from", type=click.Choice(EMOJI_LABEL_SOURCES), help="groups: one class per group.")
@build_options
def create_openmoji_command(
    tfrecord_dir: str,
    resolution: int,
    groups: str,
    exclude_groups: str,
    skin_tones: bool,
    labels_from: str | None,
    filter_name: str,
    **options: Any,
) -> None:
    """A data set of the 4500 OpenMoji drawings (CC BY-SA 4.0), on white: a small one to try things with."""
    report = create_openmoji(
        tfrecord_dir,
        resolution,
        _split(groups),
        _split(exclude_groups),
        skin_tones,
        labels_from,
        filter_name,
        _options(**options),
        click.echo,
    )
    _print_report(report)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


@cli.command()
@click.argument("tfrecord_dir")
@click.option("--out", type=click.Path(dir_okay=False), help="PNG to write. [default: NAME-sheet.png]")
@click.option("--columns", type=click.IntRange(1, 200), default=16, show_default=True)
@click.option("--rows", type=click.IntRange(1, 200), default=10, show_default=True)
def display(tfrecord_dir: str, out: str | None, columns: int, rows: int) -> None:
    """Writes a contact sheet of the first images."""
    dataset = TFRecordDataset(tfrecord_dir)
    path = out or f"{dataset.name}-sheet.png"
    inspect.save_png(inspect.contact_sheet(dataset, columns, rows), path)
    click.echo(f"Wrote {path}")


@cli.command()
@click.argument("tfrecord_dir")
def info(tfrecord_dir: str) -> None:
    """Says what is in a data set."""
    dataset = TFRecordDataset(tfrecord_dir)
    table = Table("file", "images", "shape", "size", title=dataset.name)
    for side, records in find_levels(inspect.dataset_directory(tfrecord_dir)).items():
        size = format_bytes(records.path.stat().st_size)
        table.add_row(records.path.name, str(len(records)), f"{dataset.num_channels} x {side} x {side}", size)
    Console().print(table)
    click.echo(f"Labels: {dataset.label_size} numbers per image" if dataset.label_size else "Labels: none")
    click.echo(f"Content hash: {dataset.content_hash}")
    _print_classes(dataset)
    details = read_info(inspect.dataset_directory(tfrecord_dir))
    for key, value in ({} if details is None else details.source).items():
        click.echo(f"Source {key}: {value}")


@cli.command()
@click.argument("tfrecord_dir")
@click.argument("output_dir")
@click.option("--max-images", type=click.IntRange(1), help="Only the first ones.")
def extract(tfrecord_dir: str, output_dir: str, max_images: int | None) -> None:
    """Writes the images as OUTPUT_DIR/img00000000.png and so on, and labels as labels.npy."""
    dataset = TFRecordDataset(tfrecord_dir)
    count = inspect.extract(dataset, output_dir, max_images)
    if dataset.label_size:
        with atomic_write(f"{output_dir}/labels.npy") as file:
            np.save(file, dataset.labels[:count])
    click.echo(f"Wrote {count} images to {output_dir}")


@cli.command()
@click.argument("tfrecord_dir_a")
@click.argument("tfrecord_dir_b")
@click.option("--ignore_labels", "--ignore-labels", type=click.IntRange(0, 1), default=0, show_default=True)
def compare(tfrecord_dir_a: str, tfrecord_dir_b: str, ignore_labels: int) -> None:
    """Compares two data sets record by record; exit code 1 if they differ."""
    result = inspect.compare(TFRecordDataset(tfrecord_dir_a), TFRecordDataset(tfrecord_dir_b), bool(ignore_labels))
    for what, different in (("images", result.images), ("labels", result.labels)):
        if different:
            first = ", ".join(str(index) for index in different[:5])
            click.echo(f"{len(different)} of {result.num_images} {what} differ (the first: {first})")
    if not result.equal:
        sys.exit(1)
    click.echo(f"All {result.num_images} images are identical.")


@cli.command()
@click.argument("tfrecord_dir")
def verify(tfrecord_dir: str) -> None:
    """Checks every record, the labels and dataset.json; exit code 1 if something is wrong."""
    problems = inspect.verify(tfrecord_dir, click.echo)
    for problem in problems:
        click.echo(f"problem: {problem}", err=True)
    if problems:
        sys.exit(1)
    click.echo("Everything is in order.")


def _stop(number: int, frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # an exception: what is unfinished is removed
    cli()
