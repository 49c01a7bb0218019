"""Reals as metrics see them: their features or statistics, kept in memory and on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dnnlib.tflib.tfutil import tf
from metrics.feature_cache import keeping, load_features
from metrics.features import FeatureNetwork
from metrics.frechet import FeatureStatistics, RunningStatistics
from metrics.inputs import Dataset
from metrics.noise import mirrored
from metrics.real_cache import RealKey, load_real_statistics, save_real_statistics
from metrics.registry import FEATURES, MetricSpec
from metrics.towers import Stream, check_finite


class Reals:
    """The images of a data set, mirrored at random or not.

    stream: runs image towers (`metrics.towers.Stream`); cache_dir: None is the user's cache.
    """

    def __init__(
        self,
        dataset: Dataset,
        networks: Mapping[str, FeatureNetwork],
        stream: Stream | None,
        mirror: bool,
        cache_dir: os.PathLike | str | None,
    ) -> None:
        self._dataset, self._networks, self._stream = dataset, networks, stream
        self._mirror, self._cache_dir = mirror, cache_dir
        self._statistics: dict[RealKey, FeatureStatistics] = {}

    def count(self, spec: MetricSpec) -> int:
        """How many of them the metric looks at."""
        found = self._dataset.num_images
        return found if spec.num_real is None else min(spec.num_real, found)

    def mirror(self, spec: MetricSpec) -> bool:
        """Whether the metric looks at them mirrored."""
        return self._mirror and spec.mirror_reals

    def _key(self, spec: MetricSpec) -> RealKey:
        dataset, network = self._dataset, self._networks[spec.feature_network]
        resize = network.resize_name(*dataset.shape[1:])
        return RealKey(
            dataset.content_hash, dataset.shape, network.name, network.weights_sha256, resize, self.count(spec),
            self.mirror(spec),
        )  # fmt: skip

    def statistics(self, spec: MetricSpec) -> FeatureStatistics:
        """Statistics of their features: from memory, disk, or computed."""
        key, num_features = self._key(spec), self._networks[spec.feature_network].num_features
        if key not in self._statistics:
            statistics = load_real_statistics(key, self._cache_dir)
            if statistics is None:
                running = RunningStatistics(num_features)
                kept = load_features(key, num_features, "float32", self._cache_dir)
                for features in kept or self._compute(spec):
                    running.add(features)
                statistics = running.result()
                save_real_statistics(key, statistics, self._cache_dir)
            self._statistics[key] = statistics
        return self._statistics[key]

    def features(self, spec: MetricSpec) -> Iterator[np.ndarray]:
        """Their features in the order of the file, [n, D] at a time: from disk, or computed and kept there."""
        key, num_features = self._key(spec), self._networks[spec.feature_network].num_features
        kept = load_features(key, num_features, spec.keep_as, self._cache_dir)
        if kept is not None:
            return kept
        return keeping(self._compute(spec), key, num_features, spec.keep_as, self._cache_dir)

    def _compute(self, spec: MetricSpec) -> Iterator[np.ndarray]:
        mirror = self.mirror(spec)

        def step(tower: Any, indices: np.ndarray) -> tuple[Any, None, dict[tf.Tensor, Any]]:
            images = self._dataset.read(indices)
            if mirror:
                flip = mirrored(indices)
                images[flip] = images[flip][..., ::-1]
            return tower.outputs[spec.feature_network, FEATURES], None, {tower.images: images}

        title = f"reals ({self._networks[spec.feature_network].name})"
        return check_finite(self._stream(step, self.count(spec), title), "real")
