"""Improved precision and recall (Kynkaanniemi et al. 2019): k-nearest-neighbour manifolds in feature space, k = 3.

A sample lies in the manifold of a set if it is no further from some member than that member's k-th nearest neighbour in
the set. Precision: share of fakes in the manifold of the reals; recall: the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from dnnlib.util import UserError
from metrics.inputs import MetricInputs
from metrics.progress import progress_bar

K = 3
_COLUMNS = 2048  # of distances at a time; changes nothing but memory and speed
_ROWS = 4 * _COLUMNS  # at a time; a multiple of the columns


@dataclass(frozen=True)
class _Part:
    """Rows of features, float32 [n, d], with their squared lengths, float32 [n]."""

    features: np.ndarray
    lengths: np.ndarray

    def __getitem__(self, rows: slice) -> _Part:
        return _Part(self.features[rows], self.lengths[rows])


def _part(features: np.ndarray, rows: slice, centre: np.ndarray) -> _Part:
    """These rows of features float16 or float32 [n, d], seen from the centre float32 [d].

    Distances do not depend on it, but their rounding does: far from the origin, where the lengths of rows are large and
    their distances small, little would be left of these.
    """
    part = features[rows] - centre
    return _Part(part, np.square(part).sum(axis=1, dtype=np.float64).astype(np.float32))


class _Distances:
    """|a_i - b_j|^2 of rows, float32 [n, m]; each call writes over the result of the one before.

    step: called each time.
    """

    def __init__(self, step: Callable[[], object] = lambda: None) -> None:
        self._memory, self._step = np.empty(0, np.float32), step

    def __call__(self, a: _Part, b: _Part) -> np.ndarray:
        shape = (len(a.lengths), len(b.lengths))
        if self._memory.size < shape[0] * shape[1]:
            self._memory = np.empty(shape[0] * shape[1], np.float32)
        result = self._memory[: shape[0] * shape[1]].reshape(shape)
        np.matmul(a.features, b.features.T, out=result)
        result *= -2
        result += a.lengths[:, None]
        result += b.lengths
        np.maximum(result, 0, out=result)
        self._step()
        return result


def _centre(features: np.ndarray) -> np.ndarray:
    """Mean of the rows of features [n, d]: float32 [d]."""
    total = sum((features[rows].sum(axis=0, dtype=np.float64) for rows in _slices(len(features), _ROWS)), start=0.0)
    return np.asarray(total / max(len(features), 1), np.float32)


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(i, min(i + size, n)) for i in range(0, n, size))


def _keep_smallest(smallest: np.ndarray, found: np.ndarray) -> None:
    """Puts numbers of found [n, m] that are smaller into smallest [n, k], whose last column holds the largest."""
    rows = np.flatnonzero(found.min(axis=1, initial=np.inf) < smallest[:, -1])  # soon few: the rest is not sorted
    both = np.concatenate([smallest[rows], found[rows]], axis=1)
    k = smallest.shape[1]
    smallest[rows] = np.partition(both, k - 1, axis=1)[:, :k]


def _num_blocks(num_reals: int, num_fakes: int) -> int:
    """How often `precision_recall` asks for distances."""
    columns_of = (math.ceil(s.stop / _COLUMNS) for n in (num_reals, num_fakes) for s in _slices(n, _ROWS))
    return sum(columns_of) + math.ceil(num_fakes / _ROWS) * math.ceil(num_reals / _COLUMNS)


def radii(
    features: np.ndarray, k: int = K, distances: _Distances | None = None, centre: np.ndarray | None = None
) -> np.ndarray:
    """Squared distance of every row of features, float16 or float32 [n, d], to its k-th nearest other row: float32 [n].

    distances: whose memory to use; None: its own. centre: see `_part`; None: the mean. Raises `UserError` for fewer
    than k + 1 rows.
    """
    n = len(features)
    if n <= k:
        raise UserError(f"precision and recall need more than {k} images, found {n}")
    nearest, distances = np.full((n, k), np.inf, np.float32), distances or _Distances()
    centre = _centre(features) if centre is None else centre
    for strip in _slices(n, _ROWS):
        part = _part(features, strip, centre)
        for columns in _slices(strip.stop, _COLUMNS):  # distances are symmetric: half of them tell all
            above = max(columns.start, strip.start)
            d = distances(part[above - strip.start :], _part(features, columns, centre))
            if columns.start >= strip.start:
                own = d[: columns.stop - columns.start]
                np.fill_diagonal(own, np.inf)  # not itself; equal rows elsewhere do count
                below = d[len(own) :]
            else:
                below = d
            _keep_smallest(nearest[above : strip.stop], d)
            _keep_smallest(nearest[columns], below.T)
    return nearest[:, k - 1]


def precision_recall(reals: np.ndarray, fakes: np.ndarray, k: int = K, progress: bool = False) -> tuple[float, float]:
    """(precision, recall) of features float16 or float32 [n, d] and [m, d]; progress: show a bar on stderr."""
    precise, recalled = np.zeros(len(fakes), bool), np.zeros(len(reals), bool)
    total = _num_blocks(len(reals), len(fakes))
    with progress_bar(total, "distances", "block", shown=progress, leave=False) as bar:
        distances = _Distances(bar.update)
        centre = _centre(reals)
        real_radii, fake_radii = (radii(features, k, distances, centre) for features in (reals, fakes))
        for rows in _slices(len(fakes), _ROWS):
            part = _part(fakes, rows, centre)
            for columns in _slices(len(reals), _COLUMNS):
                d = distances(part, _part(reals, columns, centre))
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
    precision, recall = precision_recall(reals, fakes, progress=inputs.progress)
    return {"_precision": precision, "_recall": recall}
