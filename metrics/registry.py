"""Metrics by name. A new one is a file with its computation and a row in the table here. Needs no TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dnnlib.util import UserError, list_nearest
from metrics.diversity import compute_diversity
from metrics.feature_names import EFFNET, INCEPTION, VGG16, VGG16_LPIPS
from metrics.frechet import compute_frechet
from metrics.inception_score import compute_inception_score
from metrics.inputs import MetricInputs
from metrics.kernel_distance import compute_kernel_distance
from metrics.path_length import PathSampling, compute_path_length
from metrics.precision_recall import compute_precision_recall
from metrics.separability import compute_separability

FEATURES, PROBABILITIES, PERCEPTUAL, ATTRIBUTES = "features", "probabilities", "perceptual", "attributes"
ALL = None  # images of the data set

Compute = Callable[[MetricInputs], dict[str, float]]
Usual = tuple[int, ...] | dict[str, int]  # thousands of images, or names with theirs
Real = int | str | None


@dataclass(frozen=True)
class MetricSpec:
    """A metric: what is looked at, with what, how many, and the computation.

    feature_network: name, or None for a metric of attribute classifiers; output: what is asked of the network, one of
    FEATURES, PROBABILITIES, PERCEPTUAL, or ATTRIBUTES; compute: returns suffix -> value, and the names of the results
    are the metric's name with the suffix; num_fake, num_real: most images that are used (ALL: the whole data set);
    full: reals are all images of the data set and never mirrored, whatever part of them the training used and whether
    it mirrored them; keep_as: type of the features of reals on disk, None for metrics that need their statistics alone;
    path: of path lengths; higher_is_better: of the first result.
    """

    name: str
    feature_network: str | None
    compute: Compute
    num_fake: int
    num_real: int | None = 0
    output: str = FEATURES
    full: bool = False
    keep_as: str | None = None
    path: PathSampling | None = None
    higher_is_better: bool = False


@dataclass(frozen=True)
class _Family:
    """Metrics whose names differ by the number of fakes: `fid<N>k` with N thousand of them.

    usual: name -> thousands, for listings; these names exist even if they do not have the form of the pattern.
    real: "same" as many reals as fakes, else the most that are used. options: further fields of `MetricSpec`.
    """

    pattern: str
    feature_network: str | None
    compute: Compute
    meaning: str
    usual: dict[str, int]
    real: int | None | str = 0
    options: dict[str, Any] = field(default_factory=dict)

    def find(self, name: str) -> MetricSpec | None:
        """The member of that name."""
        before, after = self.pattern.split("<N>")
        match = re.fullmatch(f"{before}([1-9][0-9]{{0,4}}){after}", name)
        thousands = int(match[1]) if match else self.usual.get(name)
        if thousands is None:
            return None
        count = thousands * 1000
        num_real = count if self.real == "same" else self.real
        return MetricSpec(name, self.feature_network, self.compute, count, num_real, **self.options)


def _families(tag: str, distance: str, by: str, names: tuple[str, str, str, str]) -> list[_Family]:
    """The published metrics on one set of networks.

    tag: end of their names; distance, by: words for the networks; names: networks for distances, scores, manifolds and
    paths.
    """
    inception, classes, vgg, lpips = names
    fid, kid = ("fd", "kd") if tag else ("fid", "kid")
    rows = []

    def add(
        pattern: str, network: str, compute: Compute, meaning: str, usual: Usual, real: Real, options: dict[str, Any]
    ) -> None:
        if isinstance(usual, tuple):
            usual = {pattern.replace("<N>", str(n)): n for n in usual}
        usual = {name + tag: n for name, n in usual.items()}
        rows.append(_Family(pattern + tag, network, compute, meaning, usual, real, options))

    full = {"full": True}
    add(f"{fid}<N>k", inception, compute_frechet, f"Fréchet {distance}", (50, 5), "same", {})
    add(f"{fid}<N>k_full", inception, compute_frechet, f"Fréchet {distance} to all reals", (50,), ALL, full)
    meaning = f"kernel {distance}"
    kept = {"keep_as": "float32"}
    add(f"{kid}<N>k", inception, compute_kernel_distance, meaning, (50, 5), "same", kept)
    meaning += " to all reals (1M at most)"
    add(f"{kid}<N>k_full", inception, compute_kernel_distance, meaning, (50,), 1_000_000, kept | full)
    options = {"output": PROBABILITIES, "higher_is_better": True}
    add("is<N>k", classes, compute_inception_score, f"inception score{by}", (50,), 0, options)
    better = {"higher_is_better": True}
    meaning = f"diversity: {distance} between fakes, and to the nearest"
    add("diversity<N>k", inception, compute_diversity, meaning, (1,), 0, better)
    options = {"keep_as": "float16", "higher_is_better": True}
    meaning = f"precision and recall{by}"
    add("pr<N>k3", vgg, compute_precision_recall, meaning, (50,), "same", options)
    meaning += ", all reals (200k at most)"
    add("pr<N>k3_full", vgg, compute_precision_recall, meaning, (50,), 200_000, options | full)
    for name, pattern, space, ends, crop in (
        ("ppl_zfull", "ppl<N>k_zfull", "z", "full", True),
        ("ppl_wfull", "ppl<N>k_wfull", "w", "full", True),
        ("ppl_zend", "ppl<N>k_zend", "z", "end", True),
        ("ppl_wend", "ppl<N>k_wend", "w", "end", True),
        ("ppl2_wend", "ppl2_<N>k_wend", "w", "end", False),
    ):
        meaning = f"perceptual path length{by}, {'ends of ' if ends == 'end' else ''}paths in {space}"
        meaning += ", centre crop" if crop else ", whole images"
        options = {"output": PERCEPTUAL, "path": PathSampling(space, ends, crop)}
        add(pattern, lpips, compute_path_length, meaning, {name: 50}, 0, options)
    return rows


_FAMILIES = (
    *_families("", "Inception distance", "", (INCEPTION, INCEPTION, VGG16, VGG16_LPIPS)),
    *_families("_effnet", "distance in EfficientNet-lite0", " by EfficientNet-lite0", (EFFNET,) * 4),
    _Family(
        "ls<N>k", None, compute_separability, "linear separability of attributes", {"ls": 200},
        options=dict(output=ATTRIBUTES),
    ),
)  # fmt: skip


def list_metrics() -> dict[str, str]:
    """Names with their meaning: the usual ones, then the patterns for other numbers of images."""
    table = {name: f"{f.meaning}, {n}k images" for f in _FAMILIES for name, n in f.usual.items()}
    return table | {f.pattern: f"{f.meaning}, N thousand images" for f in _FAMILIES}


def find_metric(name: str) -> MetricSpec:
    """The metric of that name. Raises `UserError` listing those that exist."""
    for family in _FAMILIES:
        spec = family.find(name)
        if spec is not None:
            return spec
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
