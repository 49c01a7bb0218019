"""What metrics need of the rest: a generator, a data set, and what a feature network makes of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from metrics.frechet import FeatureStatistics
    from metrics.variants import Variant


class Generator(Protocol):
    """What is needed of `dnnlib.tflib.network.Network`.

    components: the networks `mapping` and `synthesis`; only path lengths and separability look at them.
    """

    name: str
    input_shapes: Sequence[Sequence[int | None]]
    output_shape: Sequence[int | None]
    components: Mapping[str, Any]

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


class AttributeSamples(NamedTuple):
    """Fakes with what classifiers say of them.

    latents: z float32 [n, L]; dlatents: w float32 [n, D] of the last layer; scores: float32 [n, attributes], positive
    where a classifier sees the attribute, the further from 0 the surer it is.
    """

    latents: np.ndarray
    dlatents: np.ndarray
    scores: np.ndarray


class MetricInputs(Protocol):
    """What a metric computes from, as many images as its specification says.

    num_real, num_fake: how many there are (the data set may be smaller than the metric's name); num_features: columns
    of features or classes of probabilities; variant: conventions to follow; progress: show bars on
    stderr for what takes minutes.
    """

    num_real: int
    num_fake: int
    num_features: int
    variant: Variant
    progress: bool

    def real_statistics(self) -> FeatureStatistics:
        """Mean and covariance of the reals' features; computed once per data set, then kept on disk."""

    def real_features(self) -> Iterator[np.ndarray]:
        """Features of reals in the order of the file, float32 or float16 [n, num_features] at a time."""

    def fake_features(self) -> Iterator[np.ndarray]:
        """Features of fakes, or their class probabilities, float32 [n, num_features] at a time."""

    def path_distances(self) -> Iterator[np.ndarray]:
        """Perceptual distances between the ends of steps along paths, over epsilon², float32 [n] at a time."""

    def attribute_samples(self) -> Iterator[AttributeSamples]:
        """Latents of fakes and what classifiers see in them."""
