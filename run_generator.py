#!/usr/bin/env python
"""Draw images with a trained generator: `python run_generator.py generate-images --network PKL --seeds 0-15`."""

from __future__ import annotations

import click
import numpy as np
from tqdm import tqdm

from dnnlib.submission.run_dir import create_run_dir
from training.cli import NumberList, OneLineGroup
from training.generation import source
from training.generation.draw import draw, noise_buffers
from training.generation.ratio import unstretch
from training.generation.source import check_seeds, class_label, load_generator
from training.generation_cli import figures, walks
from training.generation_cli.common import cutoff_option
from training.image_grid import save_image_grid

NOISE_MODES = ("seed", "const", "random")


@click.group(cls=OneLineGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def main() -> None:
    """Draw images with the generator of a network pickle. Results go to RESULT_DIR/NNNNN-<command>."""


@main.command("generate-images")
@click.option("--network", "network_pkl", metavar="PKL", required=True, help="Network pickle: a path or URL.")
@click.option("--seeds", type=NumberList(), required=True, help="One image for each: 0-15 or 1,2,5-9.")
@click.option("--truncation-psi", type=float, default=0.5, show_default=True, help="Less is more typical; 1: none.")
@cutoff_option
@click.option("--class", "label", metavar="IDX|NAME", help="Class to draw, for networks with labels.")
@click.option(
    "--noise", type=click.Choice(NOISE_MODES), default="seed", show_default=True,
    help="Fine detail: drawn from each seed, stored in the network, or anew each time.",
)  # fmt: skip
@click.option("--grid", is_flag=True, help="Write grid.png with all images too.")
@click.option(
    "--original-ratio", is_flag=True, help="Stretch back to the ratio that the images of the data set had at first."
)
@click.option("--minibatch", type=click.IntRange(1), default=8, show_default=True, help="Images at a time.")
@click.option("--num-gpus", type=click.IntRange(1), default=1, show_default=True, help="Devices that share them.")
@click.option("--result-dir", metavar="DIR", default="results", show_default=True)
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
    """Write seedNNNN.png for every seed. The same seed gives the same image, whatever else is drawn with it."""
    check_seeds(seeds)
    ratio = source.original_ratio(network_pkl) if original_ratio else None
    Gs = load_generator(network_pkl, num_gpus)
    labels = class_label(label, Gs.input_shapes[1][1], network_pkl)
    run_dir = create_run_dir(result_dir, "generate-images")
    images = draw(Gs, seeds, labels, truncation_psi, noise, minibatch, num_gpus, truncation_cutoff)
    shown = []
    for seed, image in tqdm(zip(seeds, images, strict=True), total=len(seeds), unit="img", leave=False):
        image = image if ratio is None else unstretch(image, ratio)
        save_image_grid(image[None], run_dir / f"seed{seed:04d}.png", (1, 1))
        if grid:
            shown.append(image)
    if grid:
        save_image_grid(np.stack(shown), run_dir / "grid.png")
    click.echo(f"{len(seeds)} images in {run_dir}")


__all__ = ["class_label", "draw", "load_generator", "main", "noise_buffers"]

for command in (*figures.COMMANDS, *walks.COMMANDS):
    main.add_command(command)


if __name__ == "__main__":
    main()
