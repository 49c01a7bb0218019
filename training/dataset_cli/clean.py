"""Commands that clean collections of images: clean, rank, crop; and the options that conversion shares with them."""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from dnnlib.util import UserError
from training.clean import apply
from training.clean.cascade import Cascade
from training.clean.columns import Columns
from training.clean.crops import write_crops
from training.clean.hamming import MOST_BITS
from training.clean.inputs import collect
from training.clean.judgements import Chosen
from training.clean.near import DEFAULT_BITS
from training.clean.options import CleanOptions, make_filters
from training.clean.pipeline import judge
from training.clean.places import check_list_output, check_output
from training.clean.report import MOST_SHOWN, count, write_report
from training.clean.table import write_table
from training.cli import FiniteFloat, FiniteRange, quiet_tensorflow
from training.dataset_items import Item, counted, printable
from training.label_sources import LABEL_SOURCES, label_items

_PERCENT = FiniteRange(0, min_open=True)
_FILE = click.Path(exists=True, dir_okay=False)
_FOLDER = click.Path(exists=True, file_okay=False)
_DEFAULTS = CleanOptions()
# What is looked for when no filter is chosen: what hardly anybody wants in a data set.
_USUAL = replace(_DEFAULTS, drop_duplicates=True, near_duplicates=DEFAULT_BITS, min_colors=257)

_OPTIONS = (
    click.option("--min-size", type=click.IntRange(1), help="Drop images whose shorter side has fewer pixels."),
    click.option("--min-pixels", type=click.IntRange(1), help="Drop images of fewer pixels."),
    click.option("--min-colors", type=click.IntRange(2), help="Drop images of fewer different colours (257 is usual)."),
    click.option("--drop-monochrome", is_flag=True, help="Drop grey images."),
    click.option(
        "--min-chroma", type=FiniteRange(0, 255), default=_DEFAULTS.min_chroma, show_default=True,
        help="Images are grey if the channels of 99% of the pixels differ by less.",
    ),
    click.option("--min-laplacian", type=FiniteRange(0), help="Drop images whose Laplacian has less variance."),
    click.option(
        "--max-brisque", type=FiniteFloat(), help="Drop blurry and noisy images: BRISQUE, about 0 good to 100 bad."
    ),
    click.option(
        "--max-asymmetry", type=FiniteRange(0, 1), help="Drop images with more unlike halves (0.06 is usual).",
    ),
    click.option("--masks", type=_FOLDER, help="Masks of the same names; asymmetry is measured on them."),
    click.option("--cascade", type=_FILE, help="OpenCV cascade (.xml): drop images in which it finds nothing."),
    click.option(
        "--cascade-neighbors", type=click.IntRange(0), default=_DEFAULTS.cascade_neighbors, show_default=True,
        help="The higher, the stricter the cascade.",
    ),
    click.option(
        "--cascade-min-side", type=click.IntRange(1), default=_DEFAULTS.cascade_min_side, show_default=True,
        help="The cascade looks for nothing smaller, in pixels.",
    ),
    click.option("--faces", is_flag=True, help="Drop images without an upright frontal face (MTCNN)."),
    click.option(
        "--face-confidence", type=FiniteRange(0, 1), default=_DEFAULTS.face_confidence, show_default=True,
        help="Less certain faces do not count.",
    ),
    click.option(
        "--min-faces", type=click.IntRange(0), default=_DEFAULTS.min_faces, show_default=True, help="With --faces.",
    ),
    click.option("--max-faces", type=click.IntRange(0), help="With --faces. [default: any number]"),
    click.option(
        "--max-eye-tilt", type=_PERCENT, default=_DEFAULTS.max_eye_tilt, show_default=True,
        help="With --faces: difference of the eyes' heights, percent of the face.",
    ),
    click.option(
        "--max-eye-offset", type=_PERCENT, default=_DEFAULTS.max_eye_offset, show_default=True,
        help="With --faces: difference of the eyes' distances from the centreline, percent of their mean.",
    ),
    click.option("--drop-duplicates", is_flag=True, help="Drop images with the same pixels as another."),
    click.option(
        "--near-duplicates", type=click.IntRange(0, MOST_BITS), metavar="BITS",
        help="Drop the smaller or less detailed of images that look the same: perceptual hashes BITS of 64 bits apart.",
    ),
    click.option("--mirror-duplicates", is_flag=True, help="With --near-duplicates: find mirror images, too."),
)  # fmt: skip

