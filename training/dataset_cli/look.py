"""Commands that look at data sets: display, info, extract, compare, verify."""

from __future__ import annotations

import sys

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from dnnlib.util import atomic_write
from training import dataset_inspect as inspect
from training.dataset import TFRecordDataset
from training.dataset_build import format_bytes
from training.dataset_cli.common import print_classes
from training.dataset_files import find_levels, read_info


@click.command()
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


@click.command()
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
    print_classes(dataset)
    details = read_info(inspect.dataset_directory(tfrecord_dir))
    for key, value in ({} if details is None else details.source).items():
        click.echo(f"Source {key}: {value}")


@click.command()
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


@click.command()
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


@click.command()
@click.argument("tfrecord_dir")
def verify(tfrecord_dir: str) -> None:
    """Checks every record, the labels and dataset.json; exit code 1 if something is wrong."""
    problems = inspect.verify(tfrecord_dir, click.echo)
    for problem in problems:
        click.echo(f"problem: {problem}", err=True)
    if problems:
        sys.exit(1)
    click.echo("Everything is in order.")


COMMANDS = (display, info, extract, compare, verify)
