"""The affine warp: both implementations against SciPy, derivatives of any order, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.symlet import SYM6
from dnnlib.tflib import ops
from dnnlib.tflib.tfutil import create_session, tf
from tests.dnnlib.ops.helpers import IMPLS, check_derivatives, evaluate
from tests.training.augment import oracles


def random_maps(n, size, seed=0, strength=1.0):
    """Maps [n, 2, 3] that turn, stretch, mirror and shift; the first is the identity."""
    rng = np.random.RandomState(seed)
    maps = []
    for _ in range(n):
        m = oracles.rotate(rng.uniform(-3, 3)) @ oracles.scale(*2.0 ** (strength * rng.randn(2)))
        m = m @ oracles.translate(*(rng.randn(2) * size * 0.3 * strength)) @ oracles.scale(rng.choice([-1, 1]), 1)
        maps.append(m[:2])
    maps[0] = np.eye(2, 3)
    return np.stack(maps)


def test_filter_is_orthonormal():
    """Up- and downsampling with it is the identity, and it has six vanishing moments."""
    h = np.array(SYM6)
    correlation = np.correlate(h, h, "full")[11::2]
    np.testing.assert_allclose(correlation, np.eye(1, 6)[0], atol=1e-10)
    signs = (-1.0) ** np.arange(12)
    for moment in range(6):
        assert abs(np.sum(signs * h * np.arange(12) ** moment)) < 1e-4 * 12**moment


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shape", [(5, 2, 12, 20), (4, 1, 2, 2), (3, 3, 9, 5), (0, 3, 8, 8)])
def test_against_scipy(impl, shape):
    n = shape[0]
    x, maps = np.random.RandomState(1).randn(*shape), random_maps(max(n, 1), max(shape[2:]))[:n]
    (found,) = evaluate(lambda a, b: [ops.affine_warp(a, b, impl=impl)], x, maps)
    assert found.shape == shape
    for image, m, result in zip(x, maps, found, strict=True):
        # Tiny images do not survive the filter, but the identity copies.
        is_copy = np.array_equal(m, np.eye(2, 3))
        wanted = image if is_copy else oracles.warp(image, np.vstack([m, [0, 0, 1]]))
        # The taps are rounded to float32.
        np.testing.assert_allclose(result, wanted, atol=1e-5 * np.abs(x).max())


@pytest.fixture(scope="module")
def both():
    """Results and gradients of both implementations for inputs of any shape: a function."""
    with tf.Graph().as_default(), create_session() as session:
        x, theta = tf.placeholder(tf.float64, [None] * 4), tf.placeholder(tf.float64, [None, 2, 3])
        results = [ops.affine_warp(x, theta, impl=impl) for impl in IMPLS]
        fetches = [(y, tf.gradients(y, x, tf.sin(x))[0]) for y in results]
        yield lambda images, maps: session.run(fetches, {x: images, theta: maps})


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 40), st.integers(2, 40)),
    seed=st.integers(0, 1000),
    strength=st.sampled_from([0.0, 0.3, 1.0, 3.0]),
)
def test_both_implementations_agree(both, shape, seed, strength):
    x, maps = np.random.RandomState(seed).randn(*shape), random_maps(shape[0], max(shape[2:]), seed, strength)
    (a, da), (b, db) = both(x, maps)
    assert a.shape == shape
    np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(da, db, atol=1e-5 * max(1, np.abs(da).max()))


@pytest.mark.parametrize("impl", IMPLS)
def test_derivatives_of_any_order(impl):
    maps = random_maps(2, 6, seed=4, strength=0.5)
    x = np.random.RandomState(2).randn(2, 2, 5, 6)
    check_derivatives(lambda a: tf.tanh(ops.affine_warp(a, tf.constant(maps), impl=impl)), x, order=3)


@pytest.mark.parametrize("impl", IMPLS)
def test_gradient_is_the_transpose(impl):
    """<warp(x), y> = <x, warp^T(y)>, also where the image leaves its reflection; theta has no gradient."""
    x, y = np.random.RandomState(3).randn(2, 6, 3, 16, 8)
    maps = random_maps(6, 16, seed=5, strength=1.5)

    def build(a, b, theta):
        warped = ops.affine_warp(a, theta, impl=impl)
        assert tf.gradients(warped, theta) == [None]
        return [tf.reduce_sum(warped * b), tf.reduce_sum(tf.gradients(warped, a, b)[0] * a)]

    left, right = evaluate(build, x, y, maps)
    assert left == pytest.approx(right, rel=1e-9)


@pytest.mark.parametrize("impl", IMPLS)
def test_identity_copies_and_far_away_is_black(impl):
    x = np.random.RandomState(3).randn(2, 1, 8, 8).astype(np.float32)
    maps = np.stack([np.eye(2, 3), [[1, 0, 1000], [0, 1, -1e9]]])
    (found,) = evaluate(lambda a, b: [ops.affine_warp(a, b, impl=impl)], x, maps, dtype="float32")
    assert np.array_equal(found[0], x[0])
    assert not found[1].any()


def test_images_do_not_depend_on_their_neighbours(both):
    x, maps = np.random.RandomState(3).randn(4, 3, 12, 12), random_maps(4, 12)
    together = both(x, maps)
    for i in range(4):
        alone = both(x[i : i + 1], maps[i : i + 1])
        for whole, part in zip(together, alone, strict=True):
            np.testing.assert_allclose(part[0], whole[0][i : i + 1], atol=1e-12)


@pytest.mark.parametrize(
    ("x", "theta", "text"),
    [
        (np.zeros([2, 3, 8], np.float32), np.zeros([2, 2, 3], np.float32), "x: found rank 3"),
        (np.zeros([2, 3, 8, 8], np.float16), np.zeros([2, 2, 3], np.float16), "x: found dtype float16"),
        (np.zeros([2, 3, 8, 8], np.float32), np.zeros([3, 2, 3], np.float32), "theta: found shape .*3, 2, 3.*2, 2, 3"),
        (np.zeros([2, 3, 8, 1], np.float32), np.zeros([2, 2, 3], np.float32), "x: found width 1, expected at least 2"),
    ],
)
def test_refusals(x, theta, text):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=text):
        ops.affine_warp(tf.constant(x), tf.constant(theta))
