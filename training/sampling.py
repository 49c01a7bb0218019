"""Random decisions about a position in the stream of training images.

They depend on (seed, position) alone, so nothing needs to be stored to continue in the middle, and they are the same
under every version of NumPy: only raw 64-bit numbers are drawn, whose streams NumPy promises to keep.
"""

from __future__ import annotations

import numpy as np

_COIN_STREAM = 0x636F696E  # sets the numbers for coin flips apart from those for permutations


def epoch_permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """A random permutation of 0..n-1 for each (seed, epoch): int64 [n]."""
    numbers = np.random.PCG64(np.random.SeedSequence((seed, epoch))).random_raw(n)
    return np.argsort(numbers, kind="stable")


def coin_flips(seed: int, positions: np.ndarray) -> np.ndarray:
    """A fair coin for each (seed, position): bool of the shape of `positions` (integers >= 0)."""
    key = np.random.SeedSequence((seed, _COIN_STREAM)).generate_state(1, np.uint64)
    numbers = _mix64(positions.astype(np.uint64).ravel() + key)
    return (numbers >> np.uint64(63)).astype(bool).reshape(positions.shape)


def _mix64(x: np.ndarray) -> np.ndarray:
    """uint64 -> uint64; each bit of the result depends on all of x (SplitMix64, Steele et al. 2014)."""
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
