"""The Fréchet distance between two sets of features, each taken as a normal distribution.

Heusel et al., arXiv:1706.08500: d² = |mu_1 - mu_2|² + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dnnlib.util import UserError
from metrics.inputs import MetricInputs

_BLOCK_ROWS = 2048


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean float64 [D], covariance float64 [D, D] (divided by count - 1) and the number of samples."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int

    def divided_by_count_minus(self, ddof: int) -> FeatureStatistics:
        """The same with the covariance divided by count - ddof."""
        if ddof == 1:
            return self
        return replace(self, covariance=self.covariance * ((self.count - 1) / (self.count - ddof)))


class RunningStatistics:
    """Mean and covariance of a stream of features, in memory that does not depend on its length.

    Rows are gathered into blocks of a fixed size before anything is added up, so that the result does not depend on
    how the stream was cut into batches, to the last bit. Blocks are merged by the formula of Chan, Golub and LeVeque
    (1979), which does not cancel.
    """

    def __init__(self, num_features: int) -> None:
        self._mean = np.zeros(num_features)
        self._scatter = np.zeros((num_features, num_features))  # sum of outer products of deviations
        self._count = 0
        self._block = np.zeros((_BLOCK_ROWS + 1, num_features))  # and one row for the shift of the mean
        self._filled = 0

    def add(self, features: np.ndarray) -> None:
        """Adds rows [N, D]. Raises `UserError` if any is not finite."""
        features = np.asarray(features)
        if features.ndim != 2 or features.shape[1] != self._mean.size:
            raise ValueError(f"features: expected shape [N, {self._mean.size}], found {list(features.shape)}")
        if not np.isfinite(features).all():
            bad = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
            raise UserError(
                f"the features of image {self._count + self._filled + bad} are not finite: the network that made the "
                "image, or the one that looked at it, is broken"
            )
        while len(features):
            taken = features[: _BLOCK_ROWS - self._filled]
            self._block[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            features = features[len(taken) :]
            if self._filled == _BLOCK_ROWS:
                self._merge()

    def _merge(self) -> None:
        rows, n, m = self._block[: self._filled], self._count, self._filled
        mean = rows.mean(axis=0)
        delta = mean - self._mean
        rows -= mean
        # One more row adds the outer product of the shift without a pass over the matrix.
        self._block[m] = delta * np.sqrt(n * m / (n + m))
        self._scatter += self._block[: m + 1].T @ self._block[: m + 1]
        self._mean = self._mean + delta * (m / (n + m))
        self._count, self._filled = n + m, 0

    def result(self) -> FeatureStatistics:
        """The statistics of all rows so far. Raises `UserError` for fewer than two, which have no covariance."""
        if self._filled:
            self._merge()
        if self._count < 2:
            raise UserError(f"the Fréchet distance needs at least 2 images, found {self._count}")
        covariance = self._scatter / (self._count - 1)
        return FeatureStatistics(self._mean.copy(), (covariance + covariance.T) / 2, self._count)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """d² between two normal distributions: real, symmetric in its arguments, 0 for equal ones up to rounding.

    With S_i = L_i L_i^T the trace of the root of the product is the sum of the singular values of L_1^T L_2. This form
    has no complex parts to drop, and covariances without full rank (fewer samples than features) need no offset: a
    singular value that should be 0 comes out near 1e-16, where the root of an eigenvalue would give 1e-8.
    Raises `UserError` if a statistic is not finite, `ValueError` if the numbers of features differ.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"numbers of features differ: {a.mean.size} and {b.mean.size}")
    for part in (a.mean, a.covariance, b.mean, b.covariance):
        if not np.isfinite(part).all():
            raise UserError("cannot compare statistics that are not finite: remove the cached ones and evaluate again")
    mean_term = np.sum(np.square(a.mean - b.mean))
    roots = np.linalg.svd(_factor(a.covariance).T @ _factor(b.covariance), compute_uv=False)
    return float(mean_term + np.trace(a.covariance) + np.trace(b.covariance) - 2 * roots.sum())


def _factor(covariance: np.ndarray) -> np.ndarray:
    """L [D, r] with L L^T = covariance, r its numerical rank."""
    # Cholesky's factors with pivots find the rank, ten times as fast as eigenvectors would.
    from scipy.linalg import lapack  # not at import: metrics are listed and checked without loading it

    triangle, pivots, rank, _ = lapack.dpstrf(covariance, lower=1)
    factor = np.empty((len(covariance), rank))
    factor[pivots - 1] = np.tril(triangle)[:, :rank]
    return factor


def compute_frechet(inputs: MetricInputs) -> dict[str, float]:
    """The metrics `fid<N>k`, `fd<N>k_effnet` and their `_full` forms: distance of the features of fakes and reals."""
    reals = inputs.real_statistics().divided_by_count_minus(inputs.variant.real_ddof)
    running = RunningStatistics(inputs.num_features)
    for features in inputs.fake_features():
        running.add(features)
    fakes = running.result().divided_by_count_minus(inputs.variant.fake_ddof)
    return {"": frechet_distance(fakes, reals)}
