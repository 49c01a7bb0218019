#!/usr/bin/env python
"""Find the w of images: `python run_projector.py project-real-images --network PKL --data-dir DIR --dataset NAME`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from dnnlib.snapshot.source import identify
from dnnlib.submission.run_dir import create_run_dir
from dnnlib.util import UserError, atomic_write
from metrics.analysis.options import features_options, network_option
from training.cli import FiniteFloat, FiniteRange, NumberList, OneLineGroup, run_stoppable
from training.generation.source import check_seeds, class_label, load_generator
from training.projection.options import MOST_SEED, MOST_STEPS, ProjectionOptions

if TYPE_CHECKING:
    from training.projection.projector import Projector

_PERCEIVED_SIZE = 256  # images of twice this height and more are averaged down towards it


@click.group(cls=OneLineGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def main() -> None:
    """Project images to the latent space of a generator (StyleGAN2 paper, section 5 and appendix D).

    Results go to RESULT_DIR/NNNNN-<command>: pictures, w and noise maps (*.npz), and projection.json with distances.
    `run_generator.py generate-dlatents --dlatents` draws them again, with the noise of the network. The distance is
    that of --feature-network: vgg16_lpips as in the paper, whose weights have to be there or fetched, or effnet, which
    needs no download and whose numbers are its own. projection.json names it.
    """


def _options(snapshots: bool) -> Callable[[Any], Any]:
    def add(command: Any) -> Any:
        defaults = ProjectionOptions()
        options = [
            click.option("--steps", type=click.IntRange(1, MOST_STEPS), default=defaults.steps, show_default=True),
            click.option("--w-plus", is_flag=True, help="A w of its own for every layer: nearer, but says less."),
            click.option(
                "--learning-rate", type=FiniteRange(0, min_open=True), default=defaults.learning_rate,
                show_default=True, help="Highest, of Adam.",
            ),
            click.option(
                "--noise-weight", type=FiniteRange(0), default=defaults.noise_weight, show_default=True,
                help="Of the regularisation that keeps signal out of noise maps.",
            ),
            click.option(
                "--noise-pyramid-gain", type=FiniteRange(0), default=defaults.pyramid_gain, show_default=True,
                help="Factor per halving of noise maps: 1 as published in code, 2 as in the paper's text.",
            ),
            click.option("--keep-noise", is_flag=True, help="Do not optimise noise maps: w alone."),
            click.option("--seed", type=click.IntRange(0, MOST_SEED), default=defaults.seed, show_default=True),
            click.option("--class", "label", metavar="IDX|NAME", help="Begin at the mean w of a class."),
            click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Images at a time."),
            features_options,
            click.option("--result-dir", metavar="DIR", default="results", show_default=True),
        ]  # fmt: skip
        if snapshots:
            options += [
                click.option("--num-snapshots", type=click.IntRange(0), default=5, show_default=True),
                click.option("--video", is_flag=True, help="Write videos of the optimisation, target at the left."),
                click.option("--video-frames", type=click.IntRange(1), default=300, show_default=True),
            ]
        for option in reversed(options):
            command = option(command)
        return network_option(command)

    return add


@main.command("project-generated-images")
@_options(snapshots=True)
@click.option("--seeds", type=NumberList(), default="0,1,2", show_default=True, help="Images to make and project.")
@click.option("--truncation-psi", type=FiniteFloat(), default=1.0, show_default=True, help="Of these images.")
def project_generated_images(seeds: list[int], truncation_psi: float, **given: Any) -> None:
    """Project images of the generator itself: seedNNNN-target.png, seedNNNN-stepNNNN.png, ..."""
    check_seeds(seeds)
    Gs = load_generator(given["network"])  # noqa: N806
    one_hot = _label(Gs, given)
    targets = _generated(Gs, seeds, truncation_psi, one_hot)
    projector, facts = _prepare(Gs, given, one_hot, len(seeds))
    names = [f"seed{seed:04d}" for seed in seeds]
    _finish("project-generated-images", given, projector, names, lambda some: targets[list(some)], seeds, facts)


@main.command("project-real-images")
@_options(snapshots=True)
@click.option("--data-dir", metavar="DIR", required=True, help="Where data sets are.")
@click.option("--dataset", metavar="NAME", required=True, help="Directory of TFRecords, inside --data-dir.")
@click.option("--num-images", type=click.IntRange(1), default=3, show_default=True, help="How many.")
@click.option("--first-image", type=click.IntRange(0), default=0, show_default=True, help="Number of the first one.")
def project_real_images(data_dir: str, dataset: str, num_images: int, first_image: int, **given: Any) -> None:
    """Project images of a data set, in the order of its file: imageNNNN-target.png, imageNNNN-stepNNNN.png, ..."""
    Gs = load_generator(given["network"])  # noqa: N806
    read, numbers = _reals(Gs, Path(data_dir) / dataset, num_images, first_image)
    projector, facts = _prepare(Gs, given, _label(Gs, given), num_images)
    facts["dataset"] = dataset
    names = [f"image{number:04d}" for number in numbers]
    _finish("project-real-images", given, projector, names, read, numbers, facts)


@main.command("project-files")
@click.argument("files", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@_options(snapshots=True)
def project_files(files: tuple[str, ...], **given: Any) -> None:
    """Project image files, cropped to the middle and resized to what the network makes (Lanczos)."""
    from training.image_files import ImageSpec, read_image

    Gs = load_generator(given["network"])  # noqa: N806
    channels, height, width = Gs.output_shape[1:]
    spec = ImageSpec((height, width), channels)
    images = []
    for file in files:
        try:
            images.append(read_image(file, spec))
        except (UserError, OSError, ValueError, SyntaxError) as err:
            raise UserError(f"{file}: cannot be read as an image: {err}") from err
    names = [f"image{index:04d}" for index in range(len(files))]
    projector, facts = _prepare(Gs, given, _label(Gs, given), len(files))
    facts["files"] = list(files)
    read = lambda some: np.stack([images[index] for index in some])  # noqa: E731
    _finish("project-files", given, projector, names, read, range(len(files)), facts)


@main.command("attribution")
@_options(snapshots=False)
@click.option("--data-dir", metavar="DIR", required=True, help="Where data sets are.")
@click.option("--dataset", metavar="NAME", required=True, help="Real images: TFRecords inside --data-dir.")
@click.option("--num-images", type=click.IntRange(1), default=16, show_default=True, help="Of each kind.")
@click.option("--truncation-psi", type=FiniteFloat(), default=1.0, show_default=True, help="Of generated images.")
def attribution(data_dir: str, dataset: str, num_images: int, truncation_psi: float, **given: Any) -> None:
    """How well projection tells images of this generator from real ones (figure 10): histogram and numbers.

    Projects --num-images of both; images that the generator made come back nearer.
    """
    from training.projection.attribution import attribute, plot_attribution
    from training.projection.runs import Outputs, run_projections, write_record

    Gs = load_generator(given["network"])  # noqa: N806
    one_hot = _label(Gs, given)
    read, numbers = _reals(Gs, Path(data_dir) / dataset, num_images, 0)
    seeds = list(range(num_images))
    fakes = _generated(Gs, seeds, truncation_psi, one_hot)
    projector, facts = _prepare(Gs, given, one_hot, num_images)
    run_dir = create_run_dir(given["result_dir"], "attribution")
    distances = {}
    for kind, name, get, ids in (
        ("generated", "seed", lambda some: fakes[list(some)], seeds),
        ("real", "image", read, numbers),
    ):
        (run_dir / kind).mkdir()
        names = [f"{name}{number:04d}" for number in ids]
        distances[kind] = run_projections(projector, names, get, ids, Outputs(run_dir / kind, snapshots=0))
    found = attribute(distances["generated"], distances["real"])
    title = f"{Path(given['network']).name}, {dataset}"
    with atomic_write(run_dir / "attribution.png") as file:
        file.write(plot_attribution(distances["generated"], distances["real"], found, facts["distance"], title))
    numbers_found = {name: values.tolist() for name, values in distances.items()}
    write_record(run_dir / "attribution.json", projector, {**facts, **found._asdict(), "distances": numbers_found})
    click.echo(f"AUC {found.auc:.3f}, {found.accuracy:.1%} told right below {found.threshold:.4g}: {run_dir}")


def _label(Gs: Any, given: dict[str, Any]) -> np.ndarray | None:  # noqa: N803
    """The class that was asked for, one-hot."""
    return None if given["label"] is None else class_label(given["label"], Gs.input_shapes[1][1], given["network"])


def _prepare(
    Gs: Any,  # noqa: N803
    given: dict[str, Any],
    one_hot: np.ndarray | None,
    count: int,
) -> tuple[Projector, dict[str, Any]]:
    """The projector that the options ask for, and facts for the record."""
    from dnnlib.tflib.tfutil import tf
    from metrics.feature_names import ALIASES
    from metrics.features import load_feature_network
    from metrics.images import box_average, to_rgb
    from metrics.weights import parse_weights
    from training.projection.projector import Projector
    from training.projection.w_space import measure_w

    name = ALIASES.get(given["feature_network"], given["feature_network"])
    looks = load_feature_network(name, parse_weights(given["weights"]))
    if "perceptual" not in looks.outputs:
        raise UserError(f"--feature-network {name}: measures no perceptual distance; vgg16_lpips and effnet do")

    def embed(images: tf.Tensor) -> tf.Tensor:
        smaller = box_average((images + 1) * 127.5, images.shape.as_list()[2] // _PERCEIVED_SIZE)
        return looks.perceptual(to_rgb(smaller))

    options = ProjectionOptions(
        steps=given["steps"],
        learning_rate=given["learning_rate"],
        noise_weight=given["noise_weight"],
        pyramid_gain=given["noise_pyramid_gain"],
        w_plus=given["w_plus"],
        optimize_noise=not given["keep_noise"],
        seed=given["seed"],
    )
    projector = Projector(Gs, embed, measure_w(Gs, one_hot), options, min(given["batch"], count))
    network, digest = identify(given["network"])
    facts = {"network": network, "network_sha256": digest, "class": given["label"], "batch": projector.batch}
    return projector, facts | {"distance": looks.name, "weights_sha256": looks.weights_sha256}


def _generated(Gs: Any, seeds: list[int], psi: float, one_hot: np.ndarray | None) -> np.ndarray:  # noqa: N803
    """Images float32 [n, C, H, W] of seeds, as `generate-images` draws them; classes by seed unless one is given."""
    from training.generation.draw import draw

    label_size = Gs.input_shapes[1][1]
    images = []
    for seed in seeds:
        label = np.eye(label_size, dtype=np.float32)[seed % label_size] if label_size and one_hot is None else one_hot
        images.append(next(draw(Gs, [seed], label, psi, "seed")))
    return np.stack(images)


def _reals(
    Gs: Any,  # noqa: N803
    path: Path,
    count: int,
    first: int,
) -> tuple[Callable[[Sequence[int]], np.ndarray], list[int]]:
    """A function that reads images uint8 [n, C, H, W] at positions, and their numbers in the data set."""
    from training.dataset import TFRecordDataset

    reals = TFRecordDataset(path, max(Gs.output_shape[2:]))
    if list(reals.shape) != Gs.output_shape[1:]:
        raise UserError(f"{path}: images are {list(reals.shape)}, the network makes {Gs.output_shape[1:]}")
    if first + count > reals.num_images:
        raise UserError(f"{path}: holds {reals.num_images} images, expected {first + count} at least")
    return lambda some: reals.read(np.asarray(list(some)) + first), list(range(first, first + count))


def _finish(
    command: str,
    given: dict[str, Any],
    projector: Projector,
    names: list[str],
    read: Callable[[Sequence[int]], np.ndarray],
    ids: Sequence[int],
    facts: dict[str, Any],
) -> None:
    from training.projection.runs import Outputs, run_projections, write_record

    run_dir = create_run_dir(given["result_dir"], command)
    outputs = Outputs(run_dir, given["num_snapshots"], given["video_frames"] if given["video"] else 0)
    distances = run_projections(projector, names, read, ids, outputs)
    found = {name: float(value) for name, value in zip(names, distances, strict=True)}
    write_record(run_dir / "projection.json", projector, {**facts, "distances": found})
    for name, value in found.items():
        click.echo(f"{name}: distance {value:.4g} ({facts['distance']})")
    click.echo(f"{len(names)} images in {run_dir}")


if __name__ == "__main__":
    run_stoppable(main)
