"""The conditions that a value holds under, the same for a result and for the question whether there is one already."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.attributes import Attributes, load_attributes
from metrics.features import FeatureNetwork, load_feature_network
from metrics.path_graph import describe_preprocessing
from metrics.real_sets import RealSets, filter_of
from metrics.registry import ATTRIBUTES, PERCEPTUAL, MetricSpec
from metrics.variants import Variant, find_variant

#: Fields for people that values do not depend on, since the hash of the data says more: data under another name are the
#: same data.
_NAMES = ("dataset", "dataset_filter")


def conditions_of(
    spec: MetricSpec,
    sets: RealSets,
    networks: Mapping[str, FeatureNetwork],
    attributes: Attributes | None,
    variant: Variant,
    seed: int,
    mirror: bool,
) -> dict[str, Any]:
    """Fields of `metrics.report.MetricResult`: all but the values, the time and what is said about them.

    networks: by name, with that of the metric; attributes: for metrics that look with these; mirror: the training
    mirrored reals.
    """
    return _of_images(spec, sets, variant, seed, mirror) | _of_look(spec, sets, networks, attributes, variant)


def _of_images(spec: MetricSpec, sets: RealSets, variant: Variant, seed: int, mirror: bool) -> dict[str, Any]:
    dataset, num_real = sets.of(spec), sets.count(spec)
    return {
        "num_real": num_real,
        "num_fake": spec.num_fake,
        "image_shape": list(dataset.shape),
        "mirror": num_real > 0 and mirror and not spec.full,
        "dataset": dataset.name,
        "dataset_hash": dataset.content_hash,
        "dataset_filter": filter_of(dataset),
        "validation": bool(getattr(dataset, "validation", False)),
        "seed": seed,
        "variant": variant.name,
    }


def _of_look(
    spec: MetricSpec,
    sets: RealSets,
    networks: Mapping[str, FeatureNetwork],
    attributes: Attributes | None,
    variant: Variant,
) -> dict[str, Any]:
    if spec.output == ATTRIBUTES:
        return {"feature_network": attributes.description, "weights_sha256": attributes.sha256, "resize": "none"}
    network, size = networks[spec.feature_network], sets.of(spec).shape[1:]
    if spec.output == PERCEPTUAL:
        resize = describe_preprocessing(network, *size, spec.path.crop, variant)
    else:
        resize = network.resize_name(*size)
    return {"feature_network": network.name, "weights_sha256": network.weights_sha256, "resize": resize}


def expected_conditions(
    spec: MetricSpec,
    sets: RealSets,
    *,
    inception: str | None,
    inception_sha256: str | None,
    weights: Mapping[str, Any] | None,
    attributes: os.PathLike | str | None,
    variant: str,
    seed: int,
    mirror: bool,
) -> dict[str, Any]:
    """The conditions of a measurement that `metrics.evaluate.Evaluator` would make with these arguments.

    Weights or attributes that are not to be had are reported on stderr, and then conditions for them are not there.
    """
    images = _of_images(spec, sets, find_variant(variant), seed, mirror)
    try:
        networks, found = {}, None
        if spec.output == ATTRIBUTES:
            with tf.Graph().as_default(), tfutil.create_session():
                found = load_attributes(attributes)
        else:
            places = {"inception": inception, "inception_sha256": inception_sha256, "weights": weights}
            given = {name: value for name, value in places.items() if value}
            networks = {spec.feature_network: load_feature_network(spec.feature_network, **given)}
    except UserError as err:
        print(f"warning: {spec.name}: earlier results may be of other weights than now: {err}", file=sys.stderr)
        return images
    return images | _of_look(spec, sets, networks, found, find_variant(variant))


def differing(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Names of the conditions that values do not compare for, because they differ."""
    return [name for name, value in expected.items() if name not in _NAMES and found.get(name) != value]
