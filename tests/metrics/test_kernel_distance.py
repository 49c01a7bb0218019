"""Kernel distance: against a sum written out, unbiased, and the rows it needs out of a stream."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.util import UserError
from metrics.kernel_distance import (
    MAX_SUBSET_SIZE,
    NUM_SUBSETS,
    compute_kernel_distance,
    draw_subsets,
    gather,
    kernel_distance,
    polynomial_mmd2,
)


def mmd2_written_out(x, y):
    """The definition as sums over pairs."""
    m, d = x.shape

    def k(a, b):
        return (float(a @ b) / d + 1) ** 3

    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in itertools.permutations(range(m), 2)) / (m * (m - 1))
    between = sum(k(a, b) for a in x for b in y) / (m * m)
    return within - 2 * between


def test_is_the_sum_over_pairs():
    rng = np.random.default_rng(0)
    for m, d in ((2, 1), (7, 3), (20, 50)):
        x, y = rng.standard_normal((m, d)), rng.standard_normal((m, d)) + 0.3
        assert polynomial_mmd2(x, y) == pytest.approx(mmd2_written_out(x, y), rel=1e-10, abs=1e-12)


def test_one_dimension_by_hand():
    # k(a, b) = (a b + 1)^3: x = {0, 1}, y = {2, 3}. Within: 1 and 343. Between: 1, 1, 27, 64.
    x, y = np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])
    assert polynomial_mmd2(x, y) == pytest.approx(1 + 343 - 2 * (1 + 1 + 27 + 64) / 4, abs=1e-12)


def test_unbiased_for_equal_distributions():
    rng = np.random.default_rng(1)
    values = [polynomial_mmd2(*rng.standard_normal((2, 30, 8)) * 2) for _ in range(3000)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert np.min(values) < 0  # as an unbiased estimate of 0 must be


def test_value_for_known_distributions():
    # d = 1, x ~ N(0, 1), y = 1: E k(x, x') = E (x x' + 1)^3 = 1 + 3 E[x^2]^2 = 4; k(y, y) = 8; E k(x, y) = 1 + 3 = 4.
    rng = np.random.default_rng(2)
    values = [polynomial_mmd2(rng.standard_normal((40, 1)), np.ones((40, 1))) for _ in range(4000)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - (4 + 8 - 2 * 4)) < 3 * error


def test_mean_over_subsets_of_a_resampled_set_is_unbiased():
    """Both sets from one distribution, through subsets as the metric draws them."""
    rng = np.random.default_rng(3)
    means = []
    for _ in range(60):
        x, y = rng.standard_normal((2, 300, 6))
        subsets = draw_subsets(300, 300)
        small = type(subsets)(subsets.reals[:10, :100], subsets.fakes[:10, :100])
        rows = gather(iter([x]), small.reals), gather(iter([y]), small.fakes)
        means.append(kernel_distance(*rows, small)[0])
    assert abs(np.mean(means)) < 3 * np.std(means) / np.sqrt(len(means))


def test_subsets():
    subsets = draw_subsets(5000, 1200)
    assert subsets.reals.shape == subsets.fakes.shape == (NUM_SUBSETS, MAX_SUBSET_SIZE)
    assert subsets.reals.max() > 4500 and subsets.fakes.max() < 1200
    assert all(len(set(row)) == MAX_SUBSET_SIZE for row in subsets.fakes.tolist())
    np.testing.assert_array_equal(subsets.reals, draw_subsets(5000, 1200).reals)
    assert (subsets.reals != draw_subsets(5000, 1200, seed=1).reals).any()
    # The smaller set decides, and then every subset holds all of it.
    few = draw_subsets(7, 5000)
    assert few.reals.shape == few.fakes.shape == (NUM_SUBSETS, 7)
    assert all(sorted(row) == list(range(7)) for row in few.reals.tolist())
    with pytest.raises(UserError, match="at least 2 reals and 2 fakes, found 1 and 9"):
        draw_subsets(1, 9)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\[3, 2\] and \[4, 2\]"):
        polynomial_mmd2(np.zeros((3, 2)), np.zeros((4, 2)))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), count=st.integers(1, 60))
def test_gather_finds_the_rows_in_any_cut(data, count):
    rows = np.array(data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=30)))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=6)))
    table = np.random.default_rng(count).standard_normal((count, 2))
    found = gather(iter(np.split(table, cuts)), rows)
    assert set(found) == set(rows.tolist())
    for index, row in found.items():
        np.testing.assert_array_equal(row, table[index])


@settings(max_examples=20, deadline=None)
@given(count=st.integers(0, 9), missing=st.integers(0, 20))
def test_gather_names_rows_that_are_not_there(count, missing):
    rows = np.array([0, count + missing])
    with pytest.raises(ValueError, match=f"was asked for, the stream has {count}"):
        gather(iter([np.zeros((count, 1))]), rows)


def test_gathered_rows_own_their_memory():
    batch = np.ones((3, 2))
    found = gather(iter([batch]), np.array([1]))
    batch[:] = 7
    np.testing.assert_array_equal(found[1], [1, 1])


def test_metric_of_its_inputs():
    rng = np.random.default_rng(4)
    reals, fakes = rng.standard_normal((40, 3)), rng.standard_normal((30, 3)) + 1

    class Inputs:
        num_real, num_fake, num_features = 40, 30, 3

        def real_features(self):
            yield from np.array_split(reals, 3)

        def fake_features(self):
            yield from np.array_split(fakes, 4)

    subsets = draw_subsets(40, 30)
    expected = np.mean([polynomial_mmd2(reals[a], fakes[b]) for a, b in zip(subsets.reals, subsets.fakes, strict=True)])
    assert compute_kernel_distance(Inputs()) == {"": pytest.approx(expected, rel=1e-9)}
