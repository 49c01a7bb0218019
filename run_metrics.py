#!/usr/bin/env python
"""Measure trained generators: `python run_metrics.py --network PKL --metrics fd50k_effnet --dataset NAME`."""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dnnlib.util import UserError, format_time
from metrics import registry
from metrics.errors import NotFinite
from metrics.report import MetricResult, format_value, read_results, snapshot_sha256, write_result
from metrics.run_data import RealSet, find_reals, run_of
from metrics.snapshots import find_snapshots, open_generator
from metrics.variants import DEFAULT_VARIANT, VARIANTS, find_variant
from training.cli import OneLineGroup, quiet_tensorflow, run_stoppable

_PIPE_COLUMNS = 200
_SUB_COMMANDS = {
    "fetch": ("metrics.fetch", "fetch_command"),
    "samples": ("metrics.sample_images", "samples_command"),
}


class _Commands(OneLineGroup):
    """Measures without a sub-command; loads a sub-command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_SUB_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _SUB_COMMANDS:
            return None
        module, command = _SUB_COMMANDS[cmd_name]
        return getattr(importlib.import_module(module), command)


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    subcommand_metavar="[fetch | samples ...]",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option("--network", metavar="PKL|RUN", help="Network pickle: a path or URL; or a run: all its snapshots.")
@click.option("--metrics", metavar="LIST", default="fid50k", show_default=True, help="Comma list; see --list-metrics.")
@click.option("--dataset", metavar="NAME", help="Directory of TFRecords, inside --data-dir.  [default: as trained on]")
@click.option("--data-dir", metavar="DIR", help="Where data sets are.  [default: as trained, else here]")
@click.option("--mirror-augment", type=bool, metavar="BOOL", help="Mirror half of the reals.  [default: as trained]")
@click.option("--validation", is_flag=True, help="Against the held-out images of the data set, to see memorisation.")
@click.option("--num-gpus", type=click.IntRange(1), default=1, show_default=True, help="Devices that share the work.")
@click.option("--minibatch-gpu", type=click.IntRange(1), help="Images per device at once; fewer need less memory.")
@click.option("--weights", metavar="NAME=FILE", multiple=True, help="Weights of a feature network; may be repeated.")
@click.option("--inception", metavar="PATH[#sha256=HEX]", help="Path or URL of the Inception graph, for fid metrics.")
@click.option("--inception-sha256", metavar="HEX", help="Refuse an Inception file with another checksum.")
@click.option("--attributes", metavar="PATH", help="For ls: folder of classifiers *.pkl, or a table .csv.")
@click.option(
    "--variant", metavar="NAME", default=DEFAULT_VARIANT, show_default=True,
    help=f"Conventions to follow where code bases differ: {', '.join(VARIANTS)}.",
)  # fmt: skip
@click.option(
    "--result-dir", metavar="DIR", help="Append to metric-NAME.txt and .jsonl there.  [default: the run, if it is one]"
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the fakes.")
@click.option("--list-metrics", is_flag=True, help="Print the metrics.")
@click.pass_context
def main(
    ctx: click.Context,
    network: str | None,
    metrics: str,
    dataset: str | None,
    data_dir: str | None,
    mirror_augment: bool | None,
    validation: bool,
    num_gpus: int,
    minibatch_gpu: int | None,
    weights: tuple[str, ...],
    inception: str | None,
    inception_sha256: str | None,
    attributes: str | None,
    variant: str,
    result_dir: str | None,
    seed: int,
    list_metrics: bool,
) -> None:
    """Measure generators against the images they were trained on.

    Values are printed, and added to the files metric-NAME.txt and .jsonl of the run or of --result-dir. A network in
    the directory of its run needs no --dataset: it is compared with what it was trained on. A run directory is gone
    through snapshot by snapshot; what was measured before is not measured again.

    `run_metrics.py fetch` gets the weights of feature networks. A variable of the environment such as
    SG2_WEIGHTS_INCEPTION=FILE names a file for all commands, as --weights does for one (also SG2_WEIGHTS_VGG16,
    ..._LPIPS, ..._LPIPS_LINEAR, ..._EFFNET). `samples` writes the fakes that ls looks at.
    """
    if ctx.invoked_subcommand is not None:
        return
    if list_metrics:
        for name, meaning in registry.list_metrics().items():
            click.echo(f"{name:<22} {meaning}")
        return
    if network is None:
        raise UserError("no network: give --network PKL, or a run directory")
    names = [spec.name for spec in registry.parse_metrics(metrics)]
    if not names:
        raise UserError("no metrics: give --metrics LIST; --list-metrics prints those that exist")
    find_variant(variant)
    snapshots = find_snapshots(network)
    reals = find_reals(snapshots[0], dataset, data_dir, mirror_augment, validation)
    options = dict(
        num_gpus=num_gpus,
        minibatch_gpu=minibatch_gpu,
        inception=inception,
        inception_sha256=inception_sha256,
        weights=_parse_weights(weights),
        attributes=attributes,
        variant=variant,
        seed=seed,
        mirror=reals.mirror_augment,
    )
    if Path(network).is_dir():
        measure_run(network, snapshots, names, reals, options, result_dir or network)
        return
    place = result_dir or run_of(network)
    if place is not None:
        check_writable(place)
    results = []
    try:
        for result in measure(network, names, reals, options):
            results.append((network, result))
            if place is not None:
                write_result(place, network, result)
    finally:  # what was measured is shown even if it cannot be written, or the next one not be measured
        if results:
            print_table(results)
    if place is not None:
        click.echo(f"added to {', '.join(f'metric-{name}.txt' for name in names)} and .jsonl in {place}", err=True)


def _parse_weights(texts: tuple[str, ...]) -> Any:
    if not texts:
        return None
    from metrics.weights import parse_weights

    return parse_weights(texts)


def measure_run(
    run_dir: str, snapshots: list[str], names: list[str], reals: RealSet, options: dict[str, Any], result_dir: str
) -> None:
    """Measures what has not been measured, writes it to `result_dir` at once, prints everything with the best.

    A snapshot that cannot be measured does not keep the others from it. Raises `UserError` in the end if there was one;
    at once if it is the first that is tried, unless it is the network that is broken.
    """
    from dnnlib.tflib.ops.toolchain import OpsError

    check_writable(result_dir)
    known = _known_results(result_dir, snapshots, names, reals, options)
    failed: list[str] = []
    for index, snapshot in enumerate(snapshots):
        file = Path(snapshot).name
        missing = [name for name in names if file not in known[name]]
        try:
            for result in measure(snapshot, missing, reals, options) if missing else ():
                click.echo(f"{file}  {result}", err=True)
                write_result(result_dir, snapshot, result)
                known[result.name][file] = result
        except OpsError:  # not the snapshot's fault
            raise
        except UserError as err:
            if index == 0 and not isinstance(err, NotFinite):  # what is wrong may concern all
                raise
            failed.append(file)
            click.echo(f"{file}: {err}", err=True)
    from metrics.run_files import all_same, better_is

    files = [Path(snapshot).name for snapshot in snapshots]
    results = [(file, known[name][file]) for file in files for name in names if file in known[name]]
    print_table(results)
    for name in names:
        values = {file: known[name][file].value for file in files if file in known[name]}
        if not values:
            continue
        best = (max if registry.find_metric(name).higher_is_better else min)(values, key=values.get)
        key, value = next(iter(known[name][best].values.items()))
        if better_is(key) != 0 and not all_same(values.values()):
            click.echo(f"best {key}: {format_value(key, value)} ({best})")
    if Path(result_dir).resolve() == Path(run_dir).resolve():
        write_html(run_dir)
    if failed:
        raise UserError(f"{len(failed)} of {len(snapshots)} snapshots could not be measured: {', '.join(failed)}")


def _known_results(
    result_dir: str, snapshots: list[str], names: list[str], reals: RealSet, options: dict[str, Any]
) -> dict[str, dict[str, MetricResult]]:
    """By metric, then by file name of the snapshot: results that an earlier measurement left, if all that a value
    depends on (the snapshot, images and labels by their content, weights, conventions, seed) was as it is now."""
    known: dict[str, dict[str, MetricResult]] = {name: {} for name in names}
    found = {name: results for name in names if (results := read_results(result_dir, name))}
    if not found:
        return known
    quiet_tensorflow()
    from dnnlib.snapshot import load_state
    from metrics.conditions import differing, expected_conditions
    from metrics.real_sets import RealSets

    content = load_state(snapshots[0])
    state = content[2] if isinstance(content, tuple) and len(content) == 3 else content
    network = getattr(state, "get", {}.get)("static_kwargs", {})
    sets = RealSets(reals.open(network.get("resolution"), network.get("label_size", 0)))
    looks = {key: value for key, value in options.items() if key not in ("num_gpus", "minibatch_gpu")}
    paths = {Path(snapshot).name: snapshot for snapshot in snapshots}
    for name, results in found.items():
        now, strange = expected_conditions(registry.find_metric(name), sets, **looks), {}
        for file, result, sha256 in results:
            if file not in paths:  # of another run, or a snapshot that is gone
                continue
            different = differing(asdict(result), now)
            if not different and sha256 not in (None, snapshot_sha256(paths[file])):
                different = ["snapshot of that name"]
            if not different:
                known[name][file] = result
            strange[file] = different
        reasons = dict.fromkeys(reason for file, why in strange.items() if file not in known[name] for reason in why)
        if reasons:
            click.echo(f"{name}: earlier results of another {', '.join(reasons)} do not count", err=True)
    return known


def write_html(run_dir: str) -> None:
    """Writes report.html of a run: curves, grids and the configuration."""
    from metrics.html_report import write_report
    from training.config import TrainConfig
    from training.config_io import to_dict

    click.echo(f"report: {write_report(run_dir, to_dict(TrainConfig()))}")


def measure(snapshot: str, names: list[str], reals: RealSet, options: dict[str, Any]) -> Iterator[MetricResult]:
    """Results of the metrics on the generator of one pickle, one after the other, in a graph and session of its own.

    options: keyword arguments of `metrics.evaluate.Evaluator`. Raises `UserError`.
    """
    quiet_tensorflow()
    from metrics.evaluate import Evaluator

    with open_generator(snapshot, options["num_gpus"]) as Gs:  # noqa: N806
        dataset = reals.open(max(Gs.output_shape[2:]), Gs.input_shapes[1][1])
        evaluator = Evaluator(names, Gs, dataset, **options)
        for sentence in evaluator.describe_sharing(names):
            click.echo(sentence, err=True)
        yield from evaluator.run_all(names)


def print_table(results: list[tuple[str, MetricResult]]) -> None:
    """Values with the conditions that they hold under, and notes below."""
    table = Table()
    for title, justify in (
        ("snapshot", "left"), ("metric", "left"), ("value", "right"), ("fakes", "right"), ("reals", "right"),
        ("network", "left"), ("resize", "left"), ("time", "right"),
    ):  # fmt: skip
        table.add_column(title, justify=justify, overflow="fold")
    for snapshot, result in results:
        for name, value in result.values.items():
            table.add_row(
                Path(snapshot).stem, name, format_value(name, value), str(result.num_fake), str(result.num_real),
                result.feature_network, result.resize, format_time(result.seconds),
            )  # fmt: skip
    # A pipe has no width of its own; lines of a table should not be folded there.
    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_COLUMNS)
    console.print(table)
    for note in dict.fromkeys(note for _, result in results for note in result.notes()):
        console.print(f"note: {note}")


def check_writable(folder: Path | str) -> None:
    """Makes a folder for results, and a file in it that is gone at once: better now than when all is measured.

    Raises `UserError` if either cannot be.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as err:
        raise UserError(
            f"cannot write results into {folder}: {err.strerror or err}; give another directory with --result-dir"
        ) from err


if __name__ == "__main__":
    run_stoppable(main)
