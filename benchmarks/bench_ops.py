"""The compiled ops on the CPU: against the reference ops and against the bandwidth of the memory.

    python benchmarks/bench_ops.py [--shapes f256] [--shapes bench32] [--dtype float32] [--filter upfirdn]

Every op is timed inside a TensorFlow graph, forward and backward, at the shapes of config-f 256 and of bench32
(32x32, fmap_base 1024, fmap_max 128, minibatch 16). The limit is the time that a copy of as many bytes takes, measured
in the same run, before and after the op, on buffers of the same size with as many threads.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

BINOMIAL = (1, 3, 3, 1)
Builder = Callable[..., Any]


@dataclass(frozen=True)
class Shapes:
    """The largest feature maps of a preset, and its widest 3x3 weights."""

    samples: int
    resolution: int
    channels: int
    maps: int


PRESETS = {"f256": Shapes(4, 256, 128, 512), "bench32": Shapes(16, 32, 64, 128)}


@dataclass(frozen=True)
class Case:
    """One op: shapes of its inputs (the first ones are differentiated), and the numbers it must read and write."""

    name: str
    build: Builder  # build(*tensors, impl=...) -> result
    inputs: tuple[tuple[int, ...], ...]
    differentiate: int
    forward: int
    backward: int


def make_cases(s: Shapes, data_format: str) -> Iterator[Case]:
    """The ops as the networks call them."""
    from dnnlib.tflib import ops

    n, r, c, m = s.samples, s.resolution, s.channels, s.maps
    last = data_format == "NHWC"

    def images(size: int, channels: int) -> tuple[int, ...]:
        return (n, size, size, channels) if last else (n, channels, size, size)

    def count(*shape: int) -> int:
        return int(np.prod(shape))

    def filtering(name: str, size_in: int, size_out: int, channels: int, **options: Any) -> Case:
        def build(x: Any, impl: str) -> Any:
            return ops.upfirdn_2d(x, BINOMIAL, data_format=data_format, impl=impl, **options)

        total = count(*images(size_in, channels)) + count(*images(size_out, channels))
        return Case(name, build, (images(size_in, channels),), 1, total, total)

    yield filtering("upfirdn_2d after the up convolution", r + 1, r, c, pad=1, gain=4)
    yield filtering("upfirdn_2d before the down convolution", r, r + 1, c, pad=2)
    yield filtering("upfirdn_2d down 2", r, r // 2, c, down=2, pad=1)
    yield filtering("upfirdn_2d up 2", r // 2, r, c, up=2, pad=(2, 1, 2, 1), gain=4)
    yield filtering("upfirdn_2d up 2, RGB", r // 2, r, 3, up=2, pad=(2, 1, 2, 1), gain=4)

    def bias_act(x: Any, b: Any, impl: str) -> Any:
        return ops.fused_bias_act(x, b, "lrelu", axis=3 if last else 1, impl=impl)

    size = count(*images(r, c))
    yield Case("fused_bias_act lrelu", bias_act, (images(r, c), (c,)), 2, 2 * size, 3 * size)

    def epilogue(x: Any, scale: Any, strength: Any, b: Any, noise: Any, impl: str) -> Any:
        return ops.modulated_epilogue(x, scale, noise, strength, b, data_format=data_format, impl=impl)

    inputs = (images(r, c), (n, c), (), (c,), images(r, 1))
    yield Case("modulated_epilogue", epilogue, inputs, 4, 2 * size + n * r * r, 4 * size + n * r * r)

    def modulate(w: Any, s: Any, impl: str) -> Any:
        return ops.modulate_weights(w, s, layout="grouped", impl=impl)

    w = (3, 3, m, m)
    yield Case("modulate_weights", modulate, (w, (n, m)), 2, (n + 1) * count(*w), (n + 2) * count(*w))


def best_seconds(call: Callable[[], object], budget_sec: float = 0.5) -> float:
    """Shortest time of a call, repeated for about that long."""
    call()
    times, start = [], time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - start < budget_sec and len(times) < 200):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def copy_bandwidth(total_bytes: int, threads: int) -> float:
    """Bytes per second, read plus written, of copying half as many bytes with all threads."""
    size = max(total_bytes // 2 // threads, 4096)
    pairs = [(np.ones(size, np.uint8), np.ones(size, np.uint8)) for _ in range(threads)]
    repeats = max(1, (16 << 20) // total_bytes)  # small copies: several a call, as the graph repeats small ops

    def copy(pair: tuple[np.ndarray, np.ndarray]) -> None:
        for _ in range(repeats):
            np.copyto(pair[1], pair[0])

    with ThreadPoolExecutor(threads) as pool:
        seconds = best_seconds(lambda: list(pool.map(copy, pairs)))
    return 2 * size * threads * repeats / seconds


def time_case(case: Case, impl: str, dtype: str) -> tuple[float, float]:
    """Seconds of forward and of backward; backward is what a graph with both takes longer."""
    from dnnlib.tflib.tfutil import tf

    # Small ops are repeated inside the graph, one after the other, so that the session's own time does not count.
    repeats = int(np.clip((1 << 24) / max(case.forward, 1), 1, 16))
    # Rewriting would drop ops whose results nobody fetches.
    config = tf.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        wide = dtype in ("float16", "bfloat16") and case.name == "modulated_epilogue"
        kinds = ["float32" if wide and 1 <= i <= 3 else dtype for i in range(len(case.inputs))]
        variables = [
            tf.Variable(tf.cast(tf.random.normal(shape), kind)) for shape, kind in zip(case.inputs, kinds, strict=True)
        ]
        shape = case.build(*variables, impl=impl).shape
        dy = tf.Variable(tf.cast(tf.random.normal(shape), dtype))
        session.run([v.initializer for v in [*variables, dy]])

        def chain(backward: bool) -> Any:
            done: Sequence[Any] = ()
            for _ in range(repeats):
                with tf.control_dependencies(done):
                    inputs = [v.read_value() for v in variables]
                    upstream = dy.read_value()
                    y = case.build(*inputs, impl=impl)
                    outputs = [y]
                    if backward:
                        outputs += tf.gradients(y, inputs[: case.differentiate], upstream)
                    done = [t.op for t in outputs]
            return tf.group(*done)

        forward, both = chain(False), chain(True)
        seconds_forward = best_seconds(lambda: session.run(forward)) / repeats
        seconds_both = best_seconds(lambda: session.run(both)) / repeats
    return seconds_forward, max(seconds_both - seconds_forward, 1e-9)


@click.command()
@click.option("--shapes", "presets", type=click.Choice(list(PRESETS)), multiple=True, default=list(PRESETS))
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True)
@click.option("--data-format", type=click.Choice(["NHWC", "NCHW"]), default="NHWC", show_default=True)
@click.option("--filter", "text", default="", help="Only ops with this text in their name.")
def main(presets: Sequence[str], dtype: str, data_format: str, text: str) -> None:
    """Time the compiled ops on the CPU against the reference and the memory bandwidth."""
    threads = os.cpu_count() or 1
    bytes_each = 4 if dtype == "float32" else 2
    print(f"{threads} threads, {dtype}, {data_format}; 'limit' is the share of the copy bandwidth")
    print("| shapes | op | forward ms | limit | x ref | backward ms | limit | x ref | copy GB/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for preset in presets:
        for case in make_cases(PRESETS[preset], data_format):
            if text not in case.name:
                continue
            # Memory shared with other machines is not always as fast: measured on both sides, the better one counts.
            before = copy_bandwidth(case.forward * bytes_each, threads)
            compiled = time_case(case, "compiled", dtype)
            bandwidth = max(before, copy_bandwidth(case.forward * bytes_each, threads))
            reference = time_case(case, "ref", dtype)
            columns = []
            for seconds, slow, numbers in zip(compiled, reference, (case.forward, case.backward), strict=True):
                share = numbers * bytes_each / bandwidth / seconds
                columns += [f"{seconds * 1e3:.2f}", f"{share:.0%}", f"{slow / seconds:.1f}"]
            print("|", " | ".join([preset, case.name, *columns, f"{bandwidth / 1e9:.1f}"]), "|", flush=True)


if __name__ == "__main__":
    main()
