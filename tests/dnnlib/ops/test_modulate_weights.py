"""modulate_weights: equations 1 and 3, both layouts, derivatives, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnnlib.tflib import ops
from dnnlib.tflib.tfutil import create_session, tf
from tests.dnnlib.ops.helpers import DTYPES, IMPLS, assert_close, check_derivatives, evaluate, rounded

LAYOUTS = ("per_sample", "grouped")


def equations(w: np.ndarray, s: np.ndarray, demodulate: bool, layout: str, eps: float = 1e-8) -> np.ndarray:
    y = w[None] * s[:, None, None, :, None]
    if demodulate:
        y = y / np.sqrt((y**2).sum((1, 2, 3), keepdims=True) + eps)
    if layout == "per_sample":
        return y
    return np.concatenate(list(y), axis=3)  # [kh, kw, in, N * out], sample after sample


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
def test_equations(impl, dtype, demodulate, kernel):
    random = np.random.RandomState(0)
    w, s = rounded(random.randn(kernel, kernel, 20, 37), dtype), rounded(random.randn(3, 20), dtype)
    found = evaluate(
        lambda a, b: [ops.modulate_weights(a, b, demodulate, layout=v, impl=impl) for v in LAYOUTS], w, s, dtype=dtype
    )
    for value, layout in zip(found, LAYOUTS, strict=True):
        assert_close(value, equations(w, s, demodulate, layout), dtype, what=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("impl", IMPLS)
def test_derivatives(impl, demodulate, layout):
    random = np.random.RandomState(1)
    w, s = random.randn(3, 2, 3, 4), random.randn(2, 3)
    check_derivatives(lambda a, b: ops.modulate_weights(a, b, demodulate, eps=0.1, layout=layout, impl=impl), w, s)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 19), st.integers(1, 35)),
    st.integers(0, 4),
    st.sampled_from(LAYOUTS),
    st.booleans(),
)
def test_compiled_equals_reference(shape, samples, layout, demodulate):
    random = np.random.RandomState(2)

    def build(w, s):
        results = []
        for impl in IMPLS:
            y = ops.modulate_weights(w, s, demodulate, eps=0.01, layout=layout, impl=impl)
            grads = tf.gradients(y, [w, s], tf.sin(3 * y))
            results += [y, *grads, *tf.gradients(grads[1], [w, s], tf.cos(s), unconnected_gradients="zero")]
        return results

    found = evaluate(build, random.randn(*shape), random.randn(samples, shape[2]))
    for reference, compiled in zip(found[:5], found[5:], strict=True):
        assert_close(compiled, reference, "float64", 100)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kernel, outputs", [((2, 2), 80), ((1, 5), 75)])
def test_many_outputs(kernel, outputs, dtype, layout):
    """Registers of outputs in groups, one by one and in part; taps left over."""
    random = np.random.RandomState(3)
    w, s = random.randn(*kernel, 21, outputs), random.randn(3, 21)

    def build(w, s):
        results = []
        for impl in IMPLS:
            y = ops.modulate_weights(w, s, layout=layout, impl=impl)
            results += [y, *tf.gradients(y, [w, s], tf.sin(3 * tf.ones_like(y)) + y)]
        return results

    found = evaluate(build, w, s, dtype=dtype)
    for reference, compiled in zip(found[:3], found[3:], strict=True):
        assert_close(compiled, reference, dtype, 10)


def test_results_written_past_the_caches():
    """From 48 MiB on."""
    random = np.random.RandomState(4)
    w, s = random.randn(3, 3, 250, 512), random.randn(12, 250)
    found = evaluate(lambda w, s: [ops.modulate_weights(w, s, impl=i) for i in IMPLS], w, s, dtype="float32")
    assert found[1].size * 4 >= 48 << 20
    assert_close(found[1], found[0], "float32", 2)


def test_shapes_with_unknown_batch():
    with tf.Graph().as_default(), create_session() as session:
        s = tf.placeholder(tf.float32, [None, 4])
        results = [ops.modulate_weights(tf.ones([3, 3, 4, 5]), s, layout=v, impl=i) for v in LAYOUTS for i in IMPLS]
        assert [r.shape.as_list() for r in results[:2]] == [[None, 3, 3, 4, 5]] * 2
        assert [r.shape.as_list() for r in results[2:]] == [[3, 3, 4, None]] * 2
        found = session.run(results, {s: np.ones((2, 4))})
    assert [f.shape for f in found] == [(2, 3, 3, 4, 5)] * 2 + [(3, 3, 4, 10)] * 2


@pytest.mark.parametrize(
    "change, message",
    [
        ({"w": np.zeros((3, 3, 4), np.float32)}, r"w: found rank 3 .*expected rank 4"),
        ({"s": np.zeros((2, 5), np.float32)}, r"s: found shape \(2, 5\), expected \[N, 4\], one style per input map"),
        ({"s": np.zeros(4, np.float32)}, r"s: found rank 1 .*expected rank 2"),
        ({"layout": "nhwc"}, r"layout: found 'nhwc', expected 'per_sample' or 'grouped'"),
        ({"eps": -1}, r"eps: found -1.0, expected a number of at least 0"),
    ],
)
def test_refusals(change, message):
    options = {"w": np.zeros((3, 3, 4, 5), np.float32), "s": np.zeros((2, 4), np.float32), **change}
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        ops.modulate_weights(**options)


def test_mixed_dtypes_are_refused():
    with tf.Graph().as_default(), pytest.raises(ValueError, match="s: found dtype float32, expected bfloat16"):
        ops.modulate_weights(tf.zeros([1, 1, 2, 3], tf.bfloat16), tf.zeros([1, 2]))
