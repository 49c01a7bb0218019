"""Commands that make data sets out of images."""

from __future__ import annotations

from typing import Any

import click

from training.dataset_cli.common import build_options, make_options, print_report
from training.dataset_sources import LABEL_SOURCES, create_from_images


@click.command("create_from_images")
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
        make_options(**options),
        click.echo,
    )
    print_report(report)


COMMANDS = (create_from_images_command,)
