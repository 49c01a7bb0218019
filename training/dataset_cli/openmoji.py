"""The command that makes a data set of the OpenMoji drawings."""

from __future__ import annotations

from typing import Any

import click

from training.dataset_cli.common import build_options, make_options, print_report
from training.openmoji import GROUPS, create_openmoji
from training.openmoji import LABEL_SOURCES as EMOJI_LABEL_SOURCES


@click.command("create_openmoji")
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
        make_options(**options),
        click.echo,
    )
    print_report(report)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


COMMANDS = (create_openmoji_command,)
