#!/usr/bin/env python
"""Measure trained generators: `python run_metrics.py --network PKL --metrics fd50k_effnet --dataset NAME`."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dnnlib.util import UserError, format_time, is_url
from metrics import registry
from metrics.report import MetricResult, write_result
from training.cli import OneLineCommand, quiet_tensorflow

_PIPE_COLUMNS = 200
_SNAPSHOT = re.compile(r"network-snapshot-\d+\.pkl")


@dataclass(frozen=True)
class Reals:
    """Which images the fakes are compared with. Fields as in `training.config.DataConfig`."""

    data_dir: str
    dataset: str
    mirror_augment: bool
    max_images: int | None


@click.command(cls=OneLineCommand, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--network", metavar="PKL|RUN", help="Network pickle: a path or URL; or a run: all its snapshots.")
@click.option("--metrics", metavar="LIST", default="fid50k", show_default=True, help="Comma list; see --list-metrics.")
@click.option("--dataset", metavar="NAME", help="Directory of TFRecords, inside --data-dir.  [default: as trained on]")
@click.option("--data-dir", metavar="DIR", help="Where data sets are.  [default: as trained, else here]")
@click.option("--mirror-augment", type=bool, metavar="BOOL", help="Mirror half of the reals.  [default: as trained]")
@click.option("--num-gpus", type=click.IntRange(1), default=1, show_default=True, help="Devices that share the work.")
@click.option("--minibatch-gpu", type=click.IntRange(1), help="Images per device at once; fewer need less memory.")
@click.option("--inception", metavar="PATH", help="Path or URL of the Inception graph, for fid metrics.")
@click.option("--inception-sha256", metavar="HEX", help="Refuse an Inception file with another checksum.")
@click.option("--result-dir", metavar="DIR", help="Append to metric-NAME.txt and .jsonl there.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the fakes.")
@click.option("--list-metrics", is_flag=True, help="Print the metrics.")
def main(
    network: str | None,
    metrics: str,
    dataset: str | None,
    data_dir: str | None,
    mirror_augment: bool | None,
    num_gpus: int,
    minibatch_gpu: int | None,
    inception: str | None,
    inception_sha256: str | None,
    result_dir: str | None,
    seed: int,
    list_metrics: bool,
) -> None:
    """Measure generators against the images they were trained on. Values are printed, and kept with --result-dir.

    A network in the directory of its run needs no --dataset: it is compared with what it was trained on.
    """
    if list_metrics:
        for name, meaning in registry.list_metrics().items():
            click.echo(f"{name:<14} {meaning}")
        return
    if network is None:
        raise UserError("no network: give --network PKL, or a run directory")
    names = [spec.name for spec in registry.parse_metrics(metrics)]
    if not names:
        raise UserError("no metrics: give --metrics LIST; --list-metrics prints those that exist")
    snapshots = find_snapshots(network)
    reals = find_reals(snapshots[0], dataset, data_dir, mirror_augment)
    if result_dir is not None:
        _make_dir(result_dir)
    options = dict(
        num_gpus=num_gpus,
        minibatch_gpu=minibatch_gpu,
        inception=inception,
        inception_sha256=inception_sha256,
        seed=seed,
        mirror=reals.mirror_augment,
    )
    results = []
    for snapshot in snapshots:
        for result in measure(snapshot, names, reals, options):
            results.append((snapshot, result))
            if result_dir is not None:
                write_result(result_dir, snapshot, result)
            if len(snapshots) > 1:
                click.echo(f"{Path(snapshot).name}  {result}", err=True)
    print_table(results)


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


def measure(snapshot: str, names: list[str], reals: Reals, options: dict[str, Any]) -> list[MetricResult]:
    """Results of the metrics on the generator of one pickle, in a graph and session of its own.

    options: keyword arguments of `metrics.evaluate.Evaluator`. Raises `UserError`.
    """
    quiet_tensorflow()
    from dnnlib.tflib import pickles, tfutil
    from dnnlib.tflib.tfutil import tf
    from metrics.evaluate import Evaluator
    from training.dataset import TFRecordDataset

    num_gpus, gpus = options["num_gpus"], tfutil.num_gpus()
    if gpus and num_gpus > gpus:
        raise UserError(f"--num-gpus {num_gpus}: this machine has {gpus}")
    devices = {} if gpus else {"device_count.CPU": num_gpus}
    with tf.Graph().as_default(), tfutil.create_session(devices):
        content = pickles.load(snapshot)
        Gs = content[2] if isinstance(content, tuple) and len(content) == 3 else content  # noqa: N806
        if "synthesis" not in getattr(Gs, "components", {}):
            raise UserError(f"{snapshot}: expected a pickle of (G, D, Gs) such as network-snapshot-*.pkl")
        dataset = TFRecordDataset(
            Path(reals.data_dir) / reals.dataset,
            resolution=Gs.output_shape[2],
            max_label_size=Gs.input_shapes[1][1],
            max_images=reals.max_images,
        )
        evaluator = Evaluator(names, Gs, dataset, **options)
        return [evaluator.run(name) for name in names]


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
                Path(snapshot).stem, name, f"{value:.4f}", str(result.num_fake), str(result.num_real),
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
