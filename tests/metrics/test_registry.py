"""Metrics by name, and refusals that list what exists."""

from __future__ import annotations

import pytest

from dnnlib.util import UserError
from metrics.features import NAMES, load_feature_network
from metrics.frechet import compute_frechet
from metrics.registry import find_metric, list_metrics, parse_metrics


@pytest.mark.parametrize(
    ("name", "network", "count"),
    [
        ("fid50k", "inception-2015-12-05", 50_000),
        ("fid5k", "inception-2015-12-05", 5_000),
        ("fid123k", "inception-2015-12-05", 123_000),
        ("fd50k_effnet", "effnet_lite0", 50_000),
        ("fd5k_effnet", "effnet_lite0", 5_000),
        ("fd1k_effnet", "effnet_lite0", 1_000),
    ],
)
def test_families(name, network, count):
    spec = find_metric(name)
    assert (spec.name, spec.feature_network, spec.num_fake, spec.compute) == (name, network, count, compute_frechet)


@pytest.mark.parametrize("name", ["fid", "fidk", "fid0k", "fid05k", "fid5", "FID50k", "fid50k ", "fd5k"])
def test_unknown_names_list_what_exists(name):
    with pytest.raises(UserError, match="unknown metric .* known: .*fd50k_effnet, .*fid50k") as info:
        find_metric(name)
    assert repr(name) in str(info.value)


def test_near_misses_get_a_hint():
    with pytest.raises(UserError, match="unknown metric 'fdi50k': did you mean 'fid50k'"):
        find_metric("fdi50k")


def test_lists():
    assert [spec.name for spec in parse_metrics(" fid50k, fd5k_effnet,")] == ["fid50k", "fd5k_effnet"]
    assert parse_metrics("none") == parse_metrics("") == []
    with pytest.raises(UserError, match="the metric fid5k is named more than once"):
        parse_metrics("fid5k,fid5k")
    with pytest.raises(UserError, match="unknown metric 'none'"):
        parse_metrics("none,fid5k")


def test_every_listed_metric_exists_and_has_its_network():
    for name, meaning in list_metrics().items():
        assert meaning
        assert find_metric(name.replace("<N>", "7")).feature_network in {*NAMES, None}


def test_unknown_feature_network():
    with pytest.raises(UserError, match="unknown feature network 'effnet': did you mean 'effnet_lite0'"):
        load_feature_network("effnet")


def test_effnet_is_never_called_fid():
    assert all("Inception" in meaning for name, meaning in list_metrics().items() if name.startswith("fid"))
    assert all("fid" not in name for name in list_metrics() if "effnet" in name)
