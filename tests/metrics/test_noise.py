"""What is random about an image depends on the seed and its index, whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dnnlib.tflib.tfutil import tf
from metrics.noise import IndexedRandom, labels_of, latents_of, mirrored

SHAPES = [(1, 4, 4), (1, 16, 16), (3, 5), (1, 1, 1), (7,), ()]


def draws(session, kind, seed, first, count, shape, name="noise0"):
    rng = IndexedRandom(seed, tf.constant(first, tf.int64))
    if kind == "integers":
        return session.run(rng.integers(name, [count, *shape], 2, 9))
    return session.run(getattr(rng, kind)(name, [count, *shape]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["normal", "uniform", "integers"])
def test_batches_are_cuts_of_one_stream(session, kind, shape):
    whole = draws(session, kind, 5, 0, 12, shape)
    assert whole.shape == (12, *shape)
    for begin, end in ((0, 1), (3, 4), (0, 5), (5, 12), (11, 12)):
        np.testing.assert_array_equal(draws(session, kind, 5, begin, end - begin, shape), whole[begin:end])


def test_seeds_names_and_images_differ(session):
    base = draws(session, "normal", 0, 0, 2, (16, 16))
    others = [
        draws(session, "normal", 1, 0, 2, (16, 16)),
        draws(session, "normal", 0, 0, 2, (16, 16), "noise1"),
        draws(session, "normal", 0, 1, 2, (16, 16)),
        base[::-1],
    ]
    for other in others:
        assert abs(np.corrcoef(base.ravel(), other.ravel())[0, 1]) < 0.2


def test_distributions(session):
    normal = draws(session, "normal", 3, 1000, 500, (1, 8, 8)).ravel()
    assert stats.kstest(normal, "norm").pvalue > 1e-3
    uniform = draws(session, "uniform", 3, 1000, 500, (1, 8, 8)).ravel()
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert np.unique(draws(session, "integers", 3, 0, 50, (8,))).tolist() == list(range(2, 9))


def test_shapes_may_be_known_at_run_time_only(session):
    count = tf.placeholder(tf.int32, [])
    first = tf.placeholder(tf.int64, [])
    rng = IndexedRandom(5, first)
    mixed = rng.normal("n", [count, 1, 4, 4])
    assert mixed.shape.as_list() == [None, 1, 4, 4]
    whole = rng.normal("n", tf.stack([count, 1, 4, 4]))
    found = session.run([mixed, whole], {count: 3, first: 2})
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], draws(session, "normal", 5, 2, 3, (1, 4, 4), "n"))


def test_latents_depend_on_seed_and_index():
    whole = latents_of(7, np.arange(100), 64)
    assert whole.shape == (100, 64) and whole.dtype == np.float32
    np.testing.assert_array_equal(latents_of(7, np.array([40, 3]), 64), whole[[40, 3]])
    assert not np.array_equal(latents_of(8, np.array([3]), 64)[0], whole[3])
    assert stats.kstest(whole.ravel(), "norm").pvalue > 1e-3


def test_labels_are_those_of_random_images():
    table = np.eye(4, dtype=np.float32)[[0, 1, 1, 1]]
    labels = labels_of(0, np.arange(2000), table)
    np.testing.assert_allclose(labels.mean(axis=0), [0.25, 0.75, 0, 0], atol=0.05)
    np.testing.assert_array_equal(labels_of(0, np.array([5]), table), labels[5:6])


def test_half_of_the_reals_are_mirrored():
    coins = mirrored(np.arange(2000))
    assert abs(coins.mean() - 0.5) < 0.05
    np.testing.assert_array_equal(mirrored(np.array([1999, 0])), coins[[1999, 0]])