workers_option = click.option("--workers", type=click.IntRange(1), help="Processes. [default: one per core]")
apply_option = click.option(
    "--apply", "action", nargs=2, type=(click.Choice(["list", "move"]), str), metavar="list FILE | move DIR",
    help="Write a list of the kept files, or move the others to a folder. [default: only report]",
)  # fmt: skip


def clean_options(command: Callable) -> Callable:
    """Adds the options of the filters; the command gets them as one argument, `cleaning`: `CleanOptions`."""
    names = [field.name for field in fields(CleanOptions)]

    @functools.wraps(command)
    def with_record(**options: Any) -> Any:
        cleaning = CleanOptions(**{name: options.pop(name) for name in names})
        return command(cleaning=cleaning, **options)

    for option in reversed(_OPTIONS):
        with_record = option(with_record)
    return with_record


@click.command("clean")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@clean_options
@click.option("--report", type=click.Path(dir_okay=False), default="clean.html", show_default=True, help="Page.")
@click.option("--csv", "csv_path", type=click.Path(dir_okay=False), default="clean.csv", show_default=True)
@click.option(
    "--report-images", type=click.IntRange(1), default=MOST_SHOWN, show_default=True, help="Shown per gallery."
)
@apply_option
@workers_option
def clean_command(
    inputs: tuple[str, ...],
    cleaning: CleanOptions,
    report: str,
    csv_path: str,
    report_images: int,
    action: tuple[str, str] | None,
    workers: int | None,
) -> None:
    """Says which images of IN... (folders, archives, lists) filters would drop, and why.

    Writes a page with the dropped and the kept images, worst first, and a table with all scores. No file of IN...
    is changed unless --apply move is given, which moves dropped and unreadable files aside.

    Without a filter, duplicates, near duplicates and images of fewer than 257 colours are looked for.
    """
    filters = make_filters(cleaning)
    if not filters:
        filters = make_filters(_USUAL)
        click.echo("No filter chosen; looking for duplicates and images of few colours.")
    check_output(report, ".html", ".htm")
    check_output(csv_path, ".csv")
    _check_action(action, inputs)
    listing = collect(inputs, _scratch(), click.echo, action is not None)
    items, others = listing.items, listing.others
    judgements = judge(items, filters, workers)
    for name, reason in itertools.islice(others, 5):
        click.echo(f"Not looked at: {printable(name)}: {reason}")
    if others:
        click.echo(f"Not looked at: {counted(len(others), 'other file')}")
    counts = count(judgements, filters)
    for one in filters:
        click.echo(f"Filter {one.name} ({one.criterion}): would drop {counts.by_filter[one.name]}")
    click.echo(
        f"{counted(len(items), 'image')}: {counts.kept} kept, {counts.dropped} dropped, {counts.unreadable} unreadable"
    )
    write_table(csv_path, judgements, filters)
    write_report(report, f"Cleaning of {', '.join(inputs)}", judgements, filters, report_images, workers)
    click.echo(f"Wrote {report} and {csv_path}")
    if action is not None:
        keep = Columns(judgements, len(filters)).keep
        _act(action, Chosen(items, np.flatnonzero(keep)), Chosen(items, np.flatnonzero(~keep)))


