"""Diversity of fakes: how far they are from each other in feature space. Needs no reals, and falls when G collapses.

Two distances, since neither sees everything. That of all pairs falls when all fakes become alike, and hardly when they
fall into a few groups; that to the nearest other fake falls in both cases, and depends on how many fakes there are.
Their values compare for one feature network, one number of fakes and one data set: watch them over a training.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dnnlib.util import UserError
from metrics.errors import NotFinite
from metrics.inputs import MetricInputs

_BLOCK = 1024  # rows and columns of distances at a time; changes nothing but memory and speed


def diversity(features: np.ndarray) -> float:
    """Mean Euclidean distance of two different rows of features [n, d]: 0 if all are equal, else > 0, no upper bound.

    Takes n² d operations, a tenth of a second for 1000 rows of 1280. Raises `UserError` for fewer than two rows, or
    numbers that are not finite.
    """
    total = sum(float(distances.sum()) for _, _, distances in _distances(features))
    return total / (len(features) * (len(features) - 1))


def nearest_distance(features: np.ndarray) -> float:
    """Mean Euclidean distance of a row of features [n, d] to the nearest other row. Raises as `diversity`."""
    nearest = np.full(len(features), np.inf)
    for rows, columns, distances in _distances(features):
        if rows == columns:
            np.fill_diagonal(distances, np.inf)
        nearest[rows] = np.minimum(nearest[rows], distances.min(axis=1))
    return float(nearest.mean())


def _distances(features: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """(rows, columns, float64 distances between them) until all pairs were there; 0 on the diagonal."""
    features = np.asarray(features)
    if features.ndim != 2 or len(features) < 2:
        raise UserError(f"diversity needs the features [n, d] of at least 2 images, found shape {list(features.shape)}")
    if not np.isfinite(features).all():
        bad = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise NotFinite(f"the features of fake {bad} are not finite: the network that made it is broken")
    # Around the mean the differences of large numbers cancel least.
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    blocks = [slice(i, min(i + _BLOCK, len(centred))) for i in range(0, len(centred), _BLOCK)]
    norms = np.sum(centred**2, axis=1)
    for rows in blocks:
        for columns in blocks:
            squared = norms[rows, None] + norms[None, columns] - 2 * centred[rows] @ centred[columns].T
            # What rounding leaves of a distance of 0 would be its root otherwise.
            squared[squared < 1e-12 * norms.max(initial=0)] = 0
            if rows == columns:
                np.fill_diagonal(squared, 0)
            yield rows, columns, np.sqrt(squared)


def compute_diversity(inputs: MetricInputs) -> dict[str, float]:
    """The metrics `diversity<N>k` and `diversity<N>k_effnet`."""
    features = np.concatenate(list(inputs.fake_features()))
    return {"": diversity(features), "_nearest": nearest_distance(features)}
