"""What the commands of run_surgery.py share: arguments, and how a result is written and told."""

from __future__ import annotations

import click

from training.surgery.buildable import check_buildable
from training.surgery.files import check_target, write_model
from training.surgery.known import why_unknown
from training.surgery.report import Report, print_report
from training.surgery.states import Model

source_argument = click.argument("source", metavar="SRC")
target_argument = click.argument("target", metavar="OUT", type=click.Path())
force_option = click.option("--force", is_flag=True, help="Replace OUT if it is there.")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="List copied variables, too.")
seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of new weights.")

# Changes after which variables have to fit other options, or one another.
_OF_LAYERS = {"resized", "new", "left out"}

__all__ = ["check_target", "finish", "force_option", "seed_option", "source_argument", "target_argument"]


def finish(model: Model, report: Report, target: str, verbose: bool) -> None:
    """Writes the model and tells what was done. Raises `UserError` if layers changed so that nobody could open it."""
    if _OF_LAYERS & report.counts().keys():
        check_buildable(model)
    write_model(model, target)
    print_report(report, verbose)
    for name, state in model.kept.items():
        click.echo(f"{name} stays as it is in the file: {why_unknown(state)}")
    click.echo(f"wrote {', '.join([*model.networks, *model.kept])} to {target}")
