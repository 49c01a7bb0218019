"""Commands that make data sets out of images."""

from __future__ import annotations

from functools import partial
from typing import Any

import click
from PIL import ImageColor

from dnnlib.util import UserError
from training.clean.options import CleanOptions, make_filters
from training.clean.pipeline import find_dropped
from training.cli import FiniteRange
from training.dataset_cli.clean import clean_options
from training.dataset_cli.common import build_options, make_options, print_report
from training.dataset_sources import LABEL_SOURCES, ImageOptions, create_from_images, look_at_images
from training.fits import FITS
from training.image_shapes import parse_size


@click.command("create_from_images")
@click.argument("tfrecord_dir")
@click.argument("inputs", nargs=-1, required=True)
@click.option("--resolution", metavar="N|WxH", help="Size to bring all images to. [default: they have one size]")
@click.option("--fit", type=click.Choice(FITS), default="center-crop", show_default=True, help="How; see above.")
@click.option("--channels", type=click.Choice(["1", "3", "4"]), help="[default: 1 if all images are grey, else 3]")
@click.option("--background", default="white", show_default=True, help="Behind transparency, and of padding.")
@click.option("--sharpen", type=FiniteRange(0), default=0.0, help="Unsharp masking; does harm, see recipes.md.")
@click.option("--labels-from", type=click.Choice(LABEL_SOURCES), help="folders: one class per sub-folder.")
@click.option("--labels-file", help="Of labels. [default for json: dataset.json in the inputs]")
@click.option("--dry-run", is_flag=True, help="Only list what would be converted and what skipped.")
@click.option("--clean-report", type=click.Path(dir_okay=False), help="Page with what filters drop, before they do.")
@clean_options
@build_options
def create_from_images_command(
    tfrecord_dir: str,
    inputs: tuple[str, ...],
    resolution: str | None,
    fit: str,
    channels: str | None,
    background: str,
    sharpen: float,
    labels_from: str | None,
    labels_file: str | None,
    dry_run: bool,
    clean_report: str | None,
    cleaning: CleanOptions,
    filter_name: str,
    **options: Any,
) -> None:
    """A data set of all images in INPUTS.

    These are folders (with all below them), archives (zip, tar, tar.gz, tar.bz2, tar.xz), lists of paths (.txt, .lst)
    and image files. Any common format, grey, transparent, palette, CMYK or 16-bit; turned upright, in sRGB. Files that
    cannot be read are skipped and listed. An interrupted conversion goes on with the same command.

    \b
    --fit center-crop  largest central rectangle of that aspect, resized
          pad          whole image, resized to fit in, the rest is background
          stretch      whole image, resized whatever its aspect
          crop-wide    as center-crop to WxH, then black bars make a square of it

    \b
    --labels-from folders  the first folder below the input is the class
                  json     {"labels": [[file, number or list of numbers], ...]}
                  csv      file,class / file,class;class / file,number,number,...
    """
    wanted = ImageOptions(
        size=None if resolution is None else parse_size(resolution),
        channels=None if channels is None else int(channels),
        fit=fit,
        filter=filter_name,
        background=_colour(background),
        labels_from=labels_from,
        labels_file=labels_file,
        sharpen=sharpen,
    )
    built = make_options(**options)
    drop = partial(find_dropped, options=cleaning, workers=built.workers, say=click.echo, report=clean_report)
    filters = make_filters(cleaning)
    if clean_report is not None and not filters:
        raise UserError("--clean-report without a filter: nothing would be left out; see dataset_tool.py clean --help")
    if dry_run:
        look_at_images(inputs, wanted, built, click.echo, drop if filters else None)
    else:
        print_report(create_from_images(tfrecord_dir, inputs, wanted, built, click.echo, drop if filters else None))


def _colour(text: str) -> tuple[int, int, int]:
    try:
        return ImageColor.getrgb(text)[:3]
    except ValueError as err:
        raise UserError(f"--background {text!r}: expected a colour such as white, #ff8800 or rgb(0,0,0)") from err


COMMANDS = (create_from_images_command,)
