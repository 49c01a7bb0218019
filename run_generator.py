#!/usr/bin/env python
"""Draw images with a trained generator: `python run_generator.py generate-images --network PKL --seeds 0-15`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from tqdm import tqdm

from dnnlib.submission.run_dir import create_run_dir
from dnnlib.util import UserError, list_nearest
from training.cli import NumberList, OneLineGroup, quiet_tensorflow
from training.image_grid import save_image_grid

if TYPE_CHECKING:
    from dnnlib.tflib.network import Network

NOISE_MODES = ("seed", "const", "random")


@click.group(cls=OneLineGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def main() -> None:
    """Draw images with the generator of a network pickle. Results go to RESULT_DIR/NNNNN-<command>."""


@main.command("generate-images")
@click.option("--network", "network_pkl", metavar="PKL", required=True, help="Network pickle: a path or URL.")
@click.option("--seeds", type=NumberList(), required=True, help="One image for each: 0-15 or 1,2,5-9.")
@click.option("--truncation-psi", type=float, default=0.5, show_default=True, help="Less is more typical; 1: none.")
@click.option("--class", "label", metavar="IDX|NAME", help="Class to draw, for networks with labels.")
@click.option(
    "--noise", type=click.Choice(NOISE_MODES), default="seed", show_default=True,
    help="Fine detail: drawn from each seed, stored in the network, or anew each time.",
)  # fmt: skip
@click.option("--grid", is_flag=True, help="Write grid.png with all images too.")
@click.option("--minibatch", type=click.IntRange(1), default=8, show_default=True, help="Images at a time.")
@click.option("--num-gpus", type=click.IntRange(1), default=1, show_default=True, help="Devices that share them.")
@click.option("--result-dir", metavar="DIR", default="results", show_default=True)
def generate_images(
    network_pkl: str,
    seeds: list[int],
    truncation_psi: float,
    label: str | None,
    noise: str,
    grid: bool,
    minibatch: int,
    num_gpus: int,
    result_dir: str,
) -> None:
    """Write seedNNNN.png for every seed. The same seed gives the same image, whatever else is drawn with it."""
    _check_seeds(seeds)
    Gs = load_generator(network_pkl, num_gpus)
    labels = class_label(label, Gs.input_shapes[1][1], network_pkl)
    run_dir = create_run_dir(result_dir, "generate-images")
    images = draw(Gs, seeds, labels, truncation_psi, noise, minibatch, num_gpus)
    shown = []
    for seed, image in tqdm(zip(seeds, images, strict=True), total=len(seeds), unit="img", leave=False):
        save_image_grid(image[None], run_dir / f"seed{seed:04d}.png", (1, 1))
        if grid:
            shown.append(image)
    if grid:
        save_image_grid(np.stack(shown), run_dir / "grid.png")
    click.echo(f"{len(seeds)} images in {run_dir}")


def load_generator(network_pkl: str, num_gpus: int = 1) -> Network:
    """Gs of a pickle of (G, D, Gs), in a session for `num_gpus` towers.

    Raises:
        UserError: unreadable, or the file holds something else.
    """
    quiet_tensorflow()
    from dnnlib import tflib
    from dnnlib.tflib import tfutil

    gpus = tfutil.num_gpus()
    if gpus and num_gpus > gpus:
        raise UserError(f"--num-gpus {num_gpus}: this machine has {gpus}")
    tflib.init_tf({} if gpus else {"device_count.CPU": num_gpus})
    content = tflib.pickles.load(network_pkl)
    Gs = content[2] if isinstance(content, tuple) and len(content) == 3 else content  # noqa: N806
    if "synthesis" not in getattr(Gs, "components", {}):
        raise UserError(f"{network_pkl}: expected a pickle of (G, D, Gs) such as network-snapshot-*.pkl")
    return Gs


def class_label(label: str | None, label_size: int, network_pkl: str) -> np.ndarray | None:
    """One-hot label float32 [label_size] of a class given by index or name; None for networks without labels.

    Names are those of the data set that the run beside the pickle was trained on, if it can still be found.

    Raises:
        UserError: a class for a network without labels, no class for one with, an unknown class.
    """
    if label_size == 0:
        if label is not None:
            raise UserError(f"--class {label}: this network was trained without labels; leave the option out")
        return None
    if label is None:
        raise UserError(f"this network draws classes: give --class 0 to {label_size - 1}, or a name")
    if label.isdigit():
        index = int(label)
    else:
        names = _class_names(network_pkl)
        if label not in names:
            known = list_nearest(label, names) if names else "no names are known for this network"
            raise UserError(f"--class {label}: unknown class; {known}; indices are 0 to {label_size - 1}")
        index = names.index(label)
    if index >= label_size:
        raise UserError(f"--class {label}: expected 0 to {label_size - 1}")
    return np.eye(label_size, dtype=np.float32)[index]


def _class_names(network_pkl: str) -> tuple[str, ...]:
    """Class names of the data set that a run's configuration, beside the pickle, names; () if anything is missing."""
    from training.config_io import load_config
    from training.dataset_files import read_info

    try:
        data = load_config(Path(network_pkl).parent).data
        info = read_info(Path(data.data_dir) / data.dataset)
    except UserError:
        return ()
    return info.class_names if info is not None else ()


def draw(
    Gs: Network,  # noqa: N803
    seeds: list[int],
    label: np.ndarray | None,
    truncation_psi: float,
    noise: str,
    minibatch: int = 8,
    num_gpus: int = 1,
) -> Iterator[np.ndarray]:
    """Images uint8 [C, H, W], one per seed, in order.

    noise `seed`: one RandomState(seed) draws z and then every noise buffer in order, as the published script does, so
    a seed fixes both; these are drawn one by one. `const`: the buffers stored in the network. `random`: fresh noise.
    """
    from dnnlib import tflib

    options: dict[str, Any] = {
        "truncation_psi": truncation_psi,
        "randomize_noise": noise == "random",
        "output_transform": {"func": tflib.convert_images_to_uint8},
    }
    buffers = noise_buffers(Gs)
    stored = tflib.run(buffers) if noise == "seed" else []
    size = 1 if noise == "seed" else minibatch
    try:
        for begin in range(0, len(seeds), size):
            rngs = [np.random.RandomState(seed) for seed in seeds[begin : begin + size]]
            latents = np.concatenate([rng.randn(1, *Gs.input_shape[1:]) for rng in rngs])
            if noise == "seed":
                tflib.set_vars({var: rngs[0].randn(*var.shape.as_list()) for var in buffers})
            labels = None if label is None else np.tile(label, (len(rngs), 1))
            yield from Gs.run(latents, labels, num_gpus=min(num_gpus, len(rngs)), **options)
    finally:
        if stored:
            tflib.set_vars(dict(zip(buffers, stored, strict=True)))


def noise_buffers(Gs: Network) -> list[Any]:  # noqa: N803
    """Variables noise0, noise1, ... of the synthesis network, by number; none for networks without noise."""
    found = {n: v for n, v in Gs.components.synthesis.vars.items() if n.startswith("noise") and n[5:].isdigit()}
    return [found[name] for name in sorted(found, key=lambda name: int(name[5:]))]


def _check_seeds(seeds: list[int]) -> None:
    if max(seeds) >= 2**32:
        raise UserError(f"--seeds: found {max(seeds)}, expected numbers below 2^32")
    if len(set(seeds)) != len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise UserError(f"--seeds: {twice} is given twice")


if __name__ == "__main__":
    main()
