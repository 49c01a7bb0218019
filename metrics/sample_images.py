"""The fakes that linear separability looks at, as pictures, for classifiers of one's own that fill a table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from PIL import Image

from dnnlib.util import UserError, atomic_write
from metrics.inputs import Generator
from metrics.snapshots import open_generator


@click.command("samples")
@click.option("--network", metavar="PKL", required=True, help="Network pickle: a path or URL.")
@click.option("--count", type=click.IntRange(1), default=200_000, show_default=True, help="Pictures, as ls needs them.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="As that of the metric.")
@click.option("--minibatch", type=click.IntRange(1), default=16, show_default=True, help="Images at once.")
@click.option("--out", metavar="DIR", required=True, help="Where to write 000000.png, 000001.png, ...")
def samples_command(network: str, count: int, seed: int, minibatch: int, out: str) -> None:
    """Write the fakes that ls looks at, for a table of attributes.

    The table for --attributes FILE.csv has the columns sample (the number of the picture) and one per attribute, with
    probabilities.
    """
    try:
        os.makedirs(out, exist_ok=True)
    except OSError as err:
        raise UserError(f"--out {out}: {err.strerror or err}") from err
    if any(path.suffix == ".png" for path in Path(out).iterdir()):
        raise UserError(f"--out {out}: there are pictures already; choose an empty directory")
    with open_generator(network) as Gs:  # noqa: N806
        for index, image in make_samples(Gs, count, seed, minibatch):
            with atomic_write(Path(out) / f"{index:06d}.png") as file:
                Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, "PNG")
    click.echo(f"{count} pictures in {out}")


def make_samples(Gs: Generator, count: int, seed: int, minibatch: int) -> Iterator[tuple[int, np.ndarray]]:  # noqa: N803
    """(index, uint8 [H, W, C]) of fakes 0 ... count - 1, made without labels as the published metric does."""
    from metrics.towers import Stream, build_image_tower
    from metrics.variants import VARIANTS

    tower = build_image_tower(Gs, [], {}, seed, VARIANTS["sg2"])

    def step(tower: object, indices: np.ndarray) -> tuple[object, object, dict]:
        labels = np.zeros((len(indices), Gs.input_shapes[1][1]), np.float32)
        return tower.images, tower.finite, tower.inputs.feeds(seed, indices, labels)

    index = 0
    for images in Stream([tower], minibatch)(step, count, "fakes"):
        for image in images.transpose(0, 2, 3, 1):
            yield index, image
            index += 1
