"""Options that the commands of run_generator.py share, and the points that they name. Needs no TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from dnnlib.snapshot.source import identify
from dnnlib.submission.run_dir import create_run_dir
from dnnlib.util import UserError, atomic_write
from training.cli import FiniteFloat, NumberList
from training.generation.keys import map_latents, read_dlatents, seed_latents
from training.generation.source import check_seeds

if TYPE_CHECKING:
    from dnnlib.tflib.network import Network

network_option = click.option(
    "--network", "network_pkl", metavar="PKL", required=True, help="Network pickle: a path or URL."
)
class_option = click.option("--class", "label", metavar="IDX|NAME", help="Class to draw, for networks with labels.")
minibatch_option = click.option(
    "--minibatch", type=click.IntRange(1), default=8, show_default=True, help="Images at a time."
)
result_dir_option = click.option("--result-dir", metavar="DIR", default="results", show_default=True)


def psi_option(command: Any) -> Any:
    """--truncation-psi, as for single images."""
    return click.option(
        "--truncation-psi", type=FiniteFloat(), default=0.5, show_default=True, help="Less is more typical; 1: none."
    )(command)


def cutoff_option(command: Any) -> Any:
    """--truncation-cutoff."""
    text = "Truncate only this many layers, the coarse ones.  [default: as the network says, else all]"
    return click.option("--truncation-cutoff", metavar="LAYERS", type=click.IntRange(0), help=text)(command)


def seeds_option(required: bool, text: str) -> Callable[[Any], Any]:
    """--seeds with this help."""
    return click.option("--seeds", type=NumberList(), required=required, help=text)


def find_dlatents(
    Gs: Network,  # noqa: N803
    option: str,
    seeds: list[int] | None,
    file: str | None,
    label: np.ndarray | None,
    psi: float,
    cutoff: int | None,
) -> tuple[list[str], np.ndarray]:
    """Names and w float32 [n, num_layers, dlatent_size] of seeds (truncated by psi below the cutoff) or of a file."""
    if (seeds is None) == (file is None):
        raise UserError(f"give either {option}seeds or {option}dlatents")
    if file is not None:
        dlatents = read_dlatents(file, Gs)
        return [str(index) for index in range(len(dlatents))], dlatents
    check_seeds(seeds, f"{option}seeds")
    return [str(seed) for seed in seeds], map_latents(Gs, seed_latents(Gs, seeds), label, psi, truncation_cutoff=cutoff)


def start_run(result_dir: str, command: str, network_pkl: str, others: Mapping[str, Any] | None = None) -> Path:
    """Make the directory of a run, with how it draws in options.json: the command, its options, other facts, and the
    network's file and SHA-256."""
    run_dir = create_run_dir(result_dir, command)
    network, digest = identify(network_pkl)
    options = {name: value for name, value in click.get_current_context().params.items() if name != "network_pkl"}
    facts = {"command": command, "network": network, "network_sha256": digest, **options, **(others or {})}
    with atomic_write(run_dir / "options.json", "w") as file:
        file.write(json.dumps(facts, indent=1, allow_nan=False) + "\n")
    return run_dir


class FloatList(click.ParamType):
    """`-1,0,0.5`: numbers."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """The numbers, in the order of the text."""
        if not isinstance(value, str):
            return list(value)
        try:
            found = [float(part) for part in value.split(",")]
        except ValueError:
            self.fail(f"found {value!r}, expected numbers such as -1,0,0.5", param, ctx)
        if not np.isfinite(found).all():
            self.fail(f"found {value!r}, expected finite numbers", param, ctx)
        return found
