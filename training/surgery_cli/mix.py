"""Commands that bring models together: copy, average, interpolate."""

from __future__ import annotations

import click

from training.cli import FiniteFloat
from training.surgery.average import average, interpolate
from training.surgery.copy import copy
from training.surgery.files import read_model
from training.surgery_cli.common import check_target, finish, force_option, target_argument, verbose_option


@click.command("copy")
@click.argument("source", metavar="SRC")
@click.argument("into", metavar="DST")
@target_argument
@click.option("--only", multiple=True, metavar="PATTERN", help="Copy only such variables, e.g. 'G_mapping/*'.")
@click.option("--without", multiple=True, metavar="PATTERN", help="Do not copy such variables, e.g. '*/ToRGB/*'.")
@click.option("--resize/--no-resize", default=True, show_default=True, help="Copy parts where shapes differ.")
@verbose_option
@force_option
def copy_command(
    source: str,
    into: str,
    target: str,
    only: tuple[str, ...],
    without: tuple[str, ...],
    resize: bool,
    verbose: bool,
    force: bool,
) -> None:
    """Write the networks of DST with the weights of SRC, by name."""
    check_target(target, force, [source, into])
    finish(*copy(read_model(source), read_model(into), resize, only, without), target, verbose)


@click.command("average")
@click.argument("sources", metavar="SRC...", nargs=-1, required=True)
@click.option("--out", "target", required=True, metavar="OUT", help="The file to write.")
@click.option("--weights", metavar="W,...", help="One number per model. [default: equal]")
@verbose_option
@force_option
def average_command(sources: tuple[str, ...], target: str, weights: str | None, verbose: bool, force: bool) -> None:
    """Write the mean of models of one architecture, e.g. of the last snapshots of a run."""
    check_target(target, force, sources)
    shares = None if weights is None else [_number(part) for part in weights.split(",")]
    finish(*average([read_model(source) for source in sources], shares), target, verbose)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as err:
        raise click.UsageError(f"--weights: found {text!r}, expected numbers as 1,2,1") from err


@click.command("interpolate")
@click.argument("low", metavar="COARSE")
@click.argument("high", metavar="FINE")
@target_argument
@click.option("--at", type=int, required=True, help="Resolution of the first block that FINE gives.")
@click.option(
    "--width", type=FiniteFloat(), default=0.0, show_default=True, help="Octaves of a smooth change; 0: at once."
)
@click.option(
    "--mapping", type=FiniteFloat(), default=0.0, show_default=True, help="Share of FINE in the mapping network."
)
@verbose_option
@force_option
def interpolate_command(
    low: str, high: str, target: str, at: int, width: float, mapping: float, verbose: bool, force: bool
) -> None:
    """Write coarse layers of one model with fine layers of another (layer swapping, blending)."""
    check_target(target, force, [low, high])
    finish(*interpolate(read_model(low), read_model(high), at, width, mapping), target, verbose)


COMMANDS = (copy_command, average_command, interpolate_command)
