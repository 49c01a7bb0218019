"""Compiled convolutions against TensorFlow's own on the CPU: `python benchmarks/convolutions.py [--samples 16]`.

For 3x3 convolutions of stride 1 and 2 and their two gradients: the speed of TensorFlow's node, in GFLOP/s as the taps
count, and how many times as fast the compiled one is. Both are run in turn, and their medians compared, since the speed
of a machine varies.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.flops import Convolution  # noqa: E402
from dnnlib.tflib.ops.conv_3x3 import tile_of  # noqa: E402
from training.flops import CONV_OPS, ConvShape  # noqa: E402


def as_compiled(shape: ConvShape) -> ConvShape:
    """The same done by the compiled op."""
    return replace(shape, compiled=True, tile=tile_of(*shape.image[:3], *shape.kernel[2:]))


def compare(shape: ConvShape, seconds: float) -> tuple[float, float]:
    """(FLOP/s of TensorFlow's convolution, speed of the compiled one relative to it)."""
    with Convolution(shape) as plain, Convolution(as_compiled(shape)) as compiled:
        pairs: list[tuple[float, float]] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(pairs) < 5:
            pairs.append((plain.run(), compiled.run()))
    slow, fast = np.median(pairs[2:], axis=0)
    return shape.flops / float(slow), float(slow / fast)


def conv_shapes(samples: int, maps: int, sides: tuple[int, ...], dtype: str) -> list[list[ConvShape]]:
    """A convolution and its gradients, for sides of the results and strides of networks."""
    found = []
    for side, stride in [(side, stride) for stride in (1, 2) for side in sides]:
        image = side if stride == 1 else 2 * side + 1
        sizes = (samples, image, image, maps), (3, 3, maps, maps), (samples, side, side, maps)
        padding = "SAME" if stride == 1 else "VALID"
        found.append([ConvShape(op, *sizes, stride, padding, (), "NHWC", dtype) for op in CONV_OPS])
    return found


@click.command()
@click.option("--samples", default=16, show_default=True, help="Images of a minibatch.")
@click.option("--maps", type=int, multiple=True, default=(32, 64, 128, 256), show_default=True)
@click.option("--side", type=int, multiple=True, default=(4, 8, 16, 32), show_default=True, help="Of the results.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--seconds", default=1.0, show_default=True, help="How long to measure each.")
def main(samples: int, maps: tuple[int, ...], side: tuple[int, ...], dtype: str, seconds: float) -> None:
    """Compare the compiled convolutions with TensorFlow's."""
    print("| maps | results | stride | forward GFLOP/s | ratio | images GFLOP/s | ratio | filters GFLOP/s | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for count in maps:
        for shapes in conv_shapes(samples, count, side, dtype):
            measured = [compare(shape, seconds) for shape in shapes]
            cells = [f"{speed / 1e9:.0f} | {ratio:.2f}" for speed, ratio in measured]
            results, stride = shapes[0].grad[1], shapes[0].stride
            print(f"| {count} | {results}x{results} | {stride} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
