"""The command that computes the mean of w anew."""

from __future__ import annotations

import click

from training.cli import quiet_tensorflow
from training.surgery.files import read_model
from training.surgery.mean_w import SAMPLES, SEED, recompute_mean_w
from training.surgery_cli.common import (
    check_target,
    finish,
    force_option,
    source_argument,
    target_argument,
    verbose_option,
)


@click.command("mean-w")
@source_argument
@target_argument
@click.option("--samples", type=click.IntRange(1), default=SAMPLES, show_default=True, help="How many latents.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=SEED, show_default=True, help="Of the latents.")
@click.option("--label", type=click.IntRange(0), help="Of this class alone. [default: all classes alike]")
@verbose_option
@force_option
def mean_w_command(
    source: str, target: str, samples: int, seed: int, label: int | None, verbose: bool, force: bool
) -> None:
    """Write the networks with the mean of w computed anew, or that of one class: what truncation moves towards."""
    check_target(target, force, [source])
    quiet_tensorflow()
    finish(*recompute_mean_w(read_model(source), samples, seed, label), target, verbose)


COMMANDS = (mean_w_command,)
