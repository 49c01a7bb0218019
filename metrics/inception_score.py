"""Inception score (Salimans et al. 2016): exp of the mean KL divergence of p(y|x) from p(y), over ten splits.

KL summed over a split is E[sum p log p] - sum q log q with q the mean of p, so that sums are all that is kept.
"""

from __future__ import annotations

import numpy as np

from metrics.inputs import MetricInputs

NUM_SPLITS = 10


def split_of(indices: np.ndarray, count: int, splits: int = NUM_SPLITS) -> np.ndarray:
    """Split of each image: i with floor(i N / splits) <= index < floor((i + 1) N / splits)."""
    bounds = np.arange(1, splits + 1) * count // splits
    return np.searchsorted(bounds, indices, side="right")


class ScoreSums:
    """Running sums for `count` images, float64; add their class probabilities in order."""

    def __init__(self, count: int, splits: int = NUM_SPLITS) -> None:
        if count < splits:
            raise ValueError(f"{count} images cannot be cut into {splits} splits")
        self._count, self._splits, self._seen = count, splits, 0
        self._p: np.ndarray | None = None
        self._plogp, self._n = np.zeros(splits), np.zeros(splits)

    def add(self, probabilities: np.ndarray) -> None:
        """The next images: float [n, classes], rows sum to 1."""
        p = probabilities.astype(np.float64)
        if self._p is None:
            self._p = np.zeros((self._splits, p.shape[1]))
        where = split_of(np.arange(self._seen, self._seen + len(p)), self._count, self._splits)
        np.add.at(self._p, where, p)
        np.add.at(self._plogp, where, _entropy_terms(p).sum(axis=1))
        np.add.at(self._n, where, 1)
        self._seen += len(p)

    def result(self) -> tuple[float, float]:
        """(mean, standard deviation) of the score over the splits."""
        if self._seen != self._count or self._p is None:
            raise ValueError(f"{self._seen} of {self._count} images were added")
        marginal = self._p / self._n[:, None]
        scores = np.exp(self._plogp / self._n - _entropy_terms(marginal).sum(axis=1))
        return float(scores.mean()), float(scores.std())


def _entropy_terms(p: np.ndarray) -> np.ndarray:
    """p log p, 0 where p is 0."""
    return p * np.log(np.where(p > 0, p, 1))


def compute_inception_score(inputs: MetricInputs) -> dict[str, float]:
    """The metrics `is<N>k` and `is<N>k_effnet`; inputs give class probabilities as features."""
    sums = ScoreSums(inputs.num_fake)
    for probabilities in inputs.fake_features():
        sums.add(probabilities)
    mean, std = sums.result()
    return {"_mean": mean, "_std": std}
