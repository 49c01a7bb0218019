"""What metrics need of the rest: a generator, a data set, and the features of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from metrics.frechet import FeatureStatistics


class Generator(Protocol):
    """What is needed of `dnnlib.tflib.network.Network`."""

    name: str
    input_shapes: Sequence[Sequence[int | None]]
    output_shape: Sequence[int | None]

    def get_output_for(
        self, latents: Any, labels: Any, /, *, is_validation: bool, randomize_noise: bool, rng: Any
    ) -> Any:
        """Images [N, C, H, W] in [-1, 1] from latents [N, L] and labels [N, K]; `rng` is a `RandomSource`."""


class Dataset(Protocol):
    """What is needed of `training.dataset.TFRecordDataset`."""

    name: str
    num_images: int
    shape: tuple[int, int, int]
    label_size: int
    labels: np.ndarray
    content_hash: str

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Images uint8 [n, C, H, W] in the order of the file."""


class MetricInputs(Protocol):
    """What a metric computes from: features, as many images as its name says."""

    num_features: int

    def real_statistics(self) -> FeatureStatistics:
        """Mean and covariance of the reals' features; computed once per data set, then kept on disk."""

    def fake_features(self) -> Iterator[np.ndarray]:
        """Features of fakes, float32 [n, D] at a time."""
