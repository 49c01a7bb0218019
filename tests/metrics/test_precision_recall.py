"""Precision and recall on manifolds that were built to have known ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import metrics.precision_recall as module
from dnnlib.util import UserError
from metrics import progress
from metrics.precision_recall import compute_precision_recall, precision_recall, radii


def brute_force(reals, fakes, k=3):
    """The definition with all distances at once, float64."""

    def inside(samples, manifold):
        within = np.sort(cdist(manifold, manifold), axis=1)[:, k]  # column 0 is the point itself
        return (cdist(samples, manifold) <= within).any(axis=1).mean()

    return inside(fakes, reals), inside(reals, fakes)


def cluster(rng, center, count):
    return center + 0.3 * rng.standard_normal((count, 2))


def test_clusters_apart():
    # Reals in places a, b; fakes in b, c. Clusters are far apart, so only those in b see each other.
    rng = np.random.default_rng(0)
    a, b, c = np.array([0, 0]), np.array([50, 0]), np.array([0, 50])
    shared = cluster(rng, b, 60)
    reals = np.concatenate([cluster(rng, a, 40), shared])
    fakes = np.concatenate([shared, cluster(rng, c, 20)])
    assert precision_recall(reals.astype(np.float32), fakes.astype(np.float32)) == (60 / 80, 60 / 100)


def test_same_and_disjoint():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 200, 5)).astype(np.float32)
    assert precision_recall(x, x) == (1, 1)
    assert precision_recall(x, y + 100) == (0, 0)


def test_a_point_of_many_fakes_is_precise_and_forgets():
    # All fakes sit on one real image: precision 1; their manifold has radius 0 and holds that image alone.
    rng = np.random.default_rng(2)
    reals = rng.standard_normal((100, 4)).astype(np.float32)
    fakes = np.repeat(reals[:1], 30, axis=0)
    assert precision_recall(reals, fakes) == (1, pytest.approx(0.01))


def test_on_a_line_by_hand():
    # Reals 0, 1, 2, ..., 9. With k = 3 an inner point reaches the second neighbour on a side, the ends the third.
    reals = np.arange(10, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(np.sqrt(radii(reals)), [3, 2, 2, 2, 2, 2, 2, 2, 2, 3])
    samples = np.array([[-3.0], [-3.1], [12.0], [12.1], [4.5]], np.float32)
    assert precision_recall(reals, samples)[0] == pytest.approx(3 / 5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_is_the_definition(dtype):
    rng = np.random.default_rng(3)
    reals = rng.standard_normal((150, 6)).astype(dtype)
    fakes = (rng.standard_normal((130, 6)) * 0.8 + 0.3).astype(dtype)
    expected = brute_force(reals.astype(np.float64), fakes.astype(np.float64))
    assert precision_recall(reals, fakes) == pytest.approx(expected)
    assert 0.1 < expected[0] < 1 and 0.1 < expected[1] < 1


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (21, 7), (32, 16), (40, 8), (1000, 1000)])
def test_blocks_make_no_difference(monkeypatch, rows, columns):
    rng = np.random.default_rng(4)
    # Values on a grid, and a mean of 1.5, make every distance exact, and ties frequent.
    half, fakes = rng.integers(0, 4, (2, 45, 3)).astype(np.float32)
    reals = np.concatenate([half, 3 - half])
    whole = precision_recall(reals, fakes), radii(reals)
    monkeypatch.setattr(module, "_ROWS", rows)
    monkeypatch.setattr(module, "_COLUMNS", columns)
    assert precision_recall(reals, fakes) == whole[0]
    np.testing.assert_array_equal(radii(reals), whole[1])


def test_far_from_the_origin():
    """There lengths are large and distances small: in float32 these are lost unless all is seen from the mean."""
    rng = np.random.default_rng(5)
    reals = (30 + 0.5 * rng.standard_normal((150, 64))).astype(np.float16)
    fakes = (30 + 0.5 * rng.standard_normal((130, 64))).astype(np.float16)
    reals, fakes = np.tile(reals, (1, 64)), np.tile(fakes, (1, 64))
    expected = brute_force(reals.astype(np.float64), fakes.astype(np.float64))
    assert precision_recall(reals, fakes) == pytest.approx(expected)
    assert 0.1 < expected[0] < 1 and 0.1 < expected[1] < 1


def test_radii_far_from_the_origin():
    x = (1000 + np.random.default_rng(6).standard_normal((50, 64))).astype(np.float32)
    expected = np.sort(cdist(x.astype(np.float64), x.astype(np.float64)), axis=1)[:, 3]
    np.testing.assert_allclose(np.sqrt(np.ravel(radii(x))), expected, rtol=1e-4)


def test_too_few():
    with pytest.raises(UserError, match="more than 3 images, found 3"):
        radii(np.zeros((3, 2), np.float32))


def test_a_bar_tells_how_far_it_is(monkeypatch, capsys):
    """Of large sets the distances take minutes."""
    monkeypatch.setattr(module, "_ROWS", 20)
    monkeypatch.setattr(module, "_COLUMNS", 10)
    bars = []

    def progress_bar(*args, **options):
        bars.append((options["shown"], progress.progress_bar(*args, **options)))
        return bars[-1][1]

    monkeypatch.setattr(module, "progress_bar", progress_bar)
    reals, fakes = (np.random.default_rng(n).standard_normal((n, 3)).astype(np.float32) for n in (55, 30))
    precision_recall(reals, fakes, progress=True)
    precision_recall(reals, fakes)
    assert "distances" in capsys.readouterr().err
    # 55 reals: strips of 20, 20, 15 rows against 2, 4, 6 blocks of columns; 30 fakes: 2 and 3; between them 2 x 6.
    assert [(shown, bar.total) for shown, bar in bars] == [(True, 29), (False, 29)] and bars[0][1].n == 29


class Inputs:
    """Arrays cut into batches."""

    progress = False

    def __init__(self, reals, fakes):
        self.reals, self.fakes = reals, fakes
        self.num_real, self.num_fake, self.num_features = len(reals), len(fakes), reals.shape[1]

    def real_features(self):
        yield from np.array_split(self.reals, 4)

    def fake_features(self):
        yield from np.array_split(self.fakes, 3)


def test_metric_rounds_features_to_float16():
    rng = np.random.default_rng(5)
    reals, fakes = rng.standard_normal((2, 80, 3)).astype(np.float32)
    precision, recall = precision_recall(reals.astype(np.float16), fakes.astype(np.float16))
    assert compute_precision_recall(Inputs(reals, fakes)) == {"_precision": precision, "_recall": recall}


def test_features_beyond_float16_are_refused():
    reals = np.ones((8, 2), np.float32)
    with pytest.raises(UserError, match="beyond the range of float16"):
        compute_precision_recall(Inputs(reals, reals * 1e5))
