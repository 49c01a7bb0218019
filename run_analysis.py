#!/usr/bin/env python
"""Look into runs and generators as the StyleGAN2 paper does: `python run_analysis.py report RUN_DIR`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from dnnlib.util import UserError, is_url
from metrics.analysis.options import common_options, data_options, features_options, labels_options, network_option
from training.cli import OneLineGroup, quiet_tensorflow


@click.group(cls=OneLineGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def main() -> None:
    """Look into runs and generators as the StyleGAN2 paper does. Each command writes a picture and its numbers."""


@main.command()
@click.argument("run_dir")
def report(run_dir: str) -> None:
    """Write report.html into a run directory: curves, grids, metrics and configuration on one page."""
    quiet_tensorflow()
    from metrics.html_report import write_report
    from training.config import TrainConfig
    from training.config_io import to_dict

    click.echo(f"wrote {write_report(run_dir, to_dict(TrainConfig()))}")


@main.command()
@click.argument("run")
@click.option(
    "--measure", type=click.Choice(["layer", "image"]), default="image", show_default=True,
    help="Deviation of what a layer adds: as it comes from the layer, or at the size of the image.",
)  # fmt: skip
@labels_options
@common_options(1024, "Samples of w per snapshot; the paper takes 1024.")
def contributions(
    run: str,
    measure: str,
    dataset: str | None,
    data_dir: str | None,
    num: int,
    seed: int,
    num_gpus: int,
    batch: int | None,
    out: str | None,
) -> None:
    """What each resolution contributes to the images, over the snapshots of a run (figure 8). RUN: directory or pickle.

    For generators with output skips alone.
    """
    paths = find_snapshots(run)
    path = _output(out, "contributions", paths[0] if len(paths) == 1 else None, run)
    from metrics.analysis.contributions import measure_contributions, plot_contributions
    from metrics.analysis.output import save
    from metrics.run_files import snapshot_kimg

    found = []
    with click.progressbar(paths, label="snapshots", hidden=len(paths) == 1) as bar:
        for snapshot in bar:
            with open_generator(snapshot, num_gpus) as generator:
                labels = find_labels(generator, snapshot, dataset, data_dir)
                found.append(measure_contributions(generator, num, seed, batch, labels, num_gpus))
    kimgs = [snapshot_kimg(Path(p).name) or 0.0 for p in paths]
    title = f"Contribution of each resolution, {num} samples\n{Path(run).resolve().name}"
    numbers = {
        "snapshots": [Path(p).name for p in paths],
        "kimg": kimgs,
        "resolutions": found[0].resolutions,
        "std_of_layers": [one.of_layers for one in found],
        "std_in_image": [one.in_image for one in found],
        "plotted": measure,
        "shares": [one.shares(measure) for one in found],
        "num": num,
        "seed": seed,
    }
    click.echo(f"wrote {save(path, plot_contributions(kimgs, found, measure, title), numbers)}")


@main.command("ppl-distribution")
@network_option
@features_options
@labels_options
@click.option("--examples", type=click.IntRange(1), default=36, show_default=True, help="Images shown of each end.")
@common_options(2000, "Images that are scored.")
def ppl_distribution(
    network: str,
    feature_network: str,
    weights: tuple[str, ...],
    dataset: str | None,
    data_dir: str | None,
    examples: int,
    num: int,
    seed: int,
    num_gpus: int,
    batch: int | None,
    out: str | None,
) -> None:
    """Path lengths of single images, and images with the shortest and longest ones (figures 4 and 5).

    Also writes both groups as grids, *-low.png and *-high.png.
    """
    path = _output(out, "ppl-distribution", network)
    from metrics.analysis.output import save
    from metrics.analysis.path_images import PathGraph, choose_examples, plot_paths
    from training.image_grid import save_image_grid

    with open_generator(network, num_gpus) as generator:
        labels = find_labels(generator, network, dataset, data_dir)
        looks = _feature_network(feature_network, weights)
        graph = PathGraph(generator, looks, seed, labels=labels, num_gpus=num_gpus)
        scores = graph.scores(num, batch)
        low, high = choose_examples(scores, examples, seed)
        low_images, high_images = graph.images(low), graph.images(high)
    save_image_grid(low_images, path.with_name(f"{path.stem}-low.png"))
    save_image_grid(high_images, path.with_name(f"{path.stem}-high.png"))
    numbers = {
        "network": network, "distance": scores.distance, "num": num, "seed": seed, "mean": scores.values.mean(),
        "trimmed_mean": scores.trimmed_mean, "scores": scores.values, "low": low, "high": high,
    }  # fmt: skip
    title = f"Path lengths of images: {Path(network).name}"
    click.echo(f"wrote {save(path, plot_paths(scores, low_images, high_images, title), numbers)}")


@main.command()
@network_option
@labels_options
@common_options(8, "Points w.")
def jacobian(
    network: str,
    dataset: str | None,
    data_dir: str | None,
    num: int,
    seed: int,
    num_gpus: int,
    batch: int | None,
    out: str | None,
) -> None:
    """Sorted singular values of the Jacobian of the synthesis network, w -> image (figure 17)."""
    path = _output(out, "jacobian", network)
    from metrics.analysis.jacobian import measure_jacobian, plot_spectrum
    from metrics.analysis.output import save

    with open_generator(network, num_gpus) as generator:
        labels = find_labels(generator, network, dataset, data_dir)
        spectrum = measure_jacobian(generator, num, seed, batch, labels=labels, num_gpus=num_gpus)
    numbers = {
        "network": network, "num": num, "seed": seed, "rows": spectrum.rows, "rows_kept": spectrum.rows_kept,
        "mean_log10_relative": spectrum.mean_log10, "std_log10_relative": spectrum.std_log10,
        "mean_relative": spectrum.relative.mean(axis=0), "std_relative": spectrum.relative.std(axis=0),
        "values": spectrum.values,
    }  # fmt: skip
    title = f"Conditioning of the synthesis network\n{Path(network).name}"
    click.echo(f"wrote {save(path, plot_spectrum(spectrum, title), numbers)}")


@main.command()
@network_option
@features_options
@data_options("")
@click.option("--mirror-augment", type=bool, metavar="BOOL", help="Mirror images count.  [default: as trained]")
@click.option("--validation", is_flag=True, help="Search the held-out images of the data set, not the training images.")
@click.option("-k", "k", type=click.IntRange(1, 20), default=5, show_default=True, help="Neighbours of each sample.")
@common_options(8, "Samples.")
def neighbours(
    network: str,
    feature_network: str,
    weights: tuple[str, ...],
    dataset: str | None,
    data_dir: str | None,
    mirror_augment: bool | None,
    validation: bool,
    k: int,
    num: int,
    seed: int,
    num_gpus: int,
    batch: int | None,
    out: str | None,
) -> None:
    """Training images nearest to samples in a feature space: does the generator repeat what it has seen?"""
    path = _output(out, "neighbours", network)
    from metrics.analysis.neighbours import find_neighbours, numbers_of, plot_neighbours
    from metrics.analysis.output import save
    from training.dataset import TFRecordDataset

    place, mirror, max_images = find_reals(network, dataset, data_dir, mirror_augment)
    if validation:
        max_images = None  # counts training images
    with open_generator(network, num_gpus) as generator:
        reals = TFRecordDataset(
            place, max(generator.output_shape[2:]), max_label_size=0, max_images=max_images, validation=validation
        )
        labels = find_labels(generator, network, dataset, data_dir, required=False)
        looks = _feature_network(feature_network, weights)
        found = find_neighbours(
            generator, reals, looks, num, k, seed, mirror,
            batch=batch, progress=True, labels=labels, num_gpus=num_gpus,
        )  # fmt: skip
    kind = "held-out" if validation else "training"
    title = f"Nearest of {found.num_real} {kind} images ({Path(network).name}, {reals.name})"
    numbers = {
        "network": network, "dataset": reals.name, "validation": validation, "seed": seed, "mirror": mirror,
        **numbers_of(found),
    }  # fmt: skip
    click.echo(f"wrote {save(path, plot_neighbours(found, reals, title), numbers)}")
    if len(found.suspects):
        listed = ", ".join(map(str, found.suspects))
        click.echo(
            f"note: samples {listed} may be copies: half as far from a {kind} image as these from each other, or less"
        )


def find_snapshots(run: str) -> list[str]:
    """The pickle itself, or the snapshots of a run directory in order. Raises `UserError` if there are none."""
    if is_url(run) or Path(run).is_file():
        return [run]
    if not Path(run).is_dir():
        raise UserError(f"{run}: no such file or directory")
    quiet_tensorflow()
    from training.snapshots import list_snapshots

    found = [str(path) for path in list_snapshots(Path(run))]
    if not found:
        raise UserError(f"{run}: no network-snapshot-*.pkl in this directory")
    return found


def find_reals(
    network: str, dataset: str | None, data_dir: str | None, mirror: bool | None
) -> tuple[Path, bool, int | None]:
    """Directory, mirroring and number of training images: as asked for, else as in the run beside the pickle.

    Raises `UserError` if no data set is known.
    """
    from training.config_io import load_config

    trained = None
    if not is_url(network) and (Path(network).parent / "training_options.json").is_file():
        trained = load_config(Path(network).parent).data
    same = trained is not None and dataset in (None, trained.dataset)
    if dataset is None and trained is None:
        raise UserError("no data set: give --dataset NAME (in --data-dir DIR), the one that the network was trained on")
    directory = data_dir if data_dir is not None else trained.data_dir if same else ""
    mirror = (trained.mirror_augment if same else False) if mirror is None else mirror
    name = trained.dataset if dataset is None else dataset
    return Path(directory) / name, mirror, trained.max_images if same else None


def find_labels(generator: Any, network: str, dataset: str | None, data_dir: str | None, required: bool = True) -> Any:
    """Labels float32 [images, K] of the data set that is asked for or was trained on, for a generator that takes some.

    None, with a note to people, where the data set of the training is not here. Raises `UserError` for one that was
    asked for and is not there or has no labels of that size; unless `required` is False, which makes that a note too.
    """
    from training.dataset import TFRecordDataset

    label_size = generator.input_shapes[1][1]
    if not label_size:
        return None
    try:
        place, _, max_images = find_reals(network, dataset, data_dir, None)
        return TFRecordDataset(place, None, max_label_size=label_size, max_images=max_images).labels
    except UserError as err:
        if dataset is not None and required:
            raise
        click.echo(f"note: classes are drawn uniformly: {err}", err=True)
        return None


@contextmanager
def open_generator(network: str, num_gpus: int = 1) -> Iterator[Any]:
    """Gs of a pickle of (G, D, Gs), or a pickle of it alone, in a graph and session of its own with that many devices.

    Raises `UserError` for more GPUs than there are.
    """
    quiet_tensorflow()
    from dnnlib.tflib import pickles, tfutil
    from dnnlib.tflib.tfutil import tf

    gpus = tfutil.num_gpus()
    if gpus and num_gpus > gpus:
        raise UserError(f"--num-gpus {num_gpus}: this machine has {gpus}")
    with tf.Graph().as_default(), tfutil.create_session({} if gpus else {"device_count.CPU": num_gpus}):
        content = pickles.load(network)
        Gs = content[2] if isinstance(content, tuple) and len(content) == 3 else content  # noqa: N806
        if "synthesis" not in getattr(Gs, "components", {}):
            raise UserError(f"{network}: expected a pickle of (G, D, Gs) such as network-snapshot-*.pkl")
        yield Gs


def _feature_network(name: str, weights: tuple[str, ...]) -> Any:
    from metrics.feature_names import ALIASES
    from metrics.features import load_feature_network
    from metrics.weights import parse_weights

    return load_feature_network(ALIASES.get(name, name), parse_weights(weights))


def _output(out: str | None, command: str, network: str | None, run: str | None = None) -> Path:
    """The picture to write: named after command and snapshot, beside the snapshot where that is a file."""
    quiet_tensorflow()
    from metrics.analysis.output import check_output

    if out is not None:
        return check_output(out)
    if network is None:
        return check_output(Path(run or "") / f"analysis-{command}.png")
    stem = Path(network).name.removesuffix(".pkl")
    folder = Path() if is_url(network) else Path(network).parent
    return check_output(folder / f"analysis-{command}-{stem}.png")


if __name__ == "__main__":
    main()
