"""Improved precision and recall (Kynkaanniemi et al. 2019): k-nearest-neighbour manifolds in feature space, k = 3.

A sample lies in the manifold of a set if it is no further from some member than that member's k-th nearest neighbour in
the set. Precision: share of fakes in the manifold of the reals; recall: the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dnnlib.util import UserError
from metrics.inputs import MetricInputs

K = 3
_BLOCK = 2048  # rows and columns of distances at a time; changes nothing but memory and speed


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a_i - b_j|^2 of rows, float32 [n, m] of float16 or float32 [n, d] and [m, d], from one product in float32."""
    a, b = a.astype(np.float32, copy=False), b.astype(np.float32, copy=False)
    norms = np.sum(np.square(a), axis=1, dtype=np.float64)[:, None] + np.sum(np.square(b), axis=1, dtype=np.float64)
    return np.maximum(norms - 2 * (a @ b.T), 0).astype(np.float32)


def _blocks(n: int) -> Iterator[slice]:
    return (slice(i, min(i + _BLOCK, n)) for i in range(0, n, _BLOCK))


def radii(features: np.ndarray, k: int = K) -> np.ndarray:
    """Squared distance of every row to its k-th nearest other row: float32 [n].

    Raises `UserError` for fewer than k + 1 rows.
    """
    n = len(features)
    if n <= k:
        raise UserError(f"precision and recall need more than {k} images, found {n}")
    nearest = np.full((n, k), np.inf, np.float32)

    def merge(rows: slice, distances: np.ndarray) -> None:
        both = np.concatenate([nearest[rows], distances], axis=1)
        nearest[rows] = np.partition(both, k - 1, axis=1)[:, :k]

    for rows in _blocks(n):
        for columns in _blocks(rows.stop):  # distances are symmetric: half of the blocks tell all
            d = squared_distances(features[rows], features[columns])
            if columns == rows:  # not itself; equal rows elsewhere do count
                np.fill_diagonal(d, np.inf)
            else:
                merge(columns, d.T)
            merge(rows, d)
    return nearest[:, k - 1]


def precision_recall(reals: np.ndarray, fakes: np.ndarray, k: int = K) -> tuple[float, float]:
    """(precision, recall) of features float16 or float32 [n, d] and [m, d]."""
    real_radii, fake_radii = radii(reals, k), radii(fakes, k)
    precise, recalled = np.zeros(len(fakes), bool), np.zeros(len(reals), bool)
    for rows in _blocks(len(fakes)):
        for columns in _blocks(len(reals)):
            d = squared_distances(fakes[rows], reals[columns])
            precise[rows] |= (d <= real_radii[columns]).any(axis=1)
            recalled[columns] |= (d <= fake_radii[rows, None]).any(axis=0)
    return float(precise.mean()), float(recalled.mean())


def _gather(batches: Iterator[np.ndarray], count: int, num_features: int) -> np.ndarray:
    """All rows as float16 [count, num_features], as the published metric keeps them."""
    result, begin = np.empty((count, num_features), np.float16), 0
    for batch in batches:
        with np.errstate(over="ignore"):
            rows = batch.astype(np.float16)
        if not np.isfinite(rows).all():
            raise UserError("features beyond the range of float16 (65504): precision and recall cannot be computed")
        result[begin : begin + len(rows)] = rows
        begin += len(rows)
    if begin != count:
        raise ValueError(f"expected {count} rows of features, found {begin}")
    return result


def compute_precision_recall(inputs: MetricInputs) -> dict[str, float]:
    """The metrics `pr<N>k3`, `pr<N>k3_full` and `pr<N>k3_effnet`."""
    reals = _gather(inputs.real_features(), inputs.num_real, inputs.num_features)
    fakes = _gather(inputs.fake_features(), inputs.num_fake, inputs.num_features)
    precision, recall = precision_recall(reals, fakes)
    return {"_precision": precision, "_recall": recall}
