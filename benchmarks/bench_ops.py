"""The compiled ops on the CPU: against the reference ops and against the bandwidth of the memory.

    python benchmarks/bench_ops.py [--shapes f256] [--shapes bench32] [--dtype float32] [--filter upfirdn]

Every op is timed inside a TensorFlow graph, forward and backward, at the shapes of config-f 256 and of bench32
(32x32, fmap_base 1024, fmap_max 128, minibatch 16). Two limits are measured in the same run, before and after the op:

* limit: the time that NumPy needs to read and write as many bytes on buffers of the same sizes with as many threads,
  in whichever cache they fit: copies what is both read and written, fills or reads what is more of one;
* of a pass: the time of TensorFlow's own simplest operation (`tf.negative`) over as many bytes, in the same kind of
  graph. It includes what starting any operation and allocating its result cost, which is most of it for small tensors.
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
class Traffic:
    """How many numbers must be read and written."""

    read: int
    written: int

    @property
    def total(self) -> int:
        """Numbers moved."""
        return self.read + self.written


@dataclass(frozen=True)
class Case:
    """One op: shapes of its inputs (the first ones are differentiated), and the numbers it must read and write."""

    name: str
    build: Builder  # build(*tensors, impl=...) -> result
    inputs: tuple[tuple[int, ...], ...]
    differentiate: int
    forward: Traffic
    backward: Traffic


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

        before, after = count(*images(size_in, channels)), count(*images(size_out, channels))
        return Case(name, build, (images(size_in, channels),), 1, Traffic(before, after), Traffic(after, before))

    yield filtering("upfirdn_2d after the up convolution", r + 1, r, c, pad=1, gain=4)
    yield filtering("upfirdn_2d before the down convolution", r, r + 1, c, pad=2)
    yield filtering("upfirdn_2d down 2", r, r // 2, c, down=2, pad=1)
    yield filtering("upfirdn_2d up 2", r // 2, r, c, up=2, pad=(2, 1, 2, 1), gain=4)
    yield filtering("upfirdn_2d up 2, RGB", r // 2, r, 3, up=2, pad=(2, 1, 2, 1), gain=4)

    def bias_act(x: Any, b: Any, impl: str) -> Any:
        return ops.fused_bias_act(x, b, "lrelu", axis=3 if last else 1, impl=impl)

    size = count(*images(r, c))
    yield Case("fused_bias_act lrelu", bias_act, (images(r, c), (c,)), 2, Traffic(size, size), Traffic(2 * size, size))

    def epilogue(x: Any, scale: Any, strength: Any, b: Any, noise: Any, impl: str) -> Any:
        return ops.modulated_epilogue(x, scale, noise, strength, b, data_format=data_format, impl=impl)

    inputs = (images(r, c), (n, c), (), (c,), images(r, 1))
    noise = n * r * r
    yield Case("modulated_epilogue", epilogue, inputs, 4, Traffic(size + noise, size), Traffic(3 * size + noise, size))

    def modulate(w: Any, s: Any, impl: str) -> Any:
        return ops.modulate_weights(w, s, layout="grouped", impl=impl)

    w = (3, 3, m, m)
    one = count(*w)
    yield Case("modulate_weights", modulate, (w, (n, m)), 2, Traffic(one, n * one), Traffic((n + 1) * one, one))

    def factors(w: Any, s: Any, impl: str) -> Any:
        return ops.demodulation(w, s, impl=impl)

    yield Case("demodulation", factors, (w, (n, m)), 2, Traffic(one, n * m), Traffic(one + n * m, one))


def best_seconds(call: Callable[[], object], budget_sec: float = 0.5) -> float:
    """Shortest time of a call, repeated for about that long."""
    call()
    times, start = [], time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - start < budget_sec and len(times) < 200):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def move_seconds(traffic: Traffic, bytes_each: int, threads: int) -> float:
    """Seconds that all threads together need to read and write so much memory, each its share."""
    read, written = (max(n * bytes_each // threads // 64 * 64, 64) for n in (traffic.read, traffic.written))
    both = min(read, written)
    buffers = [(np.ones(read // 8, np.int64), np.ones(written // 8, np.int64)) for _ in range(threads)]
    repeats = max(1, (16 << 20) // (traffic.total * bytes_each))  # small ones: several a call, as the graph does it

    def move(pair: tuple[np.ndarray, np.ndarray]) -> None:
        source, target = pair
        for _ in range(repeats):
            np.copyto(target[: both // 8], source[: both // 8])
            if read > both:
                source[both // 8 :].max()
            if written > both:
                target[both // 8 :].view(np.uint8).fill(1)

    with ThreadPoolExecutor(threads) as pool:
        return best_seconds(lambda: list(pool.map(move, buffers)), 0.3) / repeats


def time_case(case: Case, impl: str, dtype: str) -> tuple[float, float]:
    """Seconds of forward and of backward."""
    from dnnlib.tflib.tfutil import tf

    # Small ops are repeated inside the graph, one after the other, so that the session's own time does not count.
    repeats = int(np.clip((1 << 24) / max(case.forward.total, 1), 2, 16))
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

        def forward(times: int) -> list[Any]:
            done: list[Any] = []
            for _ in range(times):
                with tf.control_dependencies(done):
                    done = [case.build(*[v.read_value() for v in variables], impl=impl).op]
            return done

        def backward(times: int) -> list[Any]:
            inputs = [v.read_value() for v in variables]
            y = case.build(*inputs, impl=impl)
            done = [y.op]
            for _ in range(times):
                with tf.control_dependencies(done):
                    gradients = tf.gradients(y, inputs[: case.differentiate], dy.read_value())
                    done = [t.op for t in gradients]
            return done

        # One run starts all threads and makes y: the difference of two numbers of repetitions is free of that.
        chains = [(tf.group(*make(1)), tf.group(*make(1 + repeats))) for make in (forward, backward)]
        times = [[best_seconds(lambda c=c: session.run(c)) for c in pair] for pair in chains]
    once, many = zip(*times, strict=True)
    return tuple(max(b - a, 1e-9) / repeats for a, b in zip(once, many, strict=True))  # type: ignore[return-value]


def time_pass(traffic: Traffic, dtype: str) -> float:
    """Seconds of `tf.negative` over as many bytes."""
    from dnnlib.tflib.tfutil import tf

    size = (traffic.total // 2,)
    case = Case("pass", lambda x, impl: tf.negative(x), (size,), 1, traffic, traffic)
    return time_case(case, "ref", dtype)[0]


@click.command()
@click.option("--shapes", "presets", type=click.Choice(list(PRESETS)), multiple=True, default=list(PRESETS))
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True)
@click.option("--data-format", type=click.Choice(["NHWC", "NCHW"]), default="NHWC", show_default=True)
@click.option("--filter", "text", default="", help="Only ops with this text in their name.")
def main(presets: Sequence[str], dtype: str, data_format: str, text: str) -> None:
    """Time the compiled ops on the CPU against the reference and the memory bandwidth."""
    threads = os.cpu_count() or 1
    bytes_each = 4 if dtype == "float32" else 2
    print(f"{threads} threads, {dtype}, {data_format}; 'limit' and 'of a pass': see the head of this file")
    print("| shapes | op | forward ms | limit | of a pass | x ref | backward ms | limit | of a pass | x ref |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for preset in presets:
        for case in make_cases(PRESETS[preset], data_format):
            if text not in case.name:
                continue
            # Memory shared with other machines is not always as fast: measured on both sides, the better one counts.
            directions = (case.forward, case.backward)
            limits = [move_seconds(t, bytes_each, threads) for t in directions]
            compiled = time_case(case, "compiled", dtype)
            limits = [min(s, move_seconds(t, bytes_each, threads)) for s, t in zip(limits, directions, strict=True)]
            passes = [time_pass(t, dtype) for t in directions]
            reference = time_case(case, "ref", dtype)
            columns = []
            for seconds, limit, simple, slow in zip(compiled, limits, passes, reference, strict=True):
                columns += [f"{seconds * 1e3:.3f}", f"{limit / seconds:.0%}", f"{simple / seconds:.0%}"]
                columns.append(f"{slow / seconds:.1f}")
            print("|", " | ".join([preset, case.name, *columns]), "|", flush=True)


if __name__ == "__main__":
    main()
