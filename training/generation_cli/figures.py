"""Commands that write figures: style mixing, truncation, noise, and images of given w."""

from __future__ import annotations

import click
import numpy as np
from tqdm import tqdm

from dnnlib.util import UserError
from training.cli import NumberList
from training.generation.draw import noise_buffers
from training.generation.keys import (
    map_latents,
    read_dlatents,
    read_noise,
    seed_latents,
    synthesize,
    synthesize_with,
)
from training.generation.mixing import coarse_styles, mix_styles
from training.generation.noise_study import GROUPS, deviation_picture, study_noise
from training.generation.source import check_seeds, class_label, load_generator
from training.generation_cli.common import (
    FloatList,
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


@click.command("style-mixing-example")
@network_option
@click.option("--row-seeds", type=NumberList(), help="Images that give the other styles, one per row.")
@click.option("--col-seeds", type=NumberList(), help="Images that give the styles of --col-styles, one per column.")
@click.option("--row-dlatents", metavar="NPZ", help="w of the rows instead, e.g. of run_projector.py.")
@click.option("--col-dlatents", metavar="NPZ", help="w of the columns instead.")
@click.option(
    "--col-styles",
    type=NumberList(),
    help="Layers; 0 is the coarsest.  [default: 0-6, of small networks the first half]",
)
@psi_option
@cutoff_option
@class_option
@minibatch_option
@result_dir_option
def style_mixing_command(
    network_pkl: str,
    row_seeds: list[int] | None,
    col_seeds: list[int] | None,
    row_dlatents: str | None,
    col_dlatents: str | None,
    col_styles: list[int] | None,
    truncation_psi: float,
    truncation_cutoff: int | None,
    label: str | None,
    minibatch: int,
    result_dir: str,
) -> None:
    """Mix styles of images: ROW-COL.png for each pair, and grid.png, with the images themselves at its edges.

    Noise is that of the network. w of files are not truncated.
    """
    Gs = load_generator(network_pkl)  # noqa: N806
    one_hot = class_label(label, Gs.input_shapes[1][1], network_pkl)
    how = (one_hot, truncation_psi, truncation_cutoff)
    row_names, rows = find_dlatents(Gs, "--row-", row_seeds, row_dlatents, *how)
    col_names, columns = find_dlatents(Gs, "--col-", col_seeds, col_dlatents, *how)
    layers = list(coarse_styles(rows.shape[1]) if col_styles is None else col_styles)
    mixed = mix_styles(rows, columns, layers)
    run_dir = start_run(result_dir, "style-mixing-example", network_pkl, {"col_styles": layers})
    everything = np.concatenate([rows, columns, mixed.reshape(-1, *rows.shape[1:])])
    images = np.stack(list(tqdm(synthesize(Gs, everything, minibatch), total=len(everything), leave=False)))
    of_rows, of_columns = images[: len(rows)], images[len(rows) : len(rows) + len(columns)]
    of_pairs = images[len(rows) + len(columns) :].reshape(len(rows), len(columns), *images.shape[1:])
    cells = [np.zeros_like(images[0]), *of_columns]
    for name, row, pairs in zip(row_names, of_rows, of_pairs, strict=True):
        cells += [row, *pairs]
        for other, image in zip(col_names, pairs, strict=True):
            save_image_grid(image[None], run_dir / f"{name}-{other}.png", (1, 1))
    save_image_grid(np.stack(cells), run_dir / "grid.png", (len(columns) + 1, len(rows) + 1))
    click.echo(f"{len(rows)} x {len(columns)} images in {run_dir}")


@click.command("truncation-sweep")
@network_option
@seeds_option(True, "One row of images for each.")
@click.option(
    "--psis", type=FloatList(), default="1,0.7,0.5,0,-0.5,-1", show_default=True,
    help="Truncation of the columns; 0: the average image, below 0: its opposite.",
)  # fmt: skip
@click.option(
    "--cutoff",
    "--truncation-cutoff",
    "cutoff",
    metavar="LAYERS",
    type=click.IntRange(0),
    help="Truncate only this many layers, the coarse ones.  [default: as the network says, else all]",
)
@class_option
@minibatch_option
@result_dir_option
def truncation_command(
    network_pkl: str,
    seeds: list[int],
    psis: list[float],
    cutoff: int | None,
    label: str | None,
    minibatch: int,
    result_dir: str,
) -> None:
    """The same images at several strengths of truncation: seedNNNN-psiX.png, and grid.png (figure 8 of StyleGAN)."""
    check_seeds(seeds)
    if len({f"{psi:g}" for psi in psis}) < len(psis):
        raise UserError(f"--psis {','.join(f'{psi:g}' for psi in psis)}: expected each once, they name the files")
    Gs = load_generator(network_pkl)  # noqa: N806
    one_hot = class_label(label, Gs.input_shapes[1][1], network_pkl)
    latents = seed_latents(Gs, seeds)
    swept = [map_latents(Gs, latents, one_hot, psi, truncation_cutoff=cutoff) for psi in psis]
    dlatents = np.stack(swept, axis=1)
    run_dir = start_run(result_dir, "truncation-sweep", network_pkl)
    points = dlatents.reshape(-1, *dlatents.shape[2:])
    names = [f"seed{seed:04d}-psi{psi:g}.png" for seed in seeds for psi in psis]
    images = []
    for name, image in tqdm(zip(names, synthesize(Gs, points, minibatch), strict=True), total=len(names), leave=False):
        save_image_grid(image[None], run_dir / name, (1, 1))
        images.append(image)
    save_image_grid(np.stack(images), run_dir / "grid.png", (len(psis), len(seeds)))
    click.echo(f"{len(names)} images in {run_dir}")


@click.command("noise-example")
@network_option
@seeds_option(True, "One row of images for each; seeds also draw the noise.")
@click.option("--num", type=click.IntRange(2), default=100, show_default=True, help="Realisations of noise.")
@click.option("--coarse", type=click.IntRange(4), default=32, show_default=True, help="Highest resolution of those.")
@psi_option
@cutoff_option
@class_option
@result_dir_option
def noise_command(
    network_pkl: str,
    seeds: list[int],
    num: int,
    coarse: int,
    truncation_psi: float,
    truncation_cutoff: int | None,
    label: str | None,
    result_dir: str,
) -> None:
    """What noise inputs do: grid.png and single pictures (figures 4 and 5 of StyleGAN).

    Columns: two realisations; where --num of them differ (black: nowhere, white: most); noise in all layers, in none,
    in those up to the resolution --coarse, in the others.
    """
    check_seeds(seeds)
    Gs = load_generator(network_pkl)  # noqa: N806
    if not noise_buffers(Gs):
        raise UserError("this network has no noise inputs")
    one_hot = class_label(label, Gs.input_shapes[1][1], network_pkl)
    dlatents = map_latents(Gs, seed_latents(Gs, seeds), one_hot, truncation_psi, truncation_cutoff=truncation_cutoff)
    studies = [
        study_noise(Gs, w, num, coarse, seed)
        for seed, w in tqdm(zip(seeds, dlatents, strict=True), total=len(seeds), leave=False)
    ]
    run_dir = start_run(result_dir, "noise-example", network_pkl)
    cells = []
    for seed, study in zip(seeds, studies, strict=True):
        pictures = {
            "realization1": study.realizations[0],
            "realization2": study.realizations[1],
            "deviation": deviation_picture(study.deviation, study.realizations.shape[1]),
            **{f"noise-{group}": study.groups[group] for group in GROUPS},
        }
        for name, image in pictures.items():
            save_image_grid(image[None], run_dir / f"seed{seed:04d}-{name}.png", (1, 1))
        cells += pictures.values()
        click.echo(f"seed {seed}: pixels differ by {study.deviation.mean():.2f} of 255 (standard deviation)")
    save_image_grid(np.stack(cells), run_dir / "grid.png", (len(cells) // len(seeds), len(seeds)))
    click.echo(f"pictures in {run_dir}")


@click.command("generate-dlatents")
@network_option
@click.option("--dlatents", metavar="NPZ", required=True, help="w of .npz (`dlatents` or `w`) or .npy.")
@click.option(
    "--noise", type=click.Choice(["file", "const"]), default="file", show_default=True,
    help="Maps of the file, as projection found them, where it has them (images are drawn one by one then); or those "
    "stored in the network.",
)  # fmt: skip
@click.option("--grid", is_flag=True, help="Write grid.png with all images too.")
@minibatch_option
@result_dir_option
def dlatents_command(network_pkl: str, dlatents: str, noise: str, grid: bool, minibatch: int, result_dir: str) -> None:
    """Write dlatentNN.png for every w of a file, such as run_projector.py writes."""
    Gs = load_generator(network_pkl)  # noqa: N806
    points = read_dlatents(dlatents, Gs)
    maps = read_noise(dlatents, Gs, len(points)) if noise == "file" else None
    run_dir = start_run(result_dir, "generate-dlatents", network_pkl)
    images = []
    drawn = synthesize(Gs, points, minibatch) if maps is None else synthesize_with(Gs, points, maps)
    for index, image in enumerate(tqdm(drawn, total=len(points), leave=False)):
        save_image_grid(image[None], run_dir / f"dlatent{index:02d}.png", (1, 1))
        if grid:
            images.append(image)
    if grid:
        save_image_grid(np.stack(images), run_dir / "grid.png")
    click.echo(f"{len(points)} images in {run_dir}")


COMMANDS = (style_mixing_command, truncation_command, noise_command, dlatents_command)
