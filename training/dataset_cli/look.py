"""Commands that look at data sets: display, info, extract, compare, verify."""

from __future__ import annotations

import itertools
import sys

import click
from rich.console import Console
from rich.table import Table

from dnnlib.submission.disk import format_bytes
from dnnlib.util import UserError
from training import dataset_inspect as inspect
from training import dataset_verify
from training.clean.places import check_output
from training.dataset import TFRecordDataset
from training.dataset_cli.common import print_classes
from training.dataset_files import SKIPPED_NAME, dataset_directory, find_files, find_levels, first_shape, read_info
from training.dataset_items import counted
from training.dataset_repair import repair

_MOST_COMPONENTS = 40  # lines of a table of labels
_MOST_DROPPED = 20  # lines about records

validation_option = click.option("--validation", is_flag=True, help="The held-out images instead of the others.")


@click.command()
@click.argument("tfrecord_dir")
@click.option("--out", type=click.Path(dir_okay=False), help="PNG to write. [default: NAME-sheet.png]")
@click.option("--show", is_flag=True, help="Open a window; writes a file only if --out is given, too.")
@click.option("--columns", type=click.IntRange(1, 200), default=16, show_default=True)
@click.option("--rows", type=click.IntRange(1, 200), default=10, show_default=True)
@click.option("--max-side", type=click.IntRange(1), default=256, show_default=True, help="Halve larger images to this.")
@validation_option
def display(
    tfrecord_dir: str, out: str | None, show: bool, columns: int, rows: int, max_side: int, validation: bool
) -> None:
    """Writes a contact sheet of the first images, or shows it."""
    check_output(out, ".png")
    dataset = TFRecordDataset(tfrecord_dir, validation=validation)
    sheet = inspect.contact_sheet(dataset, columns, rows, max_side)
    if show:
        sheet.show(title=dataset.name)
    if out or not show:
        path = out or f"{dataset.name}-sheet.png"
        inspect.save_png(sheet, path)
        click.echo(f"Wrote {path}")


@click.command()
@click.argument("tfrecord_dir")
@click.option("--mean-image", type=click.Path(dir_okay=False), metavar="FILE", help="Write the mean image as a PNG.")
@validation_option
def info(tfrecord_dir: str, mean_image: str | None, validation: bool) -> None:
    """Says what is in a data set."""
    check_output(mean_image, ".png")
    dataset = TFRecordDataset(tfrecord_dir, validation=validation)
    directory = dataset_directory(tfrecord_dir)
    table = Table("file", "images", "shape", "encoding", "size", title=dataset.name)
    held_out = (False, True) if find_files(directory, ".tfrecords", validation=True) else (False,)
    count, on_disk, as_raw = 0, 0, 0
    for part in held_out:
        for number, records in enumerate(find_levels(directory, part).values()):
            size, shape = records.path.stat().st_size, first_shape(records)
            shown = " x ".join(map(str, shape))
            table.add_row(records.path.name, str(len(records)), shown, records.encoding(), format_bytes(size))
            on_disk += size
            if number == 0:
                count += len(records)
                as_raw += len(records) * inspect.raw_bytes(shape)
    Console().print(table)
    channels, height, width = dataset.shape
    click.echo(f"Images: {dataset.num_images} of {width}x{height}x{channels}, {dataset.encoding}")
    click.echo(
        f"Disk: {format_bytes(inspect.disk_bytes(directory))}, {format_bytes(on_disk / count)} per image, "
        f"{on_disk / as_raw:.2f} of raw records of all levels ({format_bytes(as_raw)})"
    )
    _print_labels(dataset)
    click.echo(f"Content hash: {dataset.content_hash}")
    details = read_info(directory)
    for key, value in ({} if details is None else details.source).items():
        click.echo(f"Source {key}: {value}")
    if mean_image:
        inspect.save_png(inspect.to_pil(inspect.mean_image(dataset)), mean_image)
        click.echo(f"Wrote {mean_image}")


