"""Cases that are worth a look and no measurement: filters of all kinds where tiles end, odd warps, parts of groups."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.gpu_case import Case, Random, integers, rounded
from benchmarks.gpu_cases import LRELU, SWISH, act_reference, upfirdn_case
from benchmarks.gpu_warp_cases import odd_warp_cases


def line(taps: int, seed: int = 7) -> np.ndarray:
    """A filter that float32 can hold."""
    return np.random.RandomState(seed).randn(taps).astype(np.float32).astype(float)


# Filter, factors (y, x) and padding; shapes [outer, H, W, inner] with tiles that are not full and several of them.
LONG_SHAPES = [(2, 41, 70, 1), (1, 41, 70, 5), (1, 19, 23, 33)]
LONG = [
    (line(12), line(12), (1, 1), (1, 1), (6, 5, 6, 5)),
    (line(12), line(12), (2, 2), (1, 1), (6, 5, 6, 5)),
    (line(12), line(12), (1, 1), (2, 2), (-3, 4, 5, -2)),
    (line(24), line(17), (3, 4), (1, 1), (11, 12, -2, 30)),
    (line(24), line(24), (1, 1), (4, 4), (12, 11, 12, 11)),
    (line(5), line(24), (1, 3), (3, 1), (2, 2, 12, 11)),
    (line(3), line(2), (4, 4), (3, 2), (3, 0, 2, 2)),  # outputs that meet no tap at all
    (line(12), line(1), (2, 1), (1, 1), (6, 5, 0, 0)),
    (line(4), line(4), (4, 4), (1, 1), (3, 2, 3, 2)),
    (line(7), line(7), (2, 2), (3, 3), (-4, 6, 6, -9)),
]


# Channels last in whole chunks and with a part of one; rows of all lengths, several tiles wide and high.
SHORT_SHAPES = [(2, 21, 150, 1), (1, 150, 37, 1), (3, 9, 300, 1), (2, 33, 24, 24), (1, 17, 40, 40), (1, 9, 20, 8)]
SHORT = [
    (1, 1, (1, 2, 2, 1)), (1, 1, (2, 2, -5, 9)), (1, 1, (3, 3, 13, 17)), (2, 1, (2, 1, 2, 1)), (2, 1, (-1, 3, 1, 2)),
    (2, 1, (-3, 2, 5, 9)), (1, 2, (1, 1, 1, 1)), (1, 2, (0, 3, -1, 4)),
]  # fmt: skip


def long_cases(random: Random, shape: tuple[int, int, int, int]) -> Iterator[Case]:
    """Separable filters that take two passes over a tile."""
    for gy, gx, up, down, pad in LONG:
        yield upfirdn_case(random, shape, (gy, gx), up, down, pad, str(shape))


def short_cases(random: Random, shape: tuple[int, int, int, int]) -> Iterator[Case]:
    """The filters of the networks, wherever rows begin."""
    for up, down, pad in SHORT:
        yield upfirdn_case(random, shape, line(4), (up, up), (down, down), pad, str(shape))


# Samples, channels, pixels, what there is beside x, samples of noise, activation, clamp. Threads take several channels
# where there are enough of them for a card: the last groups of these are smaller.
EPILOGUES = [
    (2, 11, 98312, ("scale", "noise", "b"), 1, LRELU, 0.8),
    (1, 13, 90301, ("scale", "noise", "b"), 1, SWISH, math.nan),  # no vectors; the last block of a plane is not full
    (700, 13, 121, ("noise",), 700, LRELU, math.nan),  # several groups in a block
    (700, 13, 121, ("noise", "b"), 1, LRELU, 0.8),
    (1, 3, 720008, ("scale",), 1, LRELU, math.nan),
    (3, 5, 16, (), 3, SWISH, 0.8),
    (3, 37, 40, ("noise",), 1, LRELU, math.nan),
    (5, 3, 1, ("scale", "noise", "b"), 5, LRELU, math.nan),
]  # fmt: skip


def epilogue_case(
    random: Random,
    samples: int,
    channels: int,
    pixels: int,
    given: tuple[str, ...],
    shared: int,
    act: int,
    clamp: float,
) -> Case:
    """Planes alone, with what is `given`; `shared` samples of noise."""
    gain, ones = math.sqrt(2), random.xp.ones
    x, inputs = random.normal(samples, channels, pixels), {}
    sizes = integers(samples, channels, pixels, shared)
    if "scale" in given:
        inputs["scale"] = rounded(random.state.random_sample((samples, channels)) + 0.5, "float32")
    if "noise" in given:
        inputs |= {"noise": random.normal(shared, 1, pixels), "strength": 0.25 * ones(1)}
    if "b" in given:
        inputs["b"] = random.normal(channels)
    z = x * inputs.get("scale", ones((1, 1)))[:, :, None] + 0.25 * inputs.get("noise", 0 * ones((1, 1, 1)))
    y = gain * act_reference(act, z + inputs.get("b", 0 * ones(1))[:, None])[0]
    y = y if math.isnan(clamp) else random.xp.clip(y, -clamp, clamp)

    def call(library, dtype, p, stream) -> int:
        arrays = (p.get(n) for n in ("x", "scale", "noise", "strength", "b", "y"))
        return library.ops_cuda_epilogue(dtype, act, 0.2, gain, clamp, *arrays, sizes, 0, stream)

    label = f"epilogue {samples}x{channels}x{pixels} {' '.join(given)} {shared}"
    return Case(label, {"x": x, **inputs}, {"y": y}, call, frozenset({"scale", "strength", "b"}), factor=2)


def odd_cases(dtype: str, xp: Any = np) -> Iterator[Case]:
    """All of them."""
    random = Random(xp.random.RandomState(0), dtype, xp)
    for shape in LONG_SHAPES:
        yield from long_cases(random, shape)
    for shape in SHORT_SHAPES:
        yield from short_cases(random, shape)
    yield from odd_warp_cases(random)
    for plan in EPILOGUES:
        yield epilogue_case(random, *plan)
