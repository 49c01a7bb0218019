"""Metrics by name. A new one is a file with its computation and a row in the table here. Needs no TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from dnnlib.util import UserError, list_nearest
from metrics.feature_names import EFFNET, INCEPTION
from metrics.frechet import compute_frechet
from metrics.inputs import MetricInputs


@dataclass(frozen=True)
class MetricSpec:
    """A metric: its name, the network whose features it uses, the number of images of each kind, and the computation.

    `compute` returns suffix -> value; the names of the results are the metric's name with the suffix.
    """

    name: str
    feature_network: str
    num_images: int
    compute: Callable[[MetricInputs], dict[str, float]]


@dataclass(frozen=True)
class _Family:
    """Metrics whose names differ by the number of images: `fid<N>k` with N thousand of them."""

    pattern: str
    feature_network: str
    compute: Callable[[MetricInputs], dict[str, float]]
    usual: tuple[int, ...]  # thousands, for listings
    meaning: str


_FAMILIES = (
    _Family("fid<N>k", INCEPTION, compute_frechet, (50, 5), "Fréchet Inception distance"),
    _Family("fd<N>k_effnet", EFFNET, compute_frechet, (50, 5), "Fréchet distance in EfficientNet-lite0"),
)


def list_metrics() -> dict[str, str]:
    """Names with their meaning: the usual ones, then the patterns for other numbers of images."""
    table = {f.pattern.replace("<N>", str(n)): f"{f.meaning}, {n}k images" for f in _FAMILIES for n in f.usual}
    return table | {f.pattern: f"{f.meaning}, N thousand images" for f in _FAMILIES}


def find_metric(name: str) -> MetricSpec:
    """The metric of that name. Raises `UserError` listing those that exist."""
    for family in _FAMILIES:
        before, after = family.pattern.split("<N>")
        match = re.fullmatch(f"{before}([1-9][0-9]{{0,4}}){after}", name)
        if match:
            return MetricSpec(name, family.feature_network, int(match[1]) * 1000, family.compute)
    raise UserError(f"unknown metric {name!r}: {list_nearest(name, list_metrics())}")


def parse_metrics(text: str) -> list[MetricSpec]:
    """Metrics from a list with commas; `none` and an empty text are no metrics. Raises `UserError` as `find_metric`."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    if names == ["none"]:
        return []
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"the metric {name} is named more than once")
    return [find_metric(name) for name in names]
