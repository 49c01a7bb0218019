"""Random decisions about a position in the stream of training images.

They depend on (seed, position) alone, so nothing needs to be stored to continue in the middle, and they are the same
under every version of NumPy: only raw 64-bit numbers are drawn, whose streams NumPy promises to keep.
"""

from __future__ import annotations

import numpy as np

Shard = tuple[int, int]  # (index, count)
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


def uniform_numbers(seed: int, stream: int, positions: np.ndarray, count: int) -> np.ndarray:
    """Uniform numbers in [0, 1) for each (seed, position): float64 [n, count].

    stream: sets uses apart. positions: integers [n] >= 0.
    """
    key = np.random.SeedSequence((seed, stream)).generate_state(1, np.uint64)
    index = positions.astype(np.uint64)[:, np.newaxis] * np.uint64(count) + np.arange(count, dtype=np.uint64)
    return (_mix64(index + key) >> np.uint64(11)) * 2.0**-53


def _mix64(x: np.ndarray) -> np.ndarray:
    """uint64 -> uint64; each bit of the result depends on all of x (SplitMix64, Steele et al. 2014)."""
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def shard_slice(n: int, index: int, count: int) -> slice:
    """The share of a minibatch of n images that falls to one of several readers.

    Shares are contiguous, disjoint, in order of `index`, and cover the minibatch; their sizes differ by one at most.
    A share can be divided again: towers within workers. What is read in all does not depend on the division.

    Args:
        n: images >= 0. index: in [0, count), of tower or worker. count: of them.
    Raises:
        ValueError: such a shard does not exist.
    """
    if n < 0 or not 0 <= index < count:
        raise ValueError(f"need n >= 0 and 0 <= index < count; found n={n}, index={index}, count={count}")
    return slice(n * index // count, n * (index + 1) // count)
