"""The fakes that linear separability looks at, as pictures, for classifiers of one's own that fill a table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from PIL import Image

from dnnlib.util import UserError, atomic_write
from metrics.inputs import Generator
from metrics.run_data import find_reals
from metrics.snapshots import open_generator
from metrics.variants import DEFAULT_VARIANT, VARIANTS, find_variant

LABELS_NAME = "dataset.json"


@click.command("samples")
@click.option("--network", metavar="PKL", required=True, help="Network pickle: a path or URL.")
@click.option("--count", type=click.IntRange(1), default=200_000, show_default=True, help="Pictures, as ls needs them.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="As that of the metric.")
@click.option(
    "--variant", metavar="NAME", default=DEFAULT_VARIANT, show_default=True,
    help=f"As that of the metric: corrected gives labels to the pictures. One of {', '.join(VARIANTS)}.",
)  # fmt: skip
@click.option("--dataset", metavar="NAME", help="Whose labels to draw from, for corrected.  [default: as trained on]")
@click.option("--data-dir", metavar="DIR", help="Where data sets are.  [default: as trained, else here]")
@click.option("--minibatch", type=click.IntRange(1), default=16, show_default=True, help="Images at once.")
@click.option("--out", metavar="DIR", required=True, help="Where to write 000000.png, 000001.png, ...")
def samples_command(
    network: str,
    count: int,
    seed: int,
    variant: str,
    dataset: str | None,
    data_dir: str | None,
    minibatch: int,
    out: str,
) -> None:
    """Write the fakes that ls looks at, for a table of attributes.

    The table for --attributes FILE.csv has the columns sample (the number of the picture) and one per attribute, with
    probabilities.

    Pictures of a network with labels get a dataset.json with the label that each was made with, which
    `dataset_tool.py create_from_images ... --labels-from json` reads. As published, ls makes them without: zeros.
    """
    labelled = find_variant(variant).labels_on_images
    try:
        os.makedirs(out, exist_ok=True)
    except OSError as err:
        raise UserError(f"--out {out}: {err.strerror or err}") from err
    if any(path.suffix == ".png" or path.name == LABELS_NAME for path in Path(out).iterdir()):
        raise UserError(f"--out {out}: there are pictures already; choose an empty directory")
    with open_generator(network) as Gs:  # noqa: N806
        label_size = Gs.input_shapes[1][1]
        labels = None
        if label_size and labelled:
            reals = find_reals(network, dataset, data_dir, None)
            labels = reals.open(max(Gs.output_shape[2:]), label_size).labels
        for index, image in make_samples(Gs, count, seed, minibatch, labels):
            with atomic_write(Path(out) / picture_name(index)) as file:
                Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, "PNG")
        if label_size:
            write_sample_labels(Path(out) / LABELS_NAME, count, seed, label_size, labels)
    click.echo(f"{count} pictures in {out}")
    if label_size and not labelled:
        click.echo(
            f"The network takes labels, and the {variant} convention makes pictures without: {LABELS_NAME} has zeros; "
            "--variant corrected draws labels.",
            err=True,
        )


def picture_name(index: int) -> str:
    """File name of the picture of a fake."""
    return f"{index:06d}.png"


def sample_labels(seed: int, indices: np.ndarray, label_size: int, labels: np.ndarray | None) -> np.ndarray:
    """What the network is told for fakes with these indices int64 [n]: float32 [n, label_size].

    labels: float32 [images, label_size] that they are drawn from as metrics do it; None: zeros.
    """
    from metrics.noise import labels_of

    if labels is None:
        return np.zeros((len(indices), label_size), np.float32)
    return labels_of(seed, indices, labels)


def make_samples(
    Gs: Generator,  # noqa: N803
    count: int,
    seed: int,
    minibatch: int,
    labels: np.ndarray | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """(index, uint8 [H, W, C]) of fakes 0 ... count - 1; labels: see `sample_labels`."""
    from metrics.towers import Stream, build_image_tower

    tower = build_image_tower(Gs, [], {}, seed, VARIANTS[DEFAULT_VARIANT])
    label_size = Gs.input_shapes[1][1]

    def step(tower: object, indices: np.ndarray) -> tuple[object, object, dict]:
        told = sample_labels(seed, indices, label_size, labels)
        return tower.images, tower.finite, tower.inputs.feeds(seed, indices, told)

    index = 0
    for images in Stream([tower], minibatch)(step, count, "fakes"):
        for image in images.transpose(0, 2, 3, 1):
            yield index, image
            index += 1


def write_sample_labels(path: Path, count: int, seed: int, label_size: int, labels: np.ndarray | None) -> None:
    """Writes {"labels": [[file, label], ...]} of fakes 0 ... count - 1; labels: see `sample_labels`.

    A label is written as the vector that it is: a class by its number would lose the classes after the last drawn one.
    Raises `UserError` if the file cannot be written.
    """
    with atomic_write(path, "w") as file:
        file.write('{"labels": [')
        for index in range(count):
            (label,) = sample_labels(seed, np.array([index]), label_size, labels).tolist()
            whole = [int(value) if value == int(value) else value for value in label]
            file.write(f"{',' if index else ''}\n" + json.dumps([picture_name(index), whole]))
        file.write("\n]}\n")
