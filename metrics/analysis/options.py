"""Options that the commands of analyses share, and the records that they arrive in. Needs no TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from metrics.feature_names import EFFNET

MOST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Sampling:
    """num, seed: of samples; num_gpus: devices that share the work; batch: images on each at once, None: as many as
    usually fit; out: picture to write, None: beside the pickle."""

    num: int
    seed: int
    num_gpus: int
    batch: int | None
    out: str | None


@dataclass(frozen=True)
class Data:
    """A directory of TFRecords; None: as the network was trained."""

    dataset: str | None
    data_dir: str | None


@dataclass(frozen=True)
class Look:
    """feature_network: name or alias; weights: texts NAME=FILE."""

    feature_network: str
    weights: tuple[str, ...]


_RECORDS = {"sampling": Sampling, "data": Data, "look": Look}


class AnalysisCommand(click.Command):
    """Hands the shared options to its function as records: `sampling`, `data`, `look`, those whose options it has."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the function of the command."""
        for name, record in _RECORDS.items():
            fields = [field.name for field in dataclasses.fields(record)]
            if ctx.params.keys() >= set(fields):
                ctx.params[name] = record(**{field: ctx.params.pop(field) for field in fields})
        return super().invoke(ctx)


def sampling_options(num: int, num_help: str) -> Callable[[Any], Any]:
    """Those of `Sampling`; num, num_help: default and text of --num."""

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
    """Those of `Look`, as run_metrics.py has them."""
    command = click.option(
        "--weights", metavar="NAME=FILE", multiple=True, help="Weights of a feature network; may be repeated."
    )(command)
    return click.option(
        "--feature-network", metavar="NAME", default=EFFNET, show_default=True, help="What measures distances."
    )(command)


def data_options(purpose: str) -> Callable[[Any], Any]:
    """Those of `Data`; purpose: what the images are for, if not to be looked at."""

    def add(command: Any) -> Any:
        command = click.option(
            "--data-dir", metavar="DIR", help="Where data sets are.  [default: as trained, else here]"
        )(command)
        text = f"Directory of TFRecords, inside --data-dir{purpose}.  [default: as trained on]"
        return click.option("--dataset", metavar="NAME", help=text)(command)

    return add


labels_options = data_options("; labels of samples are drawn from its own")
