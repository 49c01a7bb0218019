"""demodulation: equation 3, derivatives, shapes, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnnlib.tflib import ops
from dnnlib.tflib.tfutil import tf
from tests.dnnlib.ops.helpers import DTYPES, IMPLS, assert_close, check_derivatives, evaluate, rounded


def equation(w: np.ndarray, s: np.ndarray, eps: float) -> np.ndarray:
    return 1 / np.sqrt(((w[None] * s[:, None, None, :, None]) ** 2).sum((1, 2, 3)) + eps)


def gradients(w: np.ndarray, s: np.ndarray, dd: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """By the chain rule through per-sample weights."""
    weights = w[None] * s[:, None, None, :, None]
    d_weights = weights * (-(equation(w, s, eps) ** 3) * dd)[:, None, None, None, :]
    dw = (d_weights * s[:, None, None, :, None]).sum(0)
    return dw, (d_weights * w[None]).sum((1, 2, 4))


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 70)),
    samples=st.integers(1, 5),
    dtype=st.sampled_from(DTYPES),
    impl=st.sampled_from(IMPLS),
)
def test_equation_and_gradients(shape, samples, dtype, impl):
    random = np.random.RandomState(0)
    w, s = (rounded(random.uniform(0.5, 1.5, size), dtype) for size in (shape, (samples, shape[2])))
    dd = random.uniform(0.5, 1.5, (samples, shape[3]))

    def build(w, s, dd):
        d = ops.demodulation(w, s, eps=0.1, impl=impl)
        return [d, *tf.gradients(d, [w, s], dd)]

    wide = "float64" if dtype == "float64" else "float32"
    found = evaluate(build, w, s, dd, dtype=[dtype, dtype, wide])
    assert_close(found[0], equation(w, s, 0.1), wide)
    for value, expected, name in zip(found[1:], gradients(w, s, dd, 0.1), "ws", strict=True):
        assert_close(value, expected, dtype, factor=2, what=name)


@pytest.mark.parametrize("impl", IMPLS)
def test_derivatives(impl):
    random = np.random.RandomState(1)
    w, s = random.randn(3, 2, 3, 4), random.randn(2, 3)
    check_derivatives(lambda a, b: ops.demodulation(a, b, eps=0.1, impl=impl), w, s)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shape, samples", [((3, 3, 4, 5), 0), ((3, 3, 0, 5), 2), ((3, 3, 4, 0), 2)])
def test_empty(impl, shape, samples):
    w, s = np.ones(shape), np.ones((samples, shape[2]))

    def build(w, s):
        d = ops.demodulation(w, s, eps=0.25, impl=impl)
        return [d, *tf.gradients(d, [w, s])]

    d, dw, ds = evaluate(build, w, s, dtype="float32")
    assert_close(d, equation(w, s, 0.25))  # TensorFlow's root of a quarter is not exact on every processor
    assert dw.shape == w.shape and ds.shape == s.shape and not dw.any() and not ds.any()


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(s=np.ones([2, 5], np.float32)), r"s: found shape \(2, 5\), expected \[N, 4\]"),
        (dict(w=np.ones([3, 4, 5], np.float32)), "w: found rank 3 .*expected rank 4"),
        (dict(eps=-1.0), "eps: found -1.0, expected a number of at least 0"),
    ],
)
def test_refusals(change, message):
    arguments = dict(w=np.ones([3, 3, 4, 5], np.float32), s=np.ones([2, 4], np.float32)) | change
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        ops.demodulation(**arguments)
