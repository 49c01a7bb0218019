#!/usr/bin/env python
"""Measure trained generators: `python run_metrics.py --network PKL --metrics fd50k_effnet --dataset NAME`."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dnnlib.util import UserError, format_time, is_url
from metrics import registry
from metrics.report import MetricResult, format_value, read_results, write_result
from metrics.variants import DEFAULT_VARIANT, VARIANTS, find_variant
from training.cli import OneLineGroup, quiet_tensorflow

_PIPE_COLUMNS = 200
_SNAPSHOT = re.compile(r"network-snapshot-\d+\.pkl")
_SUB_COMMANDS = {
    "fetch": ("metrics.fetch", "fetch_command"),
    "samples": ("metrics.sample_images", "samples_command"),
}


@dataclass(frozen=True)
class Reals:
    """Which images the fakes are compared with. Fields as in `training.config.DataConfig`; validation: those of the
    data set that are held out from training."""

    data_dir: str
    dataset: str
    mirror_augment: bool
    max_images: int | None
    validation: bool = False


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
@click.option("--inception", metavar="PATH", help="Path or URL of the Inception graph, for fid metrics.")
@click.option("--inception-sha256", metavar="HEX", help="Refuse an Inception file with another checksum.")
@click.option("--attributes", metavar="PATH", help="For ls: folder of classifiers *.pkl, or a table .csv.")
@click.option(
    "--variant", metavar="NAME", default=DEFAULT_VARIANT, show_default=True,
    help=f"Conventions to follow where code bases differ: {', '.join(VARIANTS)}.",
)  # fmt: skip
@click.option(
    "--result-dir", metavar="DIR", help="Append to metric-NAME.txt and .jsonl there.  [default: a run itself]"
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
    """Measure generators against the images they were trained on. Values are printed, and kept with --result-dir.

    A network in the directory of its run needs no --dataset: it is compared with what it was trained on. A run
    directory is gone through snapshot by snapshot; what was measured before is not measured again.

    `run_metrics.py fetch` gets the weights of feature networks; `samples` writes the fakes that ls looks at.
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
    reals = find_reals(snapshots[0], dataset, data_dir, mirror_augment)
    if validation:
        reals = replace(reals, max_images=None, validation=True)
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
    if result_dir is not None:
        _make_dir(result_dir)
    results = []
    for result in measure(network, names, reals, options):
        results.append((network, result))
        if result_dir is not None:
            write_result(result_dir, network, result)
    print_table(results)


def _parse_weights(texts: tuple[str, ...]) -> Any:
    if not texts:
        return None
    from metrics.weights import parse_weights

    return parse_weights(texts)


def measure_run(
    run_dir: str, snapshots: list[str], names: list[str], reals: Reals, options: dict[str, Any], result_dir: str
) -> None:
    """Measures what has not been measured, writes it to `result_dir` at once, prints everything with the best.

    A snapshot that cannot be measured (its images are not finite, say) does not keep the others from it. Raises
    `UserError` in the end if there was one; at once if it is the first that is tried.
    """
    _make_dir(result_dir)
    known = _known_results(result_dir, snapshots[0], names, reals, options)
    failed: list[str] = []
    for index, snapshot in enumerate(snapshots):
        file = Path(snapshot).name
        missing = [name for name in names if file not in known[name]]
        try:
            for result in measure(snapshot, missing, reals, options) if missing else ():
                write_result(result_dir, snapshot, result)
                known[result.name][file] = result
                click.echo(f"{file}  {result}", err=True)
        except UserError as err:
            if index == 0:
                raise
            failed.append(file)
            click.echo(f"{file}: {err}", err=True)
    from metrics.run_files import better_is

    files = [Path(snapshot).name for snapshot in snapshots]
    results = [(file, known[name][file]) for file in files for name in names if file in known[name]]
    print_table(results)
    for name in names:
        values = {file: known[name][file].value for file in files if file in known[name]}
        best = (max if registry.find_metric(name).higher_is_better else min)(values, key=values.get)
        key, value = next(iter(known[name][best].values.items()))
        if better_is(key) != 0:
            click.echo(f"best {key}: {format_value(key, value)} ({best})")
    if Path(result_dir).resolve() == Path(run_dir).resolve():
        write_html(run_dir)
    if failed:
        raise UserError(f"{len(failed)} of {len(snapshots)} snapshots could not be measured: {', '.join(failed)}")


