"""One training step of a preset at full size: `python benchmarks/one_step.py --preset config-f --resolution 1024`.

Runs every phase (G main, path length, D main, R1) once on random images and prints how long it took, the loss, and the
peak of the process's resident memory during it (Linux). `--build-only` builds and prints the networks instead.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.resident import peak_resident, resident, restart_peak  # noqa: E402
from dnnlib.tflib import tfutil  # noqa: E402
from dnnlib.tflib.network import Network  # noqa: E402
from dnnlib.tflib.tfutil import tf  # noqa: E402
from run_training import PRESETS  # noqa: E402
from training import schedule  # noqa: E402
from training.config import TrainConfig  # noqa: E402
from training.config_io import apply_set, with_fields  # noqa: E402
from training.config_networks import D_kwargs, G_kwargs  # noqa: E402
from training.steps import MinibatchSettings, TrainingGraph  # noqa: E402

GIB = 2**30


def build_networks(config: TrainConfig, resolution: int) -> tuple[Network, Network]:
    """G and D for square RGB images without labels."""
    shape = dict(num_channels=3, resolution=resolution, label_size=0)
    G = Network("G", func_name="G_main", **shape, **G_kwargs(config.G))
    return G, Network("D", func_name="D_stylegan2", **shape, **D_kwargs(config.D))


def print_networks(config: TrainConfig, resolution: int) -> None:
    """Tables of layers, as training prints them."""
    with tf.Graph().as_default(), tfutil.create_session():
        for net in build_networks(config, resolution):
            net.print_layers()
            count = sum(int(np.prod(v.shape.as_list())) for v in net.trainables.values())
            print(f"{net.name}: {count:,} trainable parameters\n")
    print(f"peak {peak_resident() / GIB:.2f} GiB resident")


def run_step(config: TrainConfig, resolution: int) -> None:
    """Every phase once."""
    start = time.perf_counter()
    with tf.Graph().as_default(), tfutil.create_session():
        G, D = build_networks(config, resolution)
        g, d = schedule.G_adam(config), schedule.D_adam(config)
        s = schedule.schedule(config, 0, resolution)
        betas = (g.beta1, g.beta2), (d.beta1, d.beta2)
        graph = TrainingGraph(G, D, G.clone("Gs"), config, s.batch_gpu, s.rounds > 1, *betas)
        settings = MinibatchSettings(g.lrate, d.lrate, s.r1_gamma, s.ema_beta, s.rounds)
        reals = np.random.RandomState(0).randint(0, 256, [s.batch, 3, resolution, resolution]).astype(np.uint8)
        labels = np.zeros([s.batch, 0], np.float32)
        took = time.perf_counter() - start
        print(f"built in {took:.0f} s; resident {resident() / GIB:.2f} GiB, peak {peak_resident() / GIB:.2f} GiB")
        for name in [*graph.phases, "ema"]:
            restart_peak()
            start = time.perf_counter()
            values = graph.run_phase(name, 0, settings, reals, labels, labels)
            took = time.perf_counter() - start
            told = "  ".join(f"{key} {value:.4g}" for key, value in values.items() if "Loss/" in key)
            print(f"{name:<7} {took:6.1f} s  peak {peak_resident() / GIB:.2f} GiB  {told}", flush=True)
        print(f"resident afterwards {resident() / GIB:.2f} GiB")


@click.command()
@click.option("--preset", type=click.Choice(list(PRESETS)), default="config-f", show_default=True)
@click.option("--resolution", default=1024, show_default=True)
@click.option("--batch", default=1, show_default=True, help="Images at once; also of the minibatch.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change any field of the configuration.")
@click.option("--build-only", is_flag=True, help="Build and print the networks.")
def main(preset: str, resolution: int, batch: int, assignments: tuple[str, ...], build_only: bool) -> None:
    """Run one training step of a preset and print time and memory."""
    base = with_fields(TrainConfig(), PRESETS[preset].fields() | {"schedule.batch": batch, "schedule.batch_gpu": batch})
    config = apply_set(base, *assignments)
    print(f"{preset} at {resolution}x{resolution}, {batch} image(s)")
    if build_only:
        print_networks(config, resolution)
    else:
        run_step(config, resolution)


if __name__ == "__main__":
    main()
