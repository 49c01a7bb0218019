"""The command that walks through latent space."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
import numpy as np
from tqdm import tqdm

from dnnlib.util import UserError
from training.generation.draw import noise_buffers
from training.generation.keys import map_latents, save_dlatents, seed_latents, synthesize, synthesize_with
from training.generation.source import check_seeds, class_label, load_generator
from training.generation.walks import EASINGS, MODES, NoiseLoop, walk
from training.generation_cli.common import (
    class_option,
    cutoff_option,
    find_dlatents,
    minibatch_option,
    network_option,
    psi_option,
    result_dir_option,
    seeds_option,
    start_run,
)
from training.image_grid import save_image_grid

if TYPE_CHECKING:
    from dnnlib.tflib.network import Network


@click.command("interpolation-video")
@network_option
@seeds_option(False, "Points to pass, in this order.")
@click.option("--dlatents", metavar="NPZ", help="Points w from a file instead, e.g. of run_projector.py.")
@click.option("--space", type=click.Choice(["z", "w"]), default="z", show_default=True, help="Where to walk.")
@click.option(
    "--mode", type=click.Choice(MODES), default="slerp", show_default=True,
    help="Straight lines, arcs, a circle spanned by 2 points, or a smooth curve.",
)  # fmt: skip
@click.option("--loop/--no-loop", default=True, show_default=True, help="Go back to the first point; a circle does.")
@click.option("--easing", type=click.Choice(EASINGS), default="none", show_default=True, help="smooth: rest at points.")
@click.option(
    "--frames",
    type=click.IntRange(1),
    default=60,
    show_default=True,
    help="From one point to the next; a quarter of a circle.",
)
@click.option("--fps", type=click.IntRange(1), default=30, show_default=True, help="Frames per second.")
@click.option(
    "--noise", type=click.Choice(["const", "loop", "random"]), default="const", show_default=True,
    help="Fine detail: stored in the network, turning once in the video, or anew in each frame.",
)  # fmt: skip
@click.option("--noise-seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of --noise.")
@click.option("--save-frames", is_flag=True, help="Write frameNNNNN.png too.")
@psi_option
@cutoff_option
@class_option
@minibatch_option
@result_dir_option
def video_command(
    network_pkl: str,
    seeds: list[int] | None,
    dlatents: str | None,
    space: str,
    mode: str,
    loop: bool,
    easing: str,
    frames: int,
    fps: int,
    noise: str,
    noise_seed: int,
    save_frames: bool,
    truncation_psi: float,
    truncation_cutoff: int | None,
    label: str | None,
    minibatch: int,
    result_dir: str,
) -> None:
    """Write video.mp4 of a walk through points, and dlatents.npz with w of all its frames.

    Arcs and circles in w turn around the average. w of files are not truncated, and walks through them are in w.
    """
    if dlatents is not None and space == "z":
        space = "w"
    if mode == "circle" and not loop:
        raise UserError(
            "--mode circle --no-loop: a circle is a full turn; take --mode slerp for the arc between points"
        )
    from training.generation.video import open_video

    Gs = load_generator(network_pkl)  # noqa: N806
    one_hot = class_label(label, Gs.input_shapes[1][1], network_pkl)
    if space == "w":
        _, keys = find_dlatents(Gs, "--", seeds, dlatents, one_hot, truncation_psi, truncation_cutoff)
        points = walk(keys, frames, mode, loop, easing, Gs.get_var("dlatent_avg")).astype(np.float32)
    else:
        if seeds is None:
            raise UserError("give either --seeds or --dlatents")
        check_seeds(seeds)
        latents = walk(seed_latents(Gs, seeds), frames, mode, loop, easing)
        points = map_latents(Gs, latents, one_hot, truncation_psi, truncation_cutoff=truncation_cutoff)
    if noise != "const" and not noise_buffers(Gs):
        raise UserError(f"--noise {noise}: this network has no noise inputs")
    run_dir = start_run(result_dir, "interpolation-video", network_pkl)
    save_dlatents(run_dir / "dlatents.npz", points)
    images = _frames(Gs, points, noise, noise_seed, minibatch)
    with open_video(run_dir / "video.mp4", fps) as video:
        for index, image in enumerate(tqdm(images, total=len(points), unit="frame", leave=False)):
            video.add(image)
            if save_frames:
                save_image_grid(image[None], run_dir / f"frame{index:05d}.png", (1, 1))
    click.echo(f"{len(points)} frames, {len(points) / fps:.1f} s, in {run_dir / 'video.mp4'}")


def _frames(
    Gs: Network,  # noqa: N803
    points: np.ndarray,
    noise: str,
    seed: int,
    minibatch: int,
) -> Iterator[np.ndarray]:
    if noise == "const":
        return synthesize(Gs, points, minibatch)
    shapes = [buffer.shape.as_list() for buffer in noise_buffers(Gs)]
    rng = np.random.RandomState(seed)
    if noise == "random":
        return synthesize_with(Gs, points, ([rng.randn(*shape) for shape in shapes] for _ in points))
    turning = [NoiseLoop(shape, len(points), rng) for shape in shapes]
    return synthesize_with(Gs, points, ([one.at(index) for one in turning] for index in range(len(points))))


COMMANDS = (video_command,)
