"""Commands about files: strip, convert."""

from __future__ import annotations

import os

import click

from dnnlib.snapshot import NetworkState
from dnnlib.snapshot.arrays import printable
from dnnlib.util import UserError
from training.cli import FiniteFloat, quiet_tensorflow
from training.export.arrays import READERS, left_out, write_npz, write_safetensors
from training.export.published import as_published, notes_on, to_ada, to_stylegan2
from training.surgery.files import read_model, write_model
from training.surgery.report import compare
from training.surgery.states import Model, is_ada, is_generator, refuse_unknown
from training.surgery_cli.common import (
    check_target,
    finish,
    force_option,
    source_argument,
    target_argument,
    verbose_option,
)

FORMATS = ("tf", "ada-tf", "npz", "safetensors", "savedmodel", "onnx")
TAKES = ("z", "w")


@click.command("strip")
@source_argument
@target_argument
@click.option("--keep", type=click.Choice(["Gs", "G", "D"]), default="Gs", show_default=True)
@verbose_option
@force_option
def strip_command(source: str, target: str, keep: str, verbose: bool, force: bool) -> None:
    """Write one network of a file alone: Gs is what draws, a third of the size."""
    check_target(target, force, [source])
    model = read_model(source, as_data=True)
    if keep not in model.networks:
        raise UserError(f"{source}: has no {keep}, found {', '.join(model.networks)}")
    result = Model(model.path, {keep: model.networks[keep]})
    finish(result, compare(model, result), target, verbose)


@click.command("convert")
@source_argument
@click.argument("target", metavar="DST", type=click.Path())
@click.option("--format", "kind", type=click.Choice(FORMATS), required=True, help="What to write.")
@click.option(
    "--input",
    "takes",
    type=click.Choice(TAKES),
    default="z",
    show_default=True,
    help="savedmodel, onnx: what the model takes, latents or dlatents.",
)
@click.option("--psi", type=FiniteFloat(), help="savedmodel, onnx: truncation to bake in. [default: an input]")
@click.option(
    "--network", type=click.Choice(["Gs", "G"]), default="Gs", show_default=True, help="savedmodel, onnx: which one."
)
@click.option("--fp16", is_flag=True, help="savedmodel, onnx: compute in float16 but for the first block.")
@force_option
def convert_command(
    source: str, target: str, kind: str, takes: str, psi: float | None, network: str, fp16: bool, force: bool
) -> None:  # fmt: skip
    """Write networks in another format. SRC may be a run directory: its newest snapshot is meant.

    tf, ada-tf: pickles of StyleGAN2 and StyleGAN2-ADA; npz, safetensors: arrays with a description, which all commands
    read again; savedmodel, onnx: one generator for TensorFlow and for ONNX runtimes, checked after writing.
    """
    check_target(target, force, [source])
    exports = kind in ("savedmodel", "onnx")
    if not exports and (takes != "z" or psi is not None or network != "Gs" or fp16):
        raise UserError(f"--input, --psi, --network and --fp16 are for savedmodel and onnx, not for {kind}")
    suffix = os.path.splitext(target)[1]
    if kind in ("npz", "safetensors") and suffix != f".{kind}":
        raise UserError(f"{target}: expected a name that ends in .{kind}, by which it is recognised again")
    if kind not in ("npz", "safetensors") and suffix in READERS:
        raise UserError(f"{target}: the ending says {suffix[1:]}, --format says {kind}")
    # Of an export, one network is looked at.
    # Programs that read a pickle of three want to know all three.
    model = read_model(source, as_data=exports or kind in ("npz", "safetensors"), keep_unknown=False)
    notes = _export(model, target, kind, takes, psi, network, fp16) if exports else _write(model, target, kind)
    for note in notes:
        click.echo(note)
    click.echo(f"wrote {network if exports else ', '.join(model.networks)} to {target}")


def _write(model: Model, target: str, kind: str) -> list[str]:
    if kind in ("npz", "safetensors"):
        write = write_npz if kind == "npz" else write_safetensors
        networks = {name: as_published(state) for name, state in model.networks.items()}
        odd = _left_out(networks, model.path)
        write(networks, target)
        return [f"left out, because {kind} cannot hold it: {printable(', '.join(odd))}"] if odd else []
    model, notes = (to_stylegan2 if kind == "tf" else to_ada)(model)
    write_model(model, target)
    return notes + [f"{name}: {note}" for name, state in model.networks.items() for note in notes_on(state)]


def _left_out(networks: dict[str, NetworkState], path: str) -> list[str]:
    try:
        return [key for state in networks.values() for key in left_out(state)]
    except UserError as err:
        raise UserError(f"{path}: {err}") from err


def _export(model: Model, target: str, kind: str, takes: str, psi: float | None, network: str, fp16: bool) -> list[str]:
    if network in model.networks:
        refuse_unknown(model.networks[network], model.path)
    if network not in model.networks or not is_generator(model.networks[network]):
        raise UserError(f"{model.path}: has no {network}, found {', '.join(model.networks)}")
    if is_ada(model.networks[network]) and not model.networks[network]["static_kwargs"].get("label_size"):
        model, _ = to_stylegan2(Model(model.path, {network: model.networks[network]}))
    quiet_tensorflow()
    if kind == "onnx":
        from training.export.onnx_model import write_onnx as write
    else:
        from training.export.saved_model import write_saved_model as write
    worst = write(model.networks[network], target, takes, psi, fp16)
    return [f"checked: its images differ from this network's by at most {worst:.1g} of the largest value"]


COMMANDS = (strip_command, convert_command)
