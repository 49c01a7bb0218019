"""Cases that are worth a look and no measurement: filters of all kinds where tiles end, and odd warps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.gpu_case import Case, Random
from benchmarks.gpu_cases import upfirdn_case
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


def odd_cases(dtype: str, xp: Any = np) -> Iterator[Case]:
    """All of them."""
    random = Random(xp.random.RandomState(0), dtype, xp)
    for shape in LONG_SHAPES:
        yield from long_cases(random, shape)
    for shape in SHORT_SHAPES:
        yield from short_cases(random, shape)
    yield from odd_warp_cases(random)
