"""The distance against closed forms and scipy's matrix root; running statistics against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from dnnlib.util import UserError
from metrics.frechet import FeatureStatistics, RunningStatistics, compute_frechet, frechet_distance
from metrics.variants import VARIANTS


def statistics(rows):
    running = RunningStatistics(rows.shape[1])
    running.add(rows)
    return running.result()


def random_covariance(rng, size, rank=None):
    root = rng.standard_normal((size, rank or size))
    return root @ root.T


def test_one_dimension():
    a = FeatureStatistics(np.array([1.0]), np.array([[4.0]]), 10)
    b = FeatureStatistics(np.array([-2.0]), np.array([[9.0]]), 10)
    # (mu1 - mu2)^2 + (s1 - s2)^2
    assert frechet_distance(a, b) == pytest.approx(9 + 1, abs=1e-12)


def test_commuting_covariances_have_a_closed_form():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((40, 40)))
    s, t = rng.uniform(0, 3, (2, 40))
    a = FeatureStatistics(rng.standard_normal(40), basis * s**2 @ basis.T, 10)
    b = FeatureStatistics(rng.standard_normal(40), basis * t**2 @ basis.T, 10)
    expected = np.sum((a.mean - b.mean) ** 2) + np.sum((s - t) ** 2)
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-8)


def test_two_by_two_closed_form():
    # tr (M)^(1/2) = sqrt(tr M + 2 sqrt(det M)) for 2 x 2 matrices with eigenvalues >= 0.
    rng = np.random.default_rng(1)
    for _ in range(20):
        s, t = random_covariance(rng, 2), random_covariance(rng, 2)
        m = s @ t
        root = np.sqrt(np.trace(m) + 2 * np.sqrt(np.linalg.det(m)))
        a, b = FeatureStatistics(np.zeros(2), s, 9), FeatureStatistics(np.ones(2), t, 9)
        assert frechet_distance(a, b) == pytest.approx(2 + np.trace(s + t) - 2 * root, abs=1e-8)


def test_scipys_matrix_root_agrees():
    rng = np.random.default_rng(2)
    a = FeatureStatistics(rng.standard_normal(60), random_covariance(rng, 60), 9)
    b = FeatureStatistics(rng.standard_normal(60), random_covariance(rng, 60), 9)
    root = sqrtm(a.covariance @ b.covariance).real
    expected = np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rank", [1, 5, 30])
def test_fewer_samples_than_features(rank):
    rng = np.random.default_rng(3)
    covariance = random_covariance(rng, 60, rank)
    a = FeatureStatistics(np.zeros(60), covariance, rank + 1)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)
    # tr (c S)^(1/2 ...): S and 4 S commute, so the distance is tr S (1 - 2)^2.
    b = FeatureStatistics(np.zeros(60), 4 * covariance, rank + 1)
    assert frechet_distance(a, b) == pytest.approx(np.trace(covariance), rel=1e-10)


def test_constant_features():
    a = FeatureStatistics(np.zeros(3), np.zeros((3, 3)), 5)
    b = FeatureStatistics(np.ones(3), np.eye(3), 5)
    assert frechet_distance(a, a) == 0
    assert frechet_distance(a, b) == pytest.approx(6, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 12), samples=st.integers(2, 30))
def test_symmetric_and_not_negative(seed, size, samples):
    rng = np.random.default_rng(seed)
    a, b = (statistics(rng.standard_normal((samples, size)) * rng.uniform(0, 5, size)) for _ in range(2))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), abs=1e-8)
    assert frechet_distance(a, b) > -1e-8
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 2500), max_size=8))
def test_batches_make_no_difference_at_all(cuts):
    rows = np.random.default_rng(0).standard_normal((2500, 3)).astype(np.float32) + 100
    running = RunningStatistics(3)
    for part in np.split(rows, sorted(cuts)):
        running.add(part)
    found, whole = running.result(), statistics(rows)
    np.testing.assert_array_equal(found.mean, whole.mean)
    np.testing.assert_array_equal(found.covariance, whole.covariance)
    assert found.count == 2500


def test_statistics_are_numpys():
    # A mean far above the deviation shows cancellation, which sums of squares would suffer.
    rows = np.random.default_rng(0).standard_normal((3000, 5)) * [1e-3, 1, 10, 1, 1] + [1e4, 0, 0, -3, 1e6]
    found = statistics(rows)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(rows, rowvar=False), rtol=1e-7, atol=1e-7)
    np.testing.assert_array_equal(found.covariance, found.covariance.T)


def test_features_that_are_not_finite_are_named():
    running = RunningStatistics(2)
    running.add(np.zeros((7, 2)))
    bad = np.zeros((3, 2))
    bad[1, 0] = np.nan
    with pytest.raises(UserError, match="features of image 8 are not finite"):
        running.add(bad)
    broken = FeatureStatistics(np.array([np.inf]), np.eye(1), 3)
    with pytest.raises(UserError, match="not finite: remove the cached ones"):
        frechet_distance(broken, broken)


def test_too_little():
    running = RunningStatistics(2)
    running.add(np.zeros((1, 2)))
    with pytest.raises(UserError, match="needs at least 2 images, found 1"):
        running.result()
    with pytest.raises(ValueError, match=r"expected shape \[N, 2\], found \[3, 4\]"):
        running.add(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="numbers of features differ: 2 and 3"):
        frechet_distance(FeatureStatistics(np.zeros(2), np.eye(2), 3), FeatureStatistics(np.zeros(3), np.eye(3), 3))


def test_metric_takes_its_inputs_in_batches():
    rng = np.random.default_rng(0)
    reals, fakes = rng.standard_normal((50, 4)), rng.standard_normal((70, 4)) * 2

    class Inputs:
        num_features, variant = 4, VARIANTS["sg2"]

        def real_statistics(self):
            return statistics(reals)

        def fake_features(self):
            yield from np.array_split(fakes, 6)

    assert compute_frechet(Inputs()) == {"": frechet_distance(statistics(fakes), statistics(reals))}
