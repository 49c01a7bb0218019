"""modulated_epilogue: the formula, compiled against reference, derivatives, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnnlib.tflib import ops
from dnnlib.tflib.tfutil import tf
from tests.dnnlib.ops.helpers import DTYPES, IMPLS, assert_close, check_derivatives, evaluate, rounded

FORMATS = ("NCHW", "NHWC")


def to_layout(x: np.ndarray, data_format: str) -> np.ndarray:
    return x if data_format == "NCHW" else x.transpose(0, 2, 3, 1)


def make(random: np.random.RandomState, n: int, c: int, h: int, w: int, noise_samples: int) -> list[np.ndarray]:
    """x, scale, noise, strength, b; sums of them are an odd number of eighths, so no kink of lrelu is near."""
    scale = random.choice([0.5, 1.0, 2.0], (n, c))
    noise = np.round(random.randn(noise_samples, 1, h, w))
    b, strength = np.round(random.randn(c) * 2) / 2, np.array(0.5)
    z = np.round(random.randn(n, c, h, w) * 4) / 4 + 1 / 8
    return [(z - noise * strength - b[:, None, None]) / scale[:, :, None, None], scale, noise, strength, b]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("c, noise_samples", [(5, 3), (40, 1), (80, 3)])
def test_formula_and_gradients(impl, dtype, data_format, c, noise_samples):
    random = np.random.RandomState(0)
    x, scale, noise, strength, b = make(random, 3, c, 7, 9, noise_samples)
    x, dy = rounded(x, dtype), rounded(random.randn(*x.shape), dtype)
    z = x * scale[:, :, None, None] + noise * strength + b[:, None, None]
    y = np.sqrt(2) * np.where(z > 0, z, 0.2 * z)
    dz = dy * np.sqrt(2) * np.where(z > 0, 1, 0.2)
    expected = {
        "y": to_layout(y, data_format),
        "x": to_layout(dz * scale[:, :, None, None], data_format),
        "scale": (dz * x).sum((2, 3)),
        "noise": to_layout((dz.sum(1, keepdims=True) * strength), data_format),
        "strength": (dz * noise).sum(),
        "b": dz.sum((0, 2, 3)),
    }
    if noise_samples == 1:
        expected["noise"] = expected["noise"].sum(0, keepdims=True)

    def build(x, scale, noise, strength, b, dy):
        y = ops.modulated_epilogue(x, scale, noise, strength, b, data_format=data_format, impl=impl)
        return [y, *tf.gradients(y, [x, scale, noise, strength, b], dy)]

    wide = "float64" if dtype == "float64" else "float32"
    dtypes = [dtype, wide, dtype, wide, wide, dtype]
    arrays = [to_layout(x, data_format), scale, to_layout(noise, data_format), strength, b, to_layout(dy, data_format)]
    found = evaluate(build, *arrays, dtype=dtypes)
    for (name, e), value in zip(expected.items(), found, strict=True):
        assert_close(value, e, dtype, 4, what=name)


@pytest.mark.parametrize(
    "act, clamp", [("lrelu", None), ("lrelu", 0.9), ("linear", None), ("tanh", None), ("swish", None)]
)
@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("impl", IMPLS)
def test_derivatives(impl, data_format, act, clamp):
    x, scale, noise, strength, b = make(np.random.RandomState(1), 2, 3, 4, 3, 2)
    arrays = [to_layout(x, data_format), scale, to_layout(noise, data_format), strength, b]
    options = {"act": act, "clamp": clamp, "data_format": data_format, "impl": impl}
    check_derivatives(lambda *t: ops.modulated_epilogue(*t, **options), *arrays, order=3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("act, clamp", [("lrelu", 0.5), ("relu", None), ("linear", 0.25), ("linear", None)])
def test_gradients_of_many_channels(act, clamp, dtype):
    """Registers of channels, several pieces of pixels; zeros and clamped numbers among the results."""
    random = np.random.RandomState(4)
    x, scale, noise, strength, b = make(random, 2, 96, 23, 31, 2)
    arrays = [to_layout(x, "NHWC"), scale, to_layout(noise, "NHWC"), strength, b, random.randn(2, 23, 31, 96)]
    wide = "float32"

    def build(x, scale, noise, strength, b, dy):
        results = []
        for impl in IMPLS:
            operands = (x, scale, noise, strength, b)
            y = ops.modulated_epilogue(*operands, act=act, clamp=clamp, data_format="NHWC", impl=impl)
            results += [y, *tf.gradients(y, operands, dy)]
        return results

    found = evaluate(build, *arrays, dtype=[dtype, wide, dtype, wide, wide, dtype])
    for reference, compiled in zip(found[:6], found[6:], strict=True):
        assert_close(compiled, reference, dtype, 4)


def test_results_written_past_the_caches():
    """From 48 MiB on."""
    random = np.random.RandomState(5)
    arrays = [np.asarray(random.randn(*shape)) for shape in ((2, 401, 256, 64), (2, 64), (2, 401, 256, 1), (), (64,))]

    def build(*operands):
        results = []
        for impl in IMPLS:
            # Unaltered operands are not overwritten: they are needed again.
            y = ops.modulated_epilogue(*operands, data_format="NHWC", impl=impl)
            results += [y, *tf.gradients(y, operands, operands[0])]
        return results

    found = evaluate(build, *arrays, dtype="float32")
    for reference, compiled in zip(found[:6], found[6:], strict=True):
        assert_close(compiled, reference, "float32", 8)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 33), st.integers(1, 33)),
    st.sampled_from(FORMATS),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.sampled_from(["lrelu", "linear", "sigmoid"]),
    st.booleans(),
)
def test_compiled_equals_reference(shape, data_format, given_operands, act, shared_noise):
    n, c, h, w = shape
    random = np.random.RandomState(3)
    with_scale, with_noise, with_bias = given_operands
    arrays = {"x": to_layout(random.randn(n, c, h, w), data_format)}
    if with_scale:
        arrays["scale"] = random.randn(n, c)
    if with_noise:
        arrays["noise"] = to_layout(random.randn(1 if shared_noise else n, 1, h, w), data_format)
        arrays["strength"] = random.randn()
    if with_bias:
        arrays["b"] = random.randn(c)
    arrays = {k: np.asarray(v) for k, v in arrays.items()}

    def build(*inputs):
        results = []
        for impl in IMPLS:
            operands = dict(zip(arrays, inputs, strict=True))
            y = ops.modulated_epilogue(**operands, act=act, data_format=data_format, impl=impl)
            grads = tf.gradients(y, inputs, tf.sin(y))
            total = tf.add_n([tf.reduce_sum(tf.square(g)) for g in grads])
            results += [y, *grads, *tf.gradients(total, inputs, unconnected_gradients="zero")]
        return results

    found = evaluate(build, *arrays.values())
    for reference, compiled in zip(found[: len(found) // 2], found[len(found) // 2 :], strict=True):
        assert_close(compiled, reference, "float64", 1000)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"x": tf.float32, "scale": np.zeros((2, 4), np.float32)},
            r"scale: found shape \(2, 4\), expected shape \(2, 3\)",
        ),
        (
            {"noise": np.zeros((2, 5, 5, 1), np.float32), "strength": 1.0},
            r"noise: found shape \(2, 5, 5, 1\), expected",
        ),
        ({"strength": 1.0}, r"strength: found .* with noise None, expected both or neither"),
        ({"b": np.zeros(2, np.float32)}, r"b: found shape \(2,\), expected shape \(3,\)"),
        ({"act": "mish"}, r"act: found 'mish', expected one of"),
        ({"data_format": "NC"}, r"data_format: found 'NC'"),
    ],
)
def test_refusals(change, message):
    options = {**change, "x": np.zeros((2, 3, 5, 5), np.float32)}
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        ops.modulated_epilogue(**options)


def test_parameters_are_wide():
    with tf.Graph().as_default():
        x = tf.zeros([2, 3, 4, 4], tf.bfloat16)
        with pytest.raises(ValueError, match="b: found dtype bfloat16, expected float32"):
            ops.modulated_epilogue(x, b=tf.zeros([3], tf.bfloat16))
