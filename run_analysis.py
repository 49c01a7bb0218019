#!/usr/bin/env python
"""Look into runs and generators as the StyleGAN2 paper does: `python run_analysis.py report RUN_DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dnnlib.util import UserError, is_url
from metrics.analysis.options import (
    AnalysisCommand,
    Data,
    Look,
    Sampling,
    data_options,
    features_options,
    labels_options,
    network_option,
    sampling_options,
)
from metrics.run_data import find_reals
from metrics.snapshots import find_snapshots, open_generator, snapshot_kimg
from training.cli import OneLineGroup, quiet_tensorflow, run_stoppable


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


@main.command(cls=AnalysisCommand)
@click.argument("run")
@click.option(
    "--measure", type=click.Choice(["layer", "image"]), default="layer", show_default=True,
    help="Deviation of what a layer adds: as it comes from the layer, as in the paper, or at the size of the image.",
)  # fmt: skip
@labels_options
@sampling_options(1024, "Samples of w per snapshot; the paper takes 1024.")
def contributions(run: str, measure: str, data: Data, sampling: Sampling) -> None:
    """What each resolution contributes to the images, over the snapshots of a run (figure 8). RUN: directory or pickle.

    For generators with output skips alone.
    """
    paths = find_snapshots(run)
    path = _output(sampling.out, "contributions", paths[0] if len(paths) == 1 else None, run)
    from dnnlib.tflib.ops.toolchain import OpsError
    from metrics.analysis.contributions import measure_contributions, plot_contributions
    from metrics.analysis.output import save

    measured = {}
    for index, snapshot in enumerate(paths, 1):
        name = Path(snapshot).name
        if len(paths) > 1:
            click.echo(f"{name} ({index} of {len(paths)})", err=True)
        try:
            with open_generator(snapshot, sampling.num_gpus) as generator:
                labels = find_labels(generator, snapshot, data)
                measured[name] = measure_contributions(
                    generator, sampling.num, sampling.seed, sampling.batch, labels, sampling.num_gpus
                )
        except OpsError:  # not the snapshot's fault
            raise
        except UserError as err:
            if not measured:  # what is wrong with the first may be wrong with all
                raise UserError(f"{name}: {err}") from err
            click.echo(f"note: {name} is left out: {err}", err=True)
    found = list(measured.values())
    kimgs = [snapshot_kimg(name) or 0.0 for name in measured]
    title = f"Contribution of each resolution, {sampling.num} samples\n{Path(run).resolve().name}"
    numbers = {
        "snapshots": list(measured),
        "kimg": kimgs,
        "resolutions": found[0].resolutions,
        "std_of_layers": [one.of_layers for one in found],
        "std_in_image": [one.in_image for one in found],
        "plotted": measure,
        "shares": [one.shares(measure) for one in found],
        "num": sampling.num,
        "seed": sampling.seed,
    }
    click.echo(f"wrote {save(path, plot_contributions(kimgs, found, measure, title), numbers)}")


@main.command("ppl-distribution", cls=AnalysisCommand)
@network_option
@features_options
@labels_options
@click.option("--examples", type=click.IntRange(1), default=36, show_default=True, help="Images shown of each end.")
@sampling_options(2000, "Images that are scored.")
def ppl_distribution(network: str, look: Look, data: Data, examples: int, sampling: Sampling) -> None:
    """Path lengths of single images, and images with the shortest and longest ones (figures 4 and 5).

    Also writes both groups as grids, *-low.png and *-high.png.
    """
    path = _output(sampling.out, "ppl-distribution", network)
    from metrics.analysis.output import save
    from metrics.analysis.path_images import PathGraph, choose_examples, plot_paths
    from training.image_grid import save_image_grid

    with open_generator(network, sampling.num_gpus) as generator:
        labels = find_labels(generator, network, data)
        graph = PathGraph(generator, _feature_network(look), sampling.seed, labels=labels, num_gpus=sampling.num_gpus)
        scores = graph.scores(sampling.num, sampling.batch)
        low, high = choose_examples(scores, examples, sampling.seed)
        low_images, high_images = graph.images(low), graph.images(high)
    save_image_grid(low_images, path.with_name(f"{path.stem}-low.png"))
    save_image_grid(high_images, path.with_name(f"{path.stem}-high.png"))
    numbers = {
        "network": network, "distance": scores.distance, "num": sampling.num, "seed": sampling.seed,
        "mean": scores.values.mean(), "trimmed_mean": scores.trimmed_mean, "scores": scores.values, "low": low,
        "high": high,
    }  # fmt: skip
    title = f"Path lengths of images: {Path(network).name}"
    click.echo(f"wrote {save(path, plot_paths(scores, low_images, high_images, title), numbers)}")


@main.command(cls=AnalysisCommand)
@network_option
@labels_options
@sampling_options(8, "Points w.")
def jacobian(network: str, data: Data, sampling: Sampling) -> None:
    """Sorted singular values of the Jacobian of the synthesis network, w -> image (figure 17)."""
    path = _output(sampling.out, "jacobian", network)
    from metrics.analysis.jacobian import measure_jacobian, plot_spectrum
    from metrics.analysis.output import save

    num, seed = sampling.num, sampling.seed
    with open_generator(network, sampling.num_gpus) as generator:
        labels = find_labels(generator, network, data)
        spectrum = measure_jacobian(generator, num, seed, sampling.batch, labels=labels, num_gpus=sampling.num_gpus)
    numbers = {
        "network": network, "num": num, "seed": seed, "rows": spectrum.rows, "rows_kept": spectrum.rows_kept,
        "mean_log10_relative": spectrum.mean_log10, "std_log10_relative": spectrum.std_log10,
        "mean_relative": spectrum.relative.mean(axis=0), "std_relative": spectrum.relative.std(axis=0),
        "values": spectrum.values,
    }  # fmt: skip
    title = f"Conditioning of the synthesis network\n{Path(network).name}"
    click.echo(f"wrote {save(path, plot_spectrum(spectrum, title), numbers)}")


@main.command(cls=AnalysisCommand)
@network_option
@features_options
@data_options("")
@click.option("--mirror-augment", type=bool, metavar="BOOL", help="Mirror images count.  [default: as trained]")
@click.option("--validation", is_flag=True, help="Search the held-out images of the data set, not the training images.")
@click.option("-k", "k", type=click.IntRange(1, 20), default=5, show_default=True, help="Neighbours of each sample.")
@sampling_options(8, "Samples.")
def neighbours(
    network: str,
    look: Look,
    data: Data,
    mirror_augment: bool | None,
    validation: bool,
    k: int,
    sampling: Sampling,
) -> None:
    """Training images nearest to samples in a feature space: does the generator repeat what it has seen?"""
    path = _output(sampling.out, "neighbours", network)
    from metrics.analysis.neighbours import find_neighbours, numbers_of, plot_neighbours
    from metrics.analysis.output import save

    reals = find_reals(network, data.dataset, data.data_dir, mirror_augment, validation)
    with open_generator(network, sampling.num_gpus) as generator:
        dataset = reals.open(max(generator.output_shape[2:]), 0)
        labels = find_labels(generator, network, data, required=False)
        found = find_neighbours(
            generator, dataset, _feature_network(look), sampling.num, k, sampling.seed, reals.mirror_augment,
            batch=sampling.batch, progress=True, labels=labels, num_gpus=sampling.num_gpus,
        )  # fmt: skip
    kind = "held-out" if validation else "training"
    title = f"Nearest of {found.num_real} {kind} images ({Path(network).name}, {dataset.name})"
    numbers = {
        "network": network, "dataset": dataset.name, "validation": validation, "seed": sampling.seed,
        "mirror": reals.mirror_augment, **numbers_of(found),
    }  # fmt: skip
    click.echo(f"wrote {save(path, plot_neighbours(found, dataset, title), numbers)}")
    if len(found.suspects):
        listed = ", ".join(map(str, found.suspects))
        click.echo(
            f"note: samples {listed} may be copies: half as far from a {kind} image as these from each other, or less"
        )


def find_labels(generator: Any, network: str, data: Data, required: bool = True) -> Any:
    """Labels float32 [images, K] of the data set that is asked for or was trained on, for a generator that takes some.

    None, with a note to people, where the data set of the training is not here. Raises `UserError` for one that was
    asked for and is not there or has no labels of that size; unless `required` is False, which makes that a note too.
    """
    label_size = generator.input_shapes[1][1]
    if not label_size:
        return None
    try:
        return find_reals(network, data.dataset, data.data_dir, None).open(None, label_size).labels
    except UserError as err:
        if data.dataset is not None and required:
            raise
        click.echo(f"note: classes are drawn uniformly: {err}", err=True)
        return None


def _feature_network(look: Look) -> Any:
    from metrics.feature_names import ALIASES
    from metrics.features import load_feature_network
    from metrics.weights import parse_weights

    return load_feature_network(ALIASES.get(look.feature_network, look.feature_network), parse_weights(look.weights))


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
    run_stoppable(main)
