"""Diversity against closed forms and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist

from dnnlib.util import UserError
from metrics import diversity as module
from metrics.diversity import compute_diversity, diversity, nearest_distance
from metrics.feature_names import EFFNET, INCEPTION
from metrics.registry import find_metric, list_metrics
from metrics.run_files import better_is


def test_closed_forms():
    assert diversity(np.full((50, 7), 3.25, np.float32)) == nearest_distance(np.full((50, 7), 3.25, np.float32)) == 0
    corners = np.eye(10, dtype=np.float32) * 3  # all as far from each other
    assert diversity(corners) == pytest.approx(3 * np.sqrt(2)) == nearest_distance(corners)
    line = np.arange(6.0)[:, None]  # mean of |i - j| is (n + 1) / 3
    assert diversity(line) == pytest.approx(7 / 3) and nearest_distance(line) == pytest.approx(1)
    # Two groups of equals: half of the pairs and a few more lie across, and everyone has a twin.
    groups = np.repeat([[0.0, 0.0], [3.0, 4.0]], 10, axis=0)
    assert diversity(groups) == pytest.approx(5 * 100 / 190) and nearest_distance(groups) == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 40), st.integers(1, 9), st.sampled_from([np.float16, np.float32, np.float64]), st.integers(0, 99))
def test_against_scipy(n, d, dtype, seed):
    x = (np.random.default_rng(seed).normal(size=(n, d)) * 3 + 100).astype(dtype)
    exact = x.astype(np.float64)
    assert diversity(x) == pytest.approx(pdist(exact).mean(), abs=2e-4)
    distances = cdist(exact, exact)
    np.fill_diagonal(distances, np.inf)
    assert nearest_distance(x) == pytest.approx(distances.min(axis=1).mean(), abs=2e-4)


def test_blocks_change_nothing(monkeypatch):
    x = np.random.default_rng(0).normal(size=(150, 20)).astype(np.float32)
    whole = diversity(x), nearest_distance(x)
    monkeypatch.setattr(module, "_BLOCK", 64)
    assert (diversity(x), nearest_distance(x)) == pytest.approx(whole, rel=1e-12)


def test_it_falls_with_a_collapse():
    """Into one image, and into a few groups, which the nearest distance sees."""
    rng = np.random.default_rng(0)
    healthy = rng.normal(size=(500, 64))
    one = healthy[:1] + 0.05 * rng.normal(size=(500, 64))
    groups = healthy[rng.integers(10, size=500)] + 0.05 * rng.normal(size=(500, 64))
    assert diversity(one) < 0.1 * diversity(healthy) and nearest_distance(one) < 0.1 * nearest_distance(healthy)
    assert diversity(groups) > 0.8 * diversity(healthy) and nearest_distance(groups) < 0.1 * nearest_distance(healthy)


def test_refusals():
    with pytest.raises(UserError, match=r"at least 2 images, found shape \[1, 3\]"):
        diversity(np.zeros((1, 3)))
    with pytest.raises(UserError, match=r"found shape \[3\]"):
        nearest_distance(np.zeros(3))
    with pytest.raises(UserError, match="the features of fake 2 are not finite"):
        diversity(np.array([[1.0], [2.0], [np.nan]]))


def test_names():
    assert {"diversity1k", "diversity1k_effnet"} <= list_metrics().keys()
    spec = find_metric("diversity1k_effnet")
    assert (spec.feature_network, spec.num_fake, spec.num_real, spec.compute) == (EFFNET, 1000, 0, compute_diversity)
    assert spec.higher_is_better and find_metric("diversity2k").feature_network == INCEPTION
    # Of snapshots none is called the best by it.
    assert better_is("diversity1k_effnet") == better_is("diversity1k_effnet_nearest") == 0
