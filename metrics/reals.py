"""Reals as metrics see them: their features or statistics, kept in memory and on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dnnlib.tflib.tfutil import tf
from metrics.feature_cache import keeping, load_features
from metrics.features import FeatureNetwork
from metrics.frechet import FeatureStatistics, RunningStatistics
from metrics.noise import mirrored
from metrics.real_cache import RealKey, load_real_statistics, save_real_statistics
from metrics.real_sets import RealSets
from metrics.registry import FEATURES, MetricSpec
from metrics.towers import Stream, check_finite


class Reals:
    """The images that metrics compare fakes with, mirrored at random or not.

    stream: runs image towers (`metrics.towers.Stream`); cache_dir: None is the user's cache; specs: metrics that will
    be measured. Each real is looked at once by a feature network, where these look at the same ones.
    """

    def __init__(
        self,
        sets: RealSets,
        networks: Mapping[str, FeatureNetwork],
        stream: Stream | None,
        mirror: bool,
        cache_dir: os.PathLike | str | None,
        specs: Sequence[MetricSpec] = (),
    ) -> None:
        self._sets, self._networks, self._stream = sets, networks, stream
        self._mirror, self._cache_dir = mirror, cache_dir
        self._statistics: dict[RealKey, FeatureStatistics] = {}
        wanted = [s for s in specs if s.output == FEATURES and s.num_real != 0 and s.keep_as is not None]
        # Of several types the widest, of which the others are roundings.
        self._keep_as: dict[RealKey, str] = {}
        for spec in sorted(wanted, key=lambda s: np.dtype(s.keep_as).itemsize):
            self._keep_as[self._key(spec)] = spec.keep_as

    def count(self, spec: MetricSpec) -> int:
        """How many of them the metric looks at."""
        return self._sets.count(spec)

    def mirror(self, spec: MetricSpec) -> bool:
        """Whether the metric looks at them mirrored."""
        return self._mirror and not spec.full

    def _key(self, spec: MetricSpec) -> RealKey:
        dataset, network = self._sets.of(spec), self._networks[spec.feature_network]
        resize = network.resize_name(*dataset.shape[1:])
        return RealKey(
            dataset.content_hash, dataset.shape, network.name, network.weights_sha256, resize, self.count(spec),
            self.mirror(spec),
        )  # fmt: skip

    def statistics(self, spec: MetricSpec) -> FeatureStatistics:
        """Statistics of their features: from memory, disk, or computed."""
        key = self._key(spec)
        if key not in self._statistics:
            statistics = load_real_statistics(key, self._cache_dir)
            if statistics is None:
                running = RunningStatistics(self._networks[spec.feature_network].num_features)
                # Rounded features would give other statistics.
                exact = self._keep_as.get(key) == "float32"
                for features in self._load(spec, "float32") or (self._kept if exact else self._compute)(spec):
                    running.add(features)
                statistics = running.result()
                save_real_statistics(key, statistics, self._cache_dir)
            self._statistics[key] = statistics
        return self._statistics[key]

    def features(self, spec: MetricSpec) -> Iterator[np.ndarray]:
        """Their features in the order of the file, [n, D] at a time: from disk, or computed and kept there."""
        for dtype in dict.fromkeys((spec.keep_as or "float32", "float32")):
            kept = self._load(spec, dtype)
            if kept is not None:
                return kept
        return self._kept(spec)

    def _load(self, spec: MetricSpec, dtype: str) -> Iterator[np.ndarray] | None:
        num_features = self._networks[spec.feature_network].num_features
        return load_features(self._key(spec), num_features, dtype, self._cache_dir)

    def _kept(self, spec: MetricSpec) -> Iterator[np.ndarray]:
        key, num_features = self._key(spec), self._networks[spec.feature_network].num_features
        dtype = self._keep_as.get(key) or spec.keep_as or "float32"
        return keeping(self._compute(spec), key, num_features, dtype, self._cache_dir)

    def _compute(self, spec: MetricSpec) -> Iterator[np.ndarray]:
        dataset, mirror = self._sets.of(spec), self.mirror(spec)

        def step(tower: Any, indices: np.ndarray) -> tuple[Any, None, dict[tf.Tensor, Any]]:
            images = dataset.read(indices)
            if mirror:
                flip = mirrored(indices)
                images[flip] = images[flip][..., ::-1]
            return tower.outputs[spec.feature_network, FEATURES], None, {tower.images: images}

        title = f"reals ({self._networks[spec.feature_network].name})"
        return check_finite(self._stream(step, self.count(spec), title), "real")
