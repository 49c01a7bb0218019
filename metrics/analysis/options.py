"""Options that the commands of analyses share. Needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from metrics.feature_names import EFFNET

MOST_SEED = 2**32 - 1


def common_options(num: int, num_help: str) -> Callable[[Any], Any]:
    """--num, --seed, --batch and --out, as all analyses have them."""

    def add(command: Any) -> Any:
        for option in (
            click.option("--out", metavar="PNG", help="Picture to write.  [default: analysis-*.png beside the pickle]"),
            click.option("--batch", type=click.IntRange(1), help="Images per device at once; fewer need less memory."),
            click.option(
                "--num-gpus", type=click.IntRange(1), default=1, show_default=True, help="Devices that share the work."
            ),
            click.option("--seed", type=click.IntRange(0, MOST_SEED), default=0, show_default=True, help="Of samples."),
            click.option("--num", type=click.IntRange(1), default=num, show_default=True, help=num_help),
        ):
            command = option(command)
        return command

    return add


network_option = click.option("--network", metavar="PKL", required=True, help="Network pickle: a path or URL.")


def features_options(command: Any) -> Any:
    """--feature-network and --weights, as run_metrics.py has them."""
    command = click.option(
        "--weights", metavar="NAME=FILE", multiple=True, help="Weights of a feature network; may be repeated."
    )(command)
    return click.option(
        "--feature-network", metavar="NAME", default=EFFNET, show_default=True, help="What measures distances."
    )(command)


def data_options(purpose: str) -> Callable[[Any], Any]:
    """--dataset and --data-dir; purpose: what the images are for, if not to be looked at."""

    def add(command: Any) -> Any:
        command = click.option(
            "--data-dir", metavar="DIR", help="Where data sets are.  [default: as trained, else here]"
        )(command)
        text = f"Directory of TFRecords, inside --data-dir{purpose}.  [default: as trained on]"
        return click.option("--dataset", metavar="NAME", help=text)(command)

    return add


labels_options = data_options("; labels of samples are drawn from its own")
