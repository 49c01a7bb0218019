"""Measures a generator against a data set.

evaluator = Evaluator(["fd50k_effnet"], Gs, dataset)   # builds the graph
result = evaluator.run("fd50k_effnet")                 # adds nothing to it, so it may be called after finalize()

Several metrics of one generator are cheaper by `run_all`, which makes the fakes that they have in common once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError, list_nearest
from metrics.attributes import Attributes, build_attribute_tower, load_attributes
from metrics.conditions import conditions_of
from metrics.features import FeatureNetwork, load_feature_network
from metrics.frechet import FeatureStatistics
from metrics.inputs import AttributeSamples, Dataset, Generator
from metrics.noise import labels_of
from metrics.path_graph import build_path_tower, path_feeds
from metrics.real_sets import RealSets
from metrics.reals import Reals
from metrics.registry import ATTRIBUTES, FEATURES, PERCEPTUAL, PROBABILITIES, MetricSpec, find_metric
from metrics.report import MetricResult, write_result
from metrics.shared_fakes import (
    IMAGES,
    Answers,
    Question,
    Series,
    SharedFakes,
    describe_sharing,
    plan_sharing,
    series_of,
)
from metrics.towers import Stream, build_image_tower, check_finite, on_devices
from metrics.variants import DEFAULT_VARIANT, find_variant


class Evaluator:
    """The graph for some metrics on one generator and one data set.

    Args:
        metrics: names or `MetricSpec`s that `run` may be asked for.
        Gs: a `Network`; used in validation mode: no truncation, random noise.
        dataset: a `TFRecordDataset` of the same image shape: what the network was trained on. Metrics named `_full`
            look at all images of its directory, even if it was opened with fewer.
        num_gpus: towers that share the work.
        minibatch_gpu: images per tower at a time; None: 32 up to 128 pixels (on CPUs 16, whose
            activations stay in the cache), 16 up to 256, else 8.
        inception, inception_sha256, weights: see `load_feature_network`.
        attributes: classifiers or table for linear separability: see `load_attributes`.
        variant: whose conventions to follow where they differ: see `metrics.variants`.
        seed: of latents, noise and labels of the fakes, >= 0.
        mirror: mirror half of the reals; for generators trained on mirrored images.
        cache_dir: folder for statistics and features of reals; None: the user's cache.
        progress: show a bar on stderr.

    Nothing here depends on the towers, or on the size of minibatches beyond rounding: what is random about a fake
    depends on the seed and its index.
    Attributes: interrupted (asked before every minibatch; once it says true, measuring ends with
    `dnnlib.submission.stop.Stopped`; at first it never does).
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
        weights: Mapping[str, Any] | None = None,
        attributes: os.PathLike | str | None = None,
        variant: str = DEFAULT_VARIANT,
        seed: int = 0,
        mirror: bool = False,
        cache_dir: os.PathLike | str | None = None,
        progress: bool = True,
    ) -> None:
        specs = [find_metric(m) if isinstance(m, str) else m for m in metrics]
        self._specs = {spec.name: spec for spec in specs}
        _check(Gs, dataset, num_gpus, minibatch_gpu, seed)
        self.variant = find_variant(variant)
        self._dataset, self._sets, self._seed, self._mirror = dataset, RealSets(dataset), seed, mirror
        self._cache_dir, self._progress = cache_dir, progress
        self.interrupted: Callable[[], bool] = lambda: False
        self._label_size = Gs.input_shapes[1][1]
        self._minibatch = minibatch_gpu or _default_minibatch(*dataset.shape[1:])
        places = {"inception": inception, "inception_sha256": inception_sha256, "weights": weights}
        given = {name: value for name, value in places.items() if value}
        self.networks: dict[str, FeatureNetwork] = {}
        for name in dict.fromkeys(spec.feature_network for spec in specs if spec.feature_network is not None):
            self.networks[name] = load_feature_network(name, **given)
        self._attributes: Attributes | None = None
        if any(spec.output == ATTRIBUTES for spec in specs):
            self._attributes = load_attributes(attributes)
        for spec in specs:
            self._check_spec(spec)
            self._sets.of(spec)  # now, not in the middle of a training, if it cannot be opened
        self._build(Gs, specs, num_gpus)

    @property
    def names(self) -> list[str]:
        """The metrics that `run` may be asked for."""
        return list(self._specs)

    def _check_spec(self, spec: MetricSpec) -> None:
        if spec.output != ATTRIBUTES and not hasattr(self.networks[spec.feature_network], spec.output):
            raise UserError(f"{spec.name}: the feature network {spec.feature_network} has no {spec.output}")
        table = None if self._attributes is None else self._attributes.scores
        if spec.output == ATTRIBUTES and table is not None and len(table) < spec.num_fake:
            raise UserError(f"{spec.name} needs attributes of {spec.num_fake} fakes, the table has {len(table)}")

    def _build(self, Gs: Generator, specs: list[MetricSpec], num_gpus: int) -> None:  # noqa: N803
        seed, networks = self._seed, self.networks
        outputs = [(spec.feature_network, spec.output) for spec in specs if spec.output in (FEATURES, PROBABILITIES)]
        paths = [(spec.feature_network, spec.path.crop) for spec in specs if spec.output == PERCEPTUAL]
        builders: dict[str, Callable[[], Any]] = {}
        if outputs:
            builders["images"] = lambda: build_image_tower(Gs, outputs, networks, seed, self.variant)
        if paths:
            builders["paths"] = lambda: build_path_tower(Gs, paths, networks, seed, self.variant)
        if self._attributes is not None:
            builders["attributes"] = lambda: build_attribute_tower(Gs, self._attributes, seed, self.variant)
        with tf.name_scope("Metrics"), tf.control_dependencies(None):
            towers = {kind: on_devices(num_gpus, build) for kind, build in builders.items()}
        small = {"paths": max(self._minibatch // 4, 1)}  # two images each, and large embeddings
        self._streams = {
            kind: Stream(each, small.get(kind, self._minibatch), self._progress, lambda: self.interrupted())
            for kind, each in towers.items()
        }
        self._reals = Reals(self._sets, networks, self._streams.get("images"), self._mirror, self._cache_dir, specs)
        self._shared: SharedFakes | None = None

    def run_all(self, names: Sequence[str]) -> Iterator[MetricResult]:
        """Measures one metric after the other as `run` does, but makes the fakes that several look at once.

        A metric of fewer fakes looks at the first ones of another's. The generator may not change before the last
        result. Raises `UserError` as `run` does.
        """
        specs = [self._spec(name) for name in names]
        shared = SharedFakes(plan_sharing(specs), self._answers, self._cache_dir)
        try:
            for name in names:
                self._shared = shared
                try:
                    result = self.run(name)
                finally:
                    self._shared = None  # whoever calls `run` between two results may have changed the generator
                yield result
        finally:
            shared.close()

    def describe_sharing(self, names: Sequence[str]) -> list[str]:
        """What `run_all` makes once for several of these metrics: one sentence each."""
        return describe_sharing([self._spec(name) for name in names])

    def run(self, name: str) -> MetricResult:
        """Measures the generator as it is now, in the default session.

        Raises `UserError`: not one of the metrics of this evaluator, or images with values that are not finite.
        """
        spec = self._spec(name)
        begin = time.monotonic()
        inputs = _Inputs(self, spec)
        values = spec.compute(inputs)
        for suffix, value in values.items():
            if not np.isfinite(value):
                raise UserError(f"{name}{suffix} came out as {value}, which says nothing: no result is kept")
        return MetricResult(
            name=name,
            values={name + suffix: float(value) for suffix, value in values.items()},
            seconds=time.monotonic() - begin,
            higher_is_better=spec.higher_is_better,
            **self.conditions(name),
        )

    def conditions(self, name: str) -> dict[str, Any]:
        """What a value of the metric depends on beside the generator, as fields of `MetricResult`."""
        given = (self._sets, self.networks, self._attributes, self.variant, self._seed, self._mirror)
        return conditions_of(self._spec(name), *given)

    def write(self, directory: os.PathLike | str, snapshot: str, result: MetricResult) -> None:
        """Appends a result to the files of a run directory: `write_result`."""
        write_result(directory, snapshot, result)

    def _spec(self, name: str) -> MetricSpec:
        if name not in self._specs:
            raise UserError(f"this evaluator was not built for the metric {name!r}: {list_nearest(name, self._specs)}")
        return self._specs[name]

    def fake_features(self, spec: MetricSpec) -> Iterator[np.ndarray]:
        """What the metric asks of the feature network for fakes 0, 1, ..., float32 [n, D] at a time."""
        return check_finite(self._looked_at(spec), "fake")

    def path_distances(self, name: str) -> Iterator[np.ndarray]:
        """Perceptual distances of pairs 0, 1, ... over epsilon², float32 [n] at a time, outliers included.

        Pair i begins at `latents_of_path(seed, [i], ...)`; its images are those of a path length's name.
        """
        return self._looked_at(self._spec(name))

    def _looked_at(self, spec: MetricSpec) -> Iterator[np.ndarray]:
        shared = None if self._shared is None else self._shared.read(spec)
        if shared is not None:
            return shared
        series, question = series_of(spec)
        return (answers[question] for answers in self._answers(series, {question: spec.num_fake}))

    def _answers(self, series: Series, counts: Mapping[Question, int]) -> Iterator[Answers]:
        """Answers to the questions about images 0, 1, ... of a series, until each has `counts` or a few more."""

        def step(tower: Any, indices: np.ndarray) -> tuple[Any, tf.Tensor, dict[tf.Tensor, Any]]:
            asked = [question for question, count in counts.items() if indices[0] < count]
            if series == IMAGES:
                return {q: tower.outputs[q] for q in asked}, tower.finite, self._feeds(tower, indices)
            feeds = path_feeds(tower, *series[1:], self._seed, indices, self._labels(indices), self.variant)
            return {q: tower.distances[q] for q in asked}, tower.finite, feeds

        title = "fakes" if series == IMAGES else "pairs"
        return self._streams[series[0]](step, max(counts.values()), title)

    def _feeds(self, tower: Any, indices: np.ndarray) -> dict[tf.Tensor, Any]:
        return tower.inputs.feeds(self._seed, indices, self._labels(indices))

    def attribute_samples(self, spec: MetricSpec) -> Iterator[AttributeSamples]:
        """Latents of fakes with the scores of their attributes."""
        table = self._attributes.scores

        def step(tower: Any, indices: np.ndarray) -> tuple[Any, tf.Tensor, dict[tf.Tensor, Any]]:
            fetches = (tower.inputs.latents, tower.dlatents, () if table is not None else tower.scores)
            return fetches, tower.finite, self._feeds(tower, indices)

        begin = 0
        for latents, dlatents, scores in self._streams["attributes"](step, spec.num_fake, "fakes"):
            end = begin + len(latents)
            yield AttributeSamples(latents, dlatents, scores if table is None else table[begin:end])
            begin = end

    def _labels(self, indices: np.ndarray) -> np.ndarray:
        if self._label_size:
            return labels_of(self._seed, indices, self._dataset.labels)
        return np.zeros((len(indices), 0), np.float32)


class _Inputs:
    """The `MetricInputs` of one evaluation."""

    def __init__(self, evaluator: Evaluator, spec: MetricSpec) -> None:
        self._evaluator, self._spec = evaluator, spec
        self.progress = evaluator._progress
        self.num_real, self.num_fake = evaluator._reals.count(spec), spec.num_fake
        self.variant = evaluator.variant.for_full() if spec.full else evaluator.variant
        network = evaluator.networks.get(spec.feature_network)
        self.num_features = network.num_features if spec.output == FEATURES else getattr(network, "num_classes", 0)

    def real_statistics(self) -> FeatureStatistics:
        return self._evaluator._reals.statistics(self._spec)

    def real_features(self) -> Iterator[np.ndarray]:
        return self._evaluator._reals.features(self._spec)

    def fake_features(self) -> Iterator[np.ndarray]:
        return self._evaluator.fake_features(self._spec)

    def path_distances(self) -> Iterator[np.ndarray]:
        return self._evaluator.path_distances(self._spec.name)

    def attribute_samples(self) -> Iterator[AttributeSamples]:
        return self._evaluator.attribute_samples(self._spec)


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


def _default_minibatch(height: int, width: int) -> int:
    side = max(height, width)
    return (32 if tfutil.num_gpus() else 16) if side <= 128 else 16 if side <= 256 else 8


def evaluate(
    metric: str | MetricSpec,
    Gs: Generator,  # noqa: N803
    dataset: Dataset,
    *,
    num_gpus: int = 1,
    minibatch_gpu: int | None = None,
    inception: str | None = None,
    inception_sha256: str | None = None,
    weights: Mapping[str, Any] | None = None,
    attributes: os.PathLike | str | None = None,
    variant: str = DEFAULT_VARIANT,
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
        weights=weights,
        attributes=attributes,
        variant=variant,
        seed=seed,
        mirror=mirror,
        cache_dir=cache_dir,
        progress=progress,
    )
    return evaluator.run(metric if isinstance(metric, str) else metric.name)
