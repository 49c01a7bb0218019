"""Options and reports that commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import click
from rich.console import Console
from rich.table import Table

from dnnlib.util import UserError
from training import dataset_inspect as inspect
from training.dataset import TFRecordDataset
from training.dataset_build import PUBLISHED_SEED, BuildOptions, BuildReport
from training.dataset_files import SKIPPED_NAME, load_labels, read_info
from training.dataset_items import counted, printable
from training.encodings import ENCODINGS, Encoding
from training.fits import FILTERS

_SHUFFLE = click.option("--shuffle", type=click.IntRange(0, 1), default=1, show_default=True, help="Mix the order.")
_SEED = click.option("--seed", type=int, default=PUBLISHED_SEED, show_default=True, help="Of the order.")
_MAX_IMAGES = click.option(
    "--max-images", type=click.IntRange(1), help="Stop after so many (a random choice if mixed)."
)
_VALIDATION = click.option(
    "--validation", type=click.IntRange(0), default=0, show_default=True, help="So many images are held out."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an existing data set.")
_ENCODING = click.option(
    "--encoding", type=click.Choice(ENCODINGS), default="raw", show_default=True,
    help="raw: as published, all levels. Others: full size only, files that fit are taken over unchanged.",
)  # fmt: skip
_QUALITY = click.option("--quality", type=click.IntRange(1, 100), help="Of jpeg [default: 95], or of lossy webp.")
_DECODING = (
    click.option("--workers", type=click.IntRange(1), help="Processes. [default: one per core]"),
    click.option("--strict", is_flag=True, help="A bad image is an error instead of being skipped."),
    click.option(
        "--resample", "--filter", "filter_name", type=click.Choice(list(FILTERS)), default="lanczos",
        show_default=True, help="For resizing.",
    ),
)  # fmt: skip


def _add(options: Sequence[Callable], command: Callable) -> Callable:
    for option in reversed(options):
        command = option(command)
    return command


def encoding_options(command: Callable) -> Callable:
    """How images stand in the records."""
    return _add((_ENCODING, _QUALITY), command)


def write_options(command: Callable) -> Callable:
    """The options of commands whose source needs no decoding."""
    return encoding_options(_add((_SHUFFLE, _SEED, _MAX_IMAGES, _VALIDATION, overwrite_option), command))


def build_options(command: Callable) -> Callable:
    """The options of commands that decode image files."""
    return write_options(_add(_DECODING, command))


def make_options(
    shuffle: int,
    seed: int,
    max_images: int | None,
    workers: int | None,
    strict: bool,
    overwrite: bool,
    validation: int,
    encoding: str,
    quality: int | None,
) -> BuildOptions:
    """The options that all create commands have, as the functions take them."""
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed is {seed}, expected 0 to {2**32 - 1}")
    return BuildOptions(
        shuffle=bool(shuffle),
        seed=seed,
        max_images=max_images,
        num_validation=validation,
        encoding=Encoding(encoding, quality),
        workers=workers,
        strict=strict,
        overwrite=overwrite,
    )


def print_report(report: BuildReport) -> None:
    """Says what was written, which classes there are, and what was skipped."""
    info = read_info(report.path)
    held_out = f", {report.num_validation} held out," if report.num_validation else ""
    size = f"{info.width}x{info.height}x{info.channels}"
    click.echo(f"Wrote {counted(report.num_images, 'image')} of {size}{held_out} to {report.path}")
    if info.label_size:
        labels = load_labels(report.path, report.num_images)
        print_classes(SimpleNamespace(labels=labels, label_size=info.label_size, class_names=info.class_names))
    for name, reason in report.skipped[:5]:
        click.echo(f"Skipped {printable(name)}: {reason}")
    if report.num_skipped:
        click.echo(f"Skipped {counted(report.num_skipped, 'file')}, all listed in {report.path / SKIPPED_NAME}")


def print_classes(dataset: TFRecordDataset | SimpleNamespace) -> None:
    """A table of the classes, if the labels are one-hot."""
    counts = inspect.class_counts(dataset)
    if counts is None:
        return
    table = Table("class", "name", "images", title=f"{len(counts)} classes")
    for index, (name, count) in enumerate(counts):
        table.add_row(str(index), name, str(count))
    Console().print(table)