def _known_results(
    result_dir: str, snapshot: str, names: list[str], reals: Reals, options: dict[str, Any]
) -> dict[str, dict[str, MetricResult]]:
    """By metric, then by file name of the snapshot: results that an earlier measurement left, if all that a value
    depends on (images and labels by their content, weights, conventions, seed) was as it is now."""
    known: dict[str, dict[str, MetricResult]] = {name: {} for name in names}
    found = {name: results for name in names if (results := read_results(result_dir, name))}
    if not found:
        return known
    quiet_tensorflow()
    from dnnlib.snapshot import load_state
    from metrics.conditions import differing, expected_conditions

    content = load_state(snapshot)
    state = content[2] if isinstance(content, tuple) and len(content) == 3 else content
    network = getattr(state, "get", {}.get)("static_kwargs", {})
    dataset = open_reals(reals, network.get("resolution"), network.get("label_size", 0))
    looks = {key: value for key, value in options.items() if key not in ("num_gpus", "minibatch_gpu")}
    for name, results in found.items():
        now, strange = expected_conditions(registry.find_metric(name), dataset, **looks), {}
        for file, result in results:
            different = differing(asdict(result), now)
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


def find_snapshots(network: str) -> list[str]:
    """The pickle itself, or the snapshots of a run directory in order. Raises `UserError` if there are none."""
    if is_url(network) or Path(network).is_file():
        return [network]
    if not Path(network).is_dir():
        raise UserError(f"--network {network}: no such file or directory")
    found = sorted(str(path) for path in Path(network).iterdir() if _SNAPSHOT.fullmatch(path.name))
    if not found:
        raise UserError(f"{network}: no network-snapshot-*.pkl in this directory")
    return found


def find_reals(snapshot: str, dataset: str | None, data_dir: str | None, mirror: bool | None) -> Reals:
    """What was asked for, completed by the configuration of the run beside the snapshot, if there is one.

    Raises `UserError` if no data set is known.
    """
    from training.config_io import load_config

    trained = None
    if not is_url(snapshot) and (Path(snapshot).parent / "training_options.json").is_file():
        trained = load_config(Path(snapshot).parent).data
    if dataset is not None:
        # Another data set: only what the user says about it holds.
        same = trained is not None and dataset == trained.dataset
        directory = data_dir if data_dir is not None else trained.data_dir if same else ""
        mirror = trained.mirror_augment if mirror is None and same else bool(mirror)
        return Reals(directory, dataset, mirror, trained.max_images if same else None)
    if trained is None:
        raise UserError("no data set: give --dataset NAME (in --data-dir DIR), the one that the network was trained on")
    directory = trained.data_dir if data_dir is None else data_dir
    mirror = trained.mirror_augment if mirror is None else mirror
    return Reals(directory, trained.dataset, mirror, trained.max_images)


def measure(snapshot: str, names: list[str], reals: Reals, options: dict[str, Any]) -> Iterator[MetricResult]:
    """Results of the metrics on the generator of one pickle, one after the other, in a graph and session of its own.

    options: keyword arguments of `metrics.evaluate.Evaluator`. Raises `UserError`.
    """
    quiet_tensorflow()
    from dnnlib.tflib import pickles, tfutil
    from dnnlib.tflib.tfutil import tf
    from metrics.evaluate import Evaluator

    num_gpus, gpus = options["num_gpus"], tfutil.num_gpus()
    if gpus and num_gpus > gpus:
        raise UserError(f"--num-gpus {num_gpus}: this machine has {gpus}")
    devices = {} if gpus else {"device_count.CPU": num_gpus}
    with tf.Graph().as_default(), tfutil.create_session(devices):
        content = pickles.load(snapshot)
        Gs = content[2] if isinstance(content, tuple) and len(content) == 3 else content  # noqa: N806
        if "synthesis" not in getattr(Gs, "components", {}):
            raise UserError(f"{snapshot}: expected a pickle of (G, D, Gs) such as network-snapshot-*.pkl")
        dataset = open_reals(reals, max(Gs.output_shape[2:]), Gs.input_shapes[1][1])
        evaluator = Evaluator(names, Gs, dataset, **options)
        for sentence in evaluator.describe_sharing(names):
            click.echo(sentence, err=True)
        yield from evaluator.run_all(names)


def open_reals(reals: Reals, resolution: int | None, label_size: int) -> Any:
    """The images as a `TFRecordDataset`, for a network of that resolution (None: the largest there is) and labels."""
    from training.dataset import TFRecordDataset

    return TFRecordDataset(
        Path(reals.data_dir) / reals.dataset,
        resolution=resolution,
        max_label_size=label_size,
        max_images=reals.max_images,
        validation=reals.validation,
    )


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


def _make_dir(path: str) -> None:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise UserError(f"--result-dir {path}: {err.strerror or err}") from err


if __name__ == "__main__":
    main()
