"""Kernel inception distance (Binkowski et al. 2018): squared MMD with the cubic kernel (x·y / d + 1)^3.

The unbiased estimate over random subsets: the mean over 100 subsets of at most 1000 reals and as many fakes. Which rows
belong to the subsets is drawn beforehand, so that only those are kept, however many images there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dnnlib.util import UserError
from metrics.inputs import MetricInputs

NUM_SUBSETS = 100
MAX_SUBSET_SIZE = 1000


@dataclass(frozen=True)
class Subsets:
    """Row indices of every subset: reals, fakes int64 [num_subsets, m], drawn without replacement within a subset."""

    reals: np.ndarray
    fakes: np.ndarray


def draw_subsets(num_reals: int, num_fakes: int, seed: int = 0) -> Subsets:
    """The subsets for so many reals and fakes. Raises `UserError` for fewer than two of either."""
    m = min(num_reals, num_fakes, MAX_SUBSET_SIZE)
    if m < 2:
        raise UserError(f"the kernel distance needs at least 2 reals and 2 fakes, found {num_reals} and {num_fakes}")
    rng = np.random.default_rng((seed, 0x4B4944))
    reals, fakes = (
        np.stack([rng.choice(n, m, replace=False) for _ in range(NUM_SUBSETS)]) for n in (num_reals, num_fakes)
    )
    return Subsets(reals, fakes)


def polynomial_mmd2(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD between equally many rows of features [m, d], in float64.

    ((sum A - trace A) / (m - 1) - 2 sum B / m) / m with A = K_xx + K_yy, B = K_xy. Its expectation is 0 for samples of
    one distribution; single values may be negative.
    """
    if x.shape != y.shape:
        raise ValueError(f"features of shape {list(x.shape)} and {list(y.shape)}, expected equal ones")
    m, d = x.shape
    x, y = x.astype(np.float64), y.astype(np.float64)
    within = _cube(x @ x.T / d + 1) + _cube(y @ y.T / d + 1)
    between = _cube(x @ y.T / d + 1)
    return float(((within.sum() - np.trace(within)) / (m - 1) - 2 * between.sum() / m) / m)


def _cube(k: np.ndarray) -> np.ndarray:
    return k * k * k  # four times as fast as numpy's power


def gather(batches: Iterator[np.ndarray], rows: np.ndarray) -> dict[int, np.ndarray]:
    """The rows with these indices out of a stream of features [n, d]; all of it is consumed."""
    wanted, found, start = np.unique(rows), {}, 0
    for batch in batches:
        low, high = np.searchsorted(wanted, (start, start + len(batch)))
        found |= {int(i): batch[i - start].copy() for i in wanted[low:high]}
        start += len(batch)
    if len(found) < len(wanted):
        raise ValueError(f"row {int(wanted[len(found)])} was asked for, the stream has {start}")
    return found


def kernel_distance(
    reals: dict[int, np.ndarray], fakes: dict[int, np.ndarray], subsets: Subsets
) -> tuple[float, float]:
    """(mean, standard error) of the squared MMD over the subsets."""
    values = [
        polynomial_mmd2(np.stack([reals[i] for i in r.tolist()]), np.stack([fakes[i] for i in f.tolist()]))
        for r, f in zip(subsets.reals, subsets.fakes, strict=True)
    ]
    return float(np.mean(values)), float(np.std(values) / np.sqrt(len(values)))


def compute_kernel_distance(inputs: MetricInputs) -> dict[str, float]:
    """The metrics `kid<N>k`, `kid<N>k_full` and `kd<N>k_effnet`."""
    subsets = draw_subsets(inputs.num_real, inputs.num_fake)
    reals = gather(inputs.real_features(), subsets.reals)
    value, _ = kernel_distance(reals, gather(inputs.fake_features(), subsets.fakes), subsets)
    return {"": value}
