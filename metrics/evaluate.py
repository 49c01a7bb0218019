"""Measures a generator against a data set.

evaluator = Evaluator(["fd50k_effnet"], Gs, dataset)   # builds the graph
result = evaluator.run("fd50k_effnet")                 # adds nothing to it, so it may be called after finalize()
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError, list_nearest
from metrics.features import FeatureNetwork, load_feature_network
from metrics.frechet import FeatureStatistics, RunningStatistics
from metrics.images import to_bytes_and_finite, to_rgb
from metrics.inputs import Dataset, Generator
from metrics.noise import IndexedRandom, labels_of, latents_of, mirrored
from metrics.real_cache import RealKey, load_real_statistics, save_real_statistics
from metrics.registry import MetricSpec, find_metric
from metrics.report import MetricResult, write_result


class _Tower(NamedTuple):
    latents: tf.Tensor
    labels: tf.Tensor
    first_index: tf.Tensor
    images: tf.Tensor  # uint8; fed with reals, else the fakes
    finite: tf.Tensor
    features: dict[str, tf.Tensor]  # by feature network


class Evaluator:
    """The graph for some metrics on one generator and one data set.

    Args:
        metrics: names or `MetricSpec`s that `run` may be asked for.
        Gs: a `Network`; used in validation mode: no truncation, random noise.
        dataset: a `TFRecordDataset` of the same image shape.
        num_gpus: towers that share the work.
        minibatch_gpu: images per tower at a time; None: 32 up to 128 pixels, 16 up to 256, else 8.
        inception, inception_sha256: see `load_feature_network`.
        seed: of latents, noise and labels of the fakes, >= 0.
        mirror: mirror half of the reals; for generators trained on mirrored images.
        cache_dir: folder for statistics of reals; None: the user's cache.
        progress: show a bar on stderr.

    Nothing here depends on the towers, or on the size of minibatches beyond rounding: what is random about a fake
    depends on the seed and its index.
    Raises `UserError`: unknown metric, weights missing, or shapes of generator and data set that do not fit.
    """

    def __init__(
        self,
        metrics: Sequence[str | MetricSpec],
        Gs: Generator,  # noqa: N803
        dataset: Dataset,
        *,
        num_gpus: int = 1,
        minibatch_gpu: int | None = None,
        inception: str | None = None,
        inception_sha256: str | None = None,
        seed: int = 0,
        mirror: bool = False,
        cache_dir: os.PathLike | str | None = None,
        progress: bool = True,
    ) -> None:
        specs = [find_metric(m) if isinstance(m, str) else m for m in metrics]
        self._specs = {spec.name: spec for spec in specs}
        self._check(Gs, dataset, num_gpus, minibatch_gpu, seed)
        self._dataset, self._seed, self._mirror = dataset, seed, mirror
        self._cache_dir, self._progress = cache_dir, progress
        self._latent_size, self._label_size = Gs.input_shapes[0][1], Gs.input_shapes[1][1]
        self._minibatch = minibatch_gpu or _default_minibatch(*dataset.shape[1:])
        self._networks: dict[str, FeatureNetwork] = {}
        for name in dict.fromkeys(spec.feature_network for spec in specs):
            self._networks[name] = load_feature_network(name, inception=inception, inception_sha256=inception_sha256)
        self._real: dict[tuple[str, int], FeatureStatistics] = {}
        with tf.name_scope("Metrics"), tf.control_dependencies(None):
            self._towers = [self._build_tower(Gs, index) for index in range(num_gpus)]

    @staticmethod
    def _check(Gs: Generator, dataset: Dataset, num_gpus: int, minibatch_gpu: int | None, seed: int) -> None:  # noqa: N803
        shape, label_size = list(Gs.output_shape[1:]), Gs.input_shapes[1][1]
        if shape != list(dataset.shape):
            raise UserError(
                f"the network makes images of shape {shape}, the data set {dataset.name} has {list(dataset.shape)}: "
                "metrics compare images of one shape"
            )
        if label_size and label_size != dataset.label_size:
            raise UserError(
                f"the network takes labels of {label_size} numbers, those of the data set {dataset.name} have "
                f"{dataset.label_size}: open it with its labels, or use the data set of the training"
            )
        for name, value, least in (("num_gpus", num_gpus, 1), ("minibatch_gpu", minibatch_gpu, 1), ("seed", seed, 0)):
            if value is not None and value < least:
                raise UserError(f"{name}: found {value}, expected at least {least}")

    def _build_tower(self, Gs: Generator, index: int) -> _Tower:  # noqa: N803
        with tf.name_scope(f"Tower{index}"), tf.device(tfutil.tower_device(index)):
            latents = tf.placeholder(tf.float32, [None, self._latent_size], name="latents")
            labels = tf.placeholder(tf.float32, [None, self._label_size], name="labels")
            first_index = tf.placeholder(tf.int64, [], name="first_index")
            rng = IndexedRandom(self._seed, first_index)
            fakes = Gs.get_output_for(latents, labels, is_validation=True, randomize_noise=True, rng=rng)
            images, finite = to_bytes_and_finite(fakes)
            # Feeding this tensor cuts off the generator, so that reals go through the same nodes as fakes.
            images = tf.placeholder_with_default(images, [None, *self._dataset.shape], name="images")
            rgb = to_rgb(images)
            features = {name: network.features(rgb) for name, network in self._networks.items()}
            return _Tower(latents, labels, first_index, images, finite, features)

    def run(self, name: str) -> MetricResult:
        """Measures the generator as it is now, in the default session.

        Raises `UserError`: not one of the metrics of this evaluator, or images with values that are not finite.
        """
        if name not in self._specs:
            raise UserError(f"this evaluator was not built for the metric {name!r}: {list_nearest(name, self._specs)}")
        spec, dataset = self._specs[name], self._dataset
        network = self._networks[spec.feature_network]
        begin = time.monotonic()
        values = spec.compute(_Inputs(self, spec))
        return MetricResult(
            name=name,
            values={name + suffix: float(value) for suffix, value in values.items()},
            num_real=min(spec.num_images, dataset.num_images),
            num_fake=spec.num_images,
            feature_network=network.name,
            weights_sha256=network.weights_sha256,
            resize=network.resize_name(*dataset.shape[1:]),
            image_shape=list(dataset.shape),
            mirror=self._mirror,
            dataset=dataset.name,
            dataset_hash=dataset.content_hash,
            seed=self._seed,
            seconds=time.monotonic() - begin,
        )

    def write(self, directory: os.PathLike | str, snapshot: str, result: MetricResult) -> None:
        """Appends a result to the files of a run directory: `write_result`."""
        write_result(directory, snapshot, result)

    def real_statistics(self, network_name: str, num_images: int) -> FeatureStatistics:
        """Statistics of the first `num_images` reals (all, if there are fewer): from memory, disk, or computed."""
        dataset, network = self._dataset, self._networks[network_name]
        count = min(num_images, dataset.num_images)
        if (network_name, count) not in self._real:
            resize = network.resize_name(*dataset.shape[1:])
            key = RealKey(
                dataset.content_hash, dataset.shape, network.name, network.weights_sha256, resize, count, self._mirror
            )
            statistics = load_real_statistics(key, self._cache_dir)
            if statistics is None:
                running = RunningStatistics(network.num_features)
                for features in self._batches(network_name, count, self._feed_reals, f"reals ({network.name})", False):
                    running.add(features)
                statistics = running.result()
                save_real_statistics(key, statistics, self._cache_dir)
            self._real[network_name, count] = statistics
        return self._real[network_name, count]

    def fake_features(self, network_name: str, num_images: int) -> Iterator[np.ndarray]:
        """Features of fakes 0 ... num_images - 1 in this order, float32 [n, D] at a time."""
        yield from self._batches(network_name, num_images, self._feed_fakes, "fakes", True)

    def _batches(self, network_name: str, count: int, feed: Any, title: str, check: bool) -> Iterator[np.ndarray]:
        bar = tqdm(total=count, desc=title, unit="img", disable=not self._progress, file=sys.stderr, leave=False)
        with bar:
            begin = 0
            while begin < count:
                fetches, feeds, start = [], {}, begin
                for tower in self._towers:
                    indices = np.arange(begin, min(begin + self._minibatch, count))
                    if len(indices):
                        feeds |= feed(tower, indices)
                        fetches.append((tower.features[network_name], tower.finite if check else ()))
                        begin += len(indices)
                for features, finite in tfutil.run(fetches, feeds):
                    if check and not finite:
                        raise UserError(
                            f"the network made images with values that are not finite (fakes {start} to {begin - 1}): "
                            "the training has diverged; go back to an earlier snapshot"
                        )
                    yield features
                bar.update(begin - start)

    def _feed_reals(self, tower: _Tower, indices: np.ndarray) -> dict[tf.Tensor, Any]:
        images = self._dataset.read(indices)
        if self._mirror:
            flip = mirrored(indices)
            images[flip] = images[flip][..., ::-1]
        return {tower.images: images}

    def _feed_fakes(self, tower: _Tower, indices: np.ndarray) -> dict[tf.Tensor, Any]:
        if self._label_size:
            labels = labels_of(self._seed, indices, self._dataset.labels)
        else:
            labels = np.zeros((len(indices), 0), np.float32)
        latents = latents_of(self._seed, indices, self._latent_size)
        return {tower.latents: latents, tower.labels: labels, tower.first_index: indices[0]}


class _Inputs:
    """The `MetricInputs` of one evaluation."""

    def __init__(self, evaluator: Evaluator, spec: MetricSpec) -> None:
        self._evaluator, self._spec = evaluator, spec
        self.num_features = evaluator._networks[spec.feature_network].num_features

    def real_statistics(self) -> FeatureStatistics:
        return self._evaluator.real_statistics(self._spec.feature_network, self._spec.num_images)

    def fake_features(self) -> Iterator[np.ndarray]:
        return self._evaluator.fake_features(self._spec.feature_network, self._spec.num_images)


def _default_minibatch(height: int, width: int) -> int:
    side = max(height, width)
    return 32 if side <= 128 else 16 if side <= 256 else 8


def evaluate(
    metric: str | MetricSpec,
    Gs: Generator,  # noqa: N803
    dataset: Dataset,
    *,
    num_gpus: int = 1,
    minibatch_gpu: int | None = None,
    inception: str | None = None,
    inception_sha256: str | None = None,
    seed: int = 0,
    mirror: bool = False,
    cache_dir: os.PathLike | str | None = None,
    progress: bool = True,
) -> MetricResult:
    """Measures once. Arguments and errors are those of `Evaluator` and its `run`; every call adds to the graph."""
    evaluator = Evaluator(
        [metric],
        Gs,
        dataset,
        num_gpus=num_gpus,
        minibatch_gpu=minibatch_gpu,
        inception=inception,
        inception_sha256=inception_sha256,
        seed=seed,
        mirror=mirror,
        cache_dir=cache_dir,
        progress=progress,
    )
    return evaluator.run(metric if isinstance(metric, str) else metric.name)
