"""Inception score on distributions whose score is known."""

from __future__ import annotations

import numpy as np
import pytest

from metrics.inception_score import ScoreSums, compute_inception_score, split_of


def score(probabilities, splits=10):
    sums = ScoreSums(len(probabilities), splits)
    sums.add(probabilities)
    return sums.result()


def written_out(p, splits=10):
    scores = []
    for i in range(splits):
        part = p[len(p) * i // splits : len(p) * (i + 1) // splits]
        kl = part * (np.log(part) - np.log(part.mean(axis=0, keepdims=True)))
        scores.append(np.exp(kl.sum(axis=1).mean()))
    return np.mean(scores), np.std(scores)


@pytest.mark.parametrize("classes", [2, 7, 1000])
def test_sure_and_evenly_spread_is_the_number_of_classes(classes):
    # Every split sees every class equally often, and each image is of one class for certain.
    p = np.tile(np.eye(classes), (10, 1))
    mean, std = score(p)
    assert mean == pytest.approx(classes, rel=1e-12) and std == pytest.approx(0, abs=1e-9 * classes)


def test_always_the_same_is_one():
    p = np.tile(np.random.default_rng(0).dirichlet(np.ones(5)), (100, 1))
    assert score(p) == (pytest.approx(1, rel=1e-12), pytest.approx(0, abs=1e-12))
    assert score(np.tile(np.eye(5)[:1], (40, 1)))[0] == pytest.approx(1, rel=1e-12)


def test_classes_that_differ_between_splits_do_not_count():
    # One class per split: within a split nothing varies.
    assert score(np.repeat(np.eye(10), 6, axis=0))[0] == pytest.approx(1, rel=1e-12)


def test_is_the_definition_for_counts_that_do_not_divide():
    p = np.random.default_rng(1).dirichlet(np.full(6, 0.3), 237) + 1e-12
    p /= p.sum(axis=1, keepdims=True)
    assert score(p) == pytest.approx(written_out(p), rel=1e-9)


def test_splits():
    for count in (10, 37, 50_000):
        where = split_of(np.arange(count), count)
        for i in range(10):
            np.testing.assert_array_equal(np.flatnonzero(where == i), np.arange(i * count // 10, (i + 1) * count // 10))


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_batches_make_no_difference(batch):
    p = np.random.default_rng(2).dirichlet(np.ones(4), 123).astype(np.float32)
    sums = ScoreSums(123)
    for i in range(0, 123, batch):
        sums.add(p[i : i + batch])
    assert sums.result() == pytest.approx(score(p), rel=1e-12)


def test_refusals():
    with pytest.raises(ValueError, match="9 images cannot be cut into 10 splits"):
        ScoreSums(9)
    sums = ScoreSums(20)
    sums.add(np.ones((5, 1)))
    with pytest.raises(ValueError, match="5 of 20 images were added"):
        sums.result()


def test_metric_of_its_inputs():
    p = np.random.default_rng(3).dirichlet(np.ones(4), 60)

    class Inputs:
        num_fake = 60

        def fake_features(self):
            yield from np.array_split(p, 7)

    mean, std = score(p)
    assert compute_inception_score(Inputs()) == {"_mean": pytest.approx(mean), "_std": pytest.approx(std)}
