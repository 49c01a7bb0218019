"""Speed of metrics: `python benchmarks/bench_metrics.py`.

Prints images per second through the feature networks (random weights where there are no others), and two ratios
measured in the same run:

* of peak: its FLOP/s over the FLOP/s of the fastest of its convolutions. FLOPs are those of convolutions; depthwise
  ones count, but are bound by memory and run far from any peak;
* of conv time: time that its convolutions take on their own, at the same shapes, over its whole time, without and with
  the depthwise ones. Above 1: an activation that was just written is still in the cache when it is read.

Then what the Fréchet distance costs beyond extraction: statistics of 50k fakes, share of an evaluation's time, and the
distance itself, for features of every size.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click  # noqa: E402
import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.depthwise import find_depthwise, time_depthwise  # noqa: E402
from benchmarks.flops import time_convolution  # noqa: E402
from dnnlib.tflib import tfutil  # noqa: E402
from dnnlib.tflib.tfutil import tf  # noqa: E402
from metrics.effnet import EffnetLite0  # noqa: E402
from metrics.frechet import RunningStatistics, frechet_distance  # noqa: E402
from metrics.inception_network import CONVS, NUM_FEATURES, pooled_features  # noqa: E402
from metrics.layers import Constants, Layer  # noqa: E402
from training.flops import find_convolutions  # noqa: E402


class RandomInception:
    """The network of Inception with random weights: as fast as with the published ones."""

    num_features = NUM_FEATURES

    def __init__(self) -> None:
        rng = np.random.RandomState(0)
        self._layers = {
            conv.name: Layer(
                (rng.randn(*conv.kernel) * np.sqrt(2 / np.prod(conv.kernel[:3]))).astype(np.float32),
                np.zeros(conv.kernel[3], np.float32),
            )
            for conv in CONVS
        }

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """Features float32 [N, 2048] of images float32 [N, 3, H, W] in 0..255."""
        return pooled_features(images, self._layers, Constants().here())


NETWORKS = {"effnet": EffnetLite0, "inception": RandomInception}


def measure_network(name: str, batch: int, resolution: int, seconds: float) -> dict[str, float]:
    """img/s, MFLOP per image, GFLOP/s, and the ratios."""
    rng = np.random.RandomState(0)
    with tf.Graph().as_default(), tfutil.create_session() as session:
        pixels = tf.Variable(rng.uniform(0, 255, [batch, 3, resolution, resolution]).astype(np.float32))
        session.run(pixels.initializer)
        features = NETWORKS[name]().features(pixels.read_value())
        for _ in range(2):
            session.run(features)
        times = []
        while len(times) < 3 or sum(times) < seconds:
            begin = time.perf_counter()
            session.run(features)
            times.append(time.perf_counter() - begin)
        convolutions = find_convolutions([features.op])
        depthwise = find_depthwise(features)
    step = float(np.median(times))
    alone = {shape: time_convolution(shape) for shape in convolutions}
    peak = max(shape.flops / alone[shape] for shape in convolutions)
    deep = {shape: time_depthwise(shape) for shape in depthwise}
    flops = sum(shape.flops * count for found in (convolutions, depthwise) for shape, count in found.items())
    dense_time = sum(alone[shape] * count for shape, count in convolutions.items())
    deep_time = sum(deep[shape] * count for shape, count in depthwise.items())
    return {
        "img/s": batch / step,
        "MFLOP per image": flops / batch / 1e6,
        "GFLOP/s": flops / step / 1e9,
        "peak": peak / 1e9,
        "of peak": flops / step / peak,
        "of conv time": dense_time / step,
        "with depthwise": (dense_time + deep_time) / step,
    }


def measure_statistics(num_features: int, count: int, batch: int = 32) -> tuple[float, float]:
    """Seconds for the statistics of `count` rows that come in batches, and for the distance of two sets."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((num_features, num_features)).astype(np.float32) / np.sqrt(num_features)
    mix *= np.geomspace(1, 1e-3, num_features, dtype=np.float32)  # features of networks are correlated
    rows = np.maximum(rng.standard_normal((4 * num_features, num_features), np.float32) @ mix, 0)
    running = RunningStatistics(num_features)
    begin = time.perf_counter()
    for start in range(0, count, batch):
        at = start % (len(rows) - batch)
        running.add(rows[at : at + min(batch, count - start)])
    one = running.result()
    seconds = time.perf_counter() - begin
    running = RunningStatistics(num_features)
    running.add(rows * 1.1 + 0.1)
    other = running.result()
    begin = time.perf_counter()
    frechet_distance(one, other)
    return seconds, time.perf_counter() - begin


@click.command()
@click.option("--network", "networks", type=click.Choice(list(NETWORKS)), multiple=True, default=list(NETWORKS))
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True)
@click.option("--resolution", type=click.IntRange(8), default=256, show_default=True, help="Of the images.")
@click.option("--seconds", type=float, default=10.0, show_default=True, help="Per network.")
@click.option("--count", type=click.IntRange(2), default=50_000, show_default=True, help="Features.")
def main(networks: tuple[str, ...], batch: int, resolution: int, seconds: float, count: int) -> None:
    """Measure feature networks against the peak of their convolutions, and statistics against them."""
    table = Table(title=f"{batch} images of {resolution}x{resolution} at a time")
    for title in ("network", "img/s", "MFLOP per image", "GFLOP/s", "of peak", "of conv time", "with depthwise"):
        table.add_column(title, justify="left" if title == "network" else "right")
    speeds = {}
    for name in networks:
        found = measure_network(name, batch, resolution, seconds)
        speeds[name] = found["img/s"]
        table.add_row(
            name, f"{found['img/s']:.1f}", f"{found['MFLOP per image']:.0f}",
            f"{found['GFLOP/s']:.0f} of {found['peak']:.0f}", f"{found['of peak']:.2f}", f"{found['of conv time']:.2f}",
            f"{found['with depthwise']:.2f}",
        )  # fmt: skip
    console = Console(width=120)
    console.print(table)
    table = Table(title=f"Fréchet distance of {count} features beyond extraction")
    for title in ("network", "features", "statistics", "of extraction", "distance", "sum"):
        table.add_column(title, justify="left" if title == "network" else "right")
    for name in networks:
        num_features = NETWORKS[name].num_features
        statistics, distance = measure_statistics(num_features, count)
        share = statistics / (count / speeds[name])
        table.add_row(
            name, str(num_features), f"{statistics:.1f} s", f"{share:.1%}", f"{distance:.1f} s",
            f"{statistics + distance:.1f} s",
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
