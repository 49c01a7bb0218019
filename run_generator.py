#!/usr/bin/env python
"""Draw images with a trained generator: `python run_generator.py generate-images --network PKL --seeds 0-15`."""

from __future__ import annotations

import click
import numpy as np
from tqdm import tqdm

from training.cli import NumberList, OneLineGroup, run_stoppable
from training.generation import source
from training.generation.draw import draw, noise_buffers
from training.generation.ratio import unstretch
from training.generation.source import check_seeds, class_label, class_labels, load_generator
from training.generation_cli import figures, walks
from training.generation_cli.common import cutoff_option, network_option, psi_option, result_dir_option, start_run
from training.image_grid import save_image_grid

NOISE_MODES = ("seed", "const", "random")


@click.group(cls=OneLineGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def main() -> None:
    """Draw images with the generator of a network pickle. Results go to RESULT_DIR/NNNNN-<command>."""


@main.command("generate-images")
@network_option
@click.option("--seeds", type=NumberList(), required=True, help="One image for each: 0-15 or 1,2,5-9.")
@psi_option
@cutoff_option
@click.option(
    "--class", "label", metavar="IDX|NAME,...",
    help="Class to draw, for networks with labels; of several, every seed in each, and the grid has a column for each.",
)  # fmt: skip
@click.option(
    "--noise", type=click.Choice(NOISE_MODES), default="seed", show_default=True,
    help="Fine detail: drawn from each seed, stored in the network, or anew each time.",
)  # fmt: skip
@click.option("--grid", is_flag=True, help="Write grid.png with all images too.")
@click.option(
    "--original-ratio", is_flag=True, help="Stretch back to the ratio that the images of the data set had at first."
)
@click.option(
    "--minibatch", type=click.IntRange(1), default=8, show_default=True,
    help="Images at a time, with --noise const or random; with noise of seeds they are drawn one by one.",
)  # fmt: skip
@click.option(
    "--num-gpus", type=click.IntRange(1), default=1, show_default=True, help="Devices that share a minibatch."
)
@result_dir_option
def generate_images(
    network_pkl: str,
    seeds: list[int],
    truncation_psi: float,
    truncation_cutoff: int | None,
    label: str | None,
    noise: str,
    grid: bool,
    original_ratio: bool,
    minibatch: int,
    num_gpus: int,
    result_dir: str,
) -> None:
    """Write seedNNNN.png for every seed, or seedNNNN-classK.png. The same seed gives the same image, whatever else is
    drawn with it."""
    check_seeds(seeds)
    ratio = source.original_ratio(network_pkl) if original_ratio else None
    Gs = load_generator(network_pkl, num_gpus)
    labels = class_labels(label, Gs.input_shapes[1][1], network_pkl)
    run_dir = start_run(result_dir, "generate-images", network_pkl)
    shown: list[list[np.ndarray]] = [[] for _ in seeds]
    with tqdm(total=len(labels) * len(seeds), unit="img", leave=False) as bar:
        for one_hot in labels:
            ending = f"-class{one_hot.argmax()}" if len(labels) > 1 else ""
            images = draw(Gs, seeds, one_hot, truncation_psi, noise, minibatch, num_gpus, truncation_cutoff)
            for row, seed, image in zip(shown, seeds, images, strict=True):
                image = image if ratio is None else unstretch(image, ratio)
                save_image_grid(image[None], run_dir / f"seed{seed:04d}{ending}.png", (1, 1))
                if grid:
                    row.append(image)
                bar.update()
    if grid:
        cells = np.stack([image for row in shown for image in row])
        save_image_grid(cells, run_dir / "grid.png", (len(labels), len(seeds)) if len(labels) > 1 else None)
    click.echo(f"{len(labels) * len(seeds)} images in {run_dir}")


__all__ = ["class_label", "class_labels", "draw", "load_generator", "main", "noise_buffers"]

for command in (*figures.COMMANDS, *walks.COMMANDS):
    main.add_command(command)


if __name__ == "__main__":
    run_stoppable(main)