@click.command("rank")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("--network", required=True, help="Snapshot with a trained discriminator: file or URL.")
@click.option("--passes", type=click.IntRange(1), default=4, show_default=True, help="Scores per image to average.")
@click.option("--minibatch", type=click.IntRange(1), default=16, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the order.")
@click.option("--labels-from", type=click.Choice(LABEL_SOURCES), help="For networks with classes.")
@click.option("--labels-file", type=_FILE, help="With --labels-from csv or json.")
@click.option("--drop-worst", type=FiniteRange(0, 100), default=10, show_default=True, help="Percent.")
@click.option("--report", type=click.Path(dir_okay=False), default="rank.html", show_default=True, help="Page.")
@click.option("--csv", "csv_path", type=click.Path(dir_okay=False), default="rank.csv", show_default=True)
@click.option(
    "--report-images", type=click.IntRange(1), default=MOST_SHOWN, show_default=True, help="Shown per gallery."
)
@apply_option
@workers_option
def rank_command(
    inputs: tuple[str, ...],
    network: str,
    passes: int,
    minibatch: int,
    seed: int,
    labels_from: str | None,
    labels_file: str | None,
    drop_worst: float,
    report: str,
    csv_path: str,
    report_images: int,
    action: tuple[str, str] | None,
    workers: int | None,
) -> None:
    """Ranks the images of IN... by how real a trained discriminator finds them, worst first.

    Look at both ends: the best ones can be odd, too. --drop-worst tells which part --apply drops.
    """
    check_output(report, ".html", ".htm")
    check_output(csv_path, ".csv")
    _check_action(action, inputs)
    listing = collect(inputs, _scratch(), click.echo, action is not None)
    label_items(listing, labels_from, labels_file, click.echo)
    items = listing.items
    quiet_tensorflow()
    from dnnlib import tflib
    from training.clean.rank import find_discriminator, rank
    from training.clean.rank_report import write_rank_report, write_rank_table

    tflib.init_tf()
    discriminator = find_discriminator(tflib.pickles.load(network), network)
    ranks, bad = rank(items, discriminator, passes, minibatch, seed, workers)
    worst = round(len(ranks) * drop_worst / 100)
    write_rank_table(csv_path, items, ranks)
    write_rank_report(report, f"Ranking by {network}", items, ranks, worst, bad, report_images, workers)
    for name, reason in itertools.islice(bad, 5):
        click.echo(f"Without a score: {printable(name)}: {reason}")
    click.echo(f"Ranked {counted(len(ranks), 'image')}, {len(bad)} without a score: wrote {report} and {csv_path}")
    _act(action, Chosen(items, ranks.index[worst:]), Chosen(items, ranks.index[:worst]))


@click.command("crop")
@click.argument("out_dir")
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option("--cascade", required=True, type=_FILE, help="OpenCV cascade (.xml), e.g. lbpcascade_animeface.xml.")
@click.option("--crop-scale", type=_PERCENT, default=1.0, show_default=True, help="Side of the crops by what is found.")
@click.option("--cascade-neighbors", type=click.IntRange(0), default=_DEFAULTS.cascade_neighbors, show_default=True)
@click.option(
    "--cascade-min-side", type=click.IntRange(1), default=_DEFAULTS.cascade_min_side, show_default=True,
    help="Smaller objects are not looked for; 250 keeps most mistakes out of faces of drawings.",
)  # fmt: skip
@workers_option
def crop_command(
    out_dir: str,
    inputs: tuple[str, ...],
    cascade: str,
    crop_scale: float,
    cascade_neighbors: int,
    cascade_min_side: int,
    workers: int | None,
) -> None:
    """Writes square crops around what a cascade finds in IN... to OUT_DIR, as PNG files, and a table crops.csv."""
    items = collect(inputs, _scratch(), click.echo).items
    done = write_crops(out_dir, items, Cascade(cascade, cascade_neighbors, cascade_min_side), crop_scale, workers)
    for name, reason in itertools.islice(done.failed, 5):
        click.echo(f"Skipped {name}: {reason}")
    click.echo(
        f"Wrote {counted(done.num_crops, 'crop')} of {counted(len(items), 'image')} to {out_dir}; "
        f"nothing found in {done.num_empty}, {len(done.failed)} skipped"
    )


def _scratch() -> Path:
    """A folder for decompressed archives; it goes away when the command ends."""
    return Path(click.get_current_context().with_resource(tempfile.TemporaryDirectory(prefix="dataset-sources-")))


def _check_action(action: tuple[str, str] | None, inputs: Sequence[str]) -> None:
    if action is not None and action[0] == "move":
        apply.check_aside(action[1], inputs)
    elif action is not None:
        check_list_output(action[1])


def _act(action: tuple[str, str] | None, kept: Sequence[Item], dropped: Sequence[Item]) -> None:
    if action is None:
        return
    kind, target = action
    if kind == "list":
        left_out = apply.write_list(target, kept)
        for name in left_out:
            click.echo(f"Not listed: {name!r}: line breaks in its path")
        click.echo(f"Listed {counted(len(kept) - len(left_out), 'file')} in {target}")
        return
    failed = apply.move_aside(target, dropped)
    click.echo(f"Moved {counted(len(dropped) - len(failed), 'file')} to {target}")
    for name, reason in failed:
        click.echo(f"{name}: {reason}", err=True)
    if failed:
        raise UserError(
            f"{len(failed)} of {counted(len(dropped), 'file')} could not be moved (the first: {failed[0][0]})"
        )


COMMANDS = (clean_command, rank_command, crop_command)
