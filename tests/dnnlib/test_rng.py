"""Random numbers as functions of (seed, name)."""

import numpy as np
import pytest
import scipy.stats

from dnnlib.tflib.rng import StatefulRandom, StatelessRandom, normal_initializer
from dnnlib.tflib.tfutil import tf


def test_same_seed_and_name_give_the_same_numbers(session):
    seed = tf.placeholder(tf.int64, [2])
    a, b = StatelessRandom(seed), StatelessRandom(seed)
    draws = [r.normal("z", [64]) for r in (a, b)] + [a.normal("y", [64]), a.child("p/").normal("z", [64])]
    first = session.run(draws, {seed: [1, 2]})
    again = session.run(draws, {seed: [1, 2]})
    other = session.run(draws, {seed: [1, 3]})
    assert np.array_equal(first[0], first[1])
    for x, y in zip(first, again, strict=True):
        assert np.array_equal(x, y)
    for i, x in enumerate(first):
        assert not np.array_equal(x, other[i])
        assert all(not np.array_equal(x, first[j]) for j in range(i) if (i, j) != (1, 0))


def test_streams_are_independent(session):
    """Neighbouring seeds and names do not correlate, as sub-batches of a minibatch must not."""
    n = 20000
    streams = [StatelessRandom(tf.constant([5, i], tf.int64)).normal(name, [n]) for i in (0, 1) for name in ("a", "b")]
    values = session.run(streams)
    correlation = np.corrcoef(values) - np.eye(4)
    assert np.max(np.abs(correlation)) < 5 / np.sqrt(n)


@pytest.mark.parametrize("source", [StatefulRandom(), None])
def test_distributions(session, source):
    source = source or StatelessRandom(tf.constant([3, 4], tf.int64))
    normal = session.run(source.normal("n", [20000]))
    uniform = session.run(source.uniform("u", [20000]))
    whole = session.run(source.integers("i", [20000], 1, 8))
    assert scipy.stats.kstest(normal, "norm").pvalue > 1e-4
    assert scipy.stats.kstest(uniform, "uniform").pvalue > 1e-4
    assert set(whole) == set(range(1, 8))
    assert scipy.stats.chisquare(np.bincount(whole)[1:]).pvalue > 1e-4
    assert normal.dtype == uniform.dtype == np.float32 and whole.dtype == np.int32


@pytest.mark.parametrize("stddev", [1.0, 100.0])
def test_initial_values(session, stddev):
    """Normal, of the width asked for, each variable's own; the graph's seed gives the same ones again."""
    variables = [tf.get_variable(n, [100, 200], initializer=normal_initializer(stddev)) for n in "ab"]
    session.run(tf.global_variables_initializer())
    a, b = session.run(variables)
    assert a.dtype == np.float32 and abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.03
    for values in (a, b):
        assert scipy.stats.kstest(values.ravel() / stddev, "norm").pvalue > 1e-4
    draws = []
    for _ in range(2):
        with tf.Graph().as_default(), tf.Session() as other:
            tf.set_random_seed(1)
            first = tf.get_variable("a", [100], initializer=normal_initializer())
            other.run(first.initializer)
            draws.append(other.run(first))
    assert np.array_equal(*draws)


@pytest.mark.parametrize("shape", [[], (), [3], tf.TensorShape([2, 1])], ids=str)
def test_shapes_of_any_kind(session, shape):
    """No dimension at all is a shape, too."""
    expected = tuple(shape)
    assert session.run(StatefulRandom().normal("z", shape)).shape == expected
    assert session.run(normal_initializer(2.0)(shape)).shape == expected
    assert session.run(StatefulRandom().normal("z", tf.constant([2, 3], tf.int64))).shape == (2, 3)