def _print_labels(dataset: TFRecordDataset) -> None:
    labels, kind = dataset.labels, inspect.label_kind(dataset.labels)
    if kind == "none":
        click.echo("Labels: none")
        return
    click.echo(f"Labels: {dataset.label_size} numbers per image, {kind}")
    if kind == "one-hot":
        print_classes(dataset)
        return
    names = dataset.class_names or tuple(str(i) for i in range(dataset.label_size))
    if kind == "multi-hot":
        table = Table("component", "name", "images", title="Labels")
        rows = [(name, str(count)) for name, count in inspect.label_counts(dataset)]
        mean, least, most = inspect.set_per_image(labels)
        click.echo(f"Set per image: {mean:.2f} on average, {least:g} to {most:g}")
    else:
        table = Table("component", "name", "min", "mean", "max", "std", title="Labels")
        numbers = inspect.label_statistics(labels)
        rows = [(name, *(f"{value:.4g}" for value in row)) for name, row in zip(names, numbers, strict=True)]
    for index, row in enumerate(rows[:_MOST_COMPONENTS]):
        table.add_row(str(index), *row)
    Console().print(table)
    if len(rows) > _MOST_COMPONENTS:
        click.echo(f"... and {len(rows) - _MOST_COMPONENTS} more components")


@click.command()
@click.argument("tfrecord_dir")
@click.argument("output_dir")
@click.option("--max-images", type=click.IntRange(1), help="Only the first ones.")
@validation_option
def extract(tfrecord_dir: str, output_dir: str, max_images: int | None, validation: bool) -> None:
    """Writes the images as OUTPUT_DIR/img00000000.png and so on, and labels as labels.npy.

    OUTPUT_DIR appears complete or not at all.
    """
    dataset = TFRecordDataset(tfrecord_dir, validation=validation)
    count = inspect.extract(dataset, output_dir, max_images)
    click.echo(f"Wrote {counted(count, 'image')} to {output_dir}")


@click.command()
@click.argument("tfrecord_dir_a")
@click.argument("tfrecord_dir_b")
@click.option("--ignore_labels", "--ignore-labels", type=click.IntRange(0, 1), default=0, show_default=True)
def compare(tfrecord_dir_a: str, tfrecord_dir_b: str, ignore_labels: int) -> None:
    """Compares two data sets record by record, whatever their encodings are; exit code 1 if they differ."""
    result = inspect.compare(TFRecordDataset(tfrecord_dir_a), TFRecordDataset(tfrecord_dir_b), bool(ignore_labels))
    for what, different in (("images", result.images), ("labels", result.labels)):
        if different.count:
            first = ", ".join(map(str, different.first))
            click.echo(f"{different.count} of {result.num_images} {what} differ (the first: {first})")
    if not result.equal:
        sys.exit(1)
    click.echo(f"All {result.num_images} images are identical.")


@click.command()
@click.argument("tfrecord_dir")
@click.option("--repair", "new_dir", metavar="NEW_DIR", help="Write a new data set of what is whole.")
def verify(tfrecord_dir: str, new_dir: str | None) -> None:
    """Checks every record, the labels and dataset.json; exit code 1 if something is wrong.

    With --repair the exit code is 0 if the new data set is in order.
    """
    if new_dir is not None:
        _repair(tfrecord_dir, new_dir)
        return
    problems = dataset_verify.verify(tfrecord_dir, click.echo)
    for problem in problems:
        click.echo(f"problem: {problem}", err=True)
    if problems:
        what = counted(len(problems), "problem")
        click.echo(f"{what}; verify {tfrecord_dir} --repair NEW_DIR writes a new data set of what is whole", err=True)
        sys.exit(1)
    click.echo("Everything is in order.")


def _repair(tfrecord_dir: str, new_dir: str) -> None:
    result = repair(tfrecord_dir, new_dir, click.echo)
    for place, reason in itertools.islice(result.dropped, _MOST_DROPPED):
        click.echo(f"dropped {place}: {reason}")
    if len(result.dropped) > _MOST_DROPPED:
        click.echo(f"... and {len(result.dropped) - _MOST_DROPPED} more, all listed in {result.path / SKIPPED_NAME}")
    held_out = f" and {result.num_validation} held-out ones" if result.num_validation else ""
    click.echo(
        f"Wrote {counted(result.num_images, 'image')}{held_out} to {result.path}, dropped {len(result.dropped)}."
    )
    left = dataset_verify.verify(result.path, lambda line: None)
    if left:
        raise UserError(f"{result.path} is still not in order: {left[0]}")


COMMANDS = (display, info, extract, compare, verify)
