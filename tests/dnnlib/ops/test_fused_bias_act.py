"""fused_bias_act: closed forms of the nine activations, derivatives of several orders, clamp, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnnlib.tflib import ops
from dnnlib.tflib.tfutil import tf
from tests.dnnlib.ops.helpers import DTYPES, IMPLS, assert_close, check_derivatives, evaluate, rounded

S, A = 1.0507009873554805, 1.6732632423543773
SQRT2 = np.sqrt(2)


def sigmoid_slope(x):
    return scipy.special.expit(x) * scipy.special.expit(-x)


# value, slope, default gain
CLOSED = {
    "linear": (lambda x: x, np.ones_like, 1),
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0, SQRT2),
    "lrelu": (lambda x: np.where(x > 0, x, 0.2 * x), lambda x: np.where(x > 0, 1, 0.2), SQRT2),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2, 1),
    "sigmoid": (scipy.special.expit, sigmoid_slope, 1),
    "elu": (lambda x: np.where(x >= 0, x, np.expm1(np.minimum(x, 0))), lambda x: np.where(x >= 0, 1, np.exp(x)), 1),
    "selu": (
        lambda x: S * np.where(x >= 0, x, A * np.expm1(np.minimum(x, 0))),
        lambda x: S * np.where(x >= 0, 1, A * np.exp(x)),
        1,
    ),
    "softplus": (lambda x: np.logaddexp(0, x), scipy.special.expit, 1),
    "swish": (
        lambda x: x * scipy.special.expit(x),
        lambda x: scipy.special.expit(x) + x * sigmoid_slope(x),
        SQRT2,
    ),
}


def test_table_is_complete():
    assert set(CLOSED) == set(ops.ACTIVATIONS) and len(CLOSED) == 9
    assert {n: pytest.approx(gain) for n, (_, _, gain) in CLOSED.items()} == {
        n: row.gain for n, row in ops.ACTIVATIONS.items()
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("act", CLOSED)
def test_closed_forms(act, impl, dtype):
    value, slope, gain = CLOSED[act]
    random = np.random.RandomState(0)
    # b is chosen so that x + b is exact in every dtype, hence not near a kink by rounding alone.
    x = np.round(random.randn(4, 5, 3, 7) * 32) / 16 + 1 / 64
    b, dy = np.round(random.randn(5) * 4) / 4, rounded(random.randn(*x.shape), dtype)
    x = rounded(x, dtype)
    z = x + b[:, None, None]

    def build(t, bias, upstream):
        nchw = ops.fused_bias_act(t, bias, act, impl=impl)
        nhwc = ops.fused_bias_act(tf.transpose(t, [0, 2, 3, 1]), bias, act, axis=3, impl=impl)
        grads = tf.gradients(nchw, [t, bias], upstream) + tf.gradients(
            nhwc, [t, bias], tf.transpose(upstream, [0, 2, 3, 1])
        )
        return [nchw, tf.transpose(nhwc, [0, 3, 1, 2]), *grads]

    y1, y2, dx1, db1, dx2, db2 = evaluate(build, x, b, dy, dtype=dtype)
    dx = dy * gain * slope(z)
    for found, expected in ((y1, gain * value(z)), (y2, gain * value(z)), (dx1, dx), (dx2, dx)):
        # Slopes come from results rounded to the dtype.
        assert_close(found, expected, dtype, 3, what=act)
    for db in (db1, db2):
        assert_close(db, dx.sum((0, 2, 3)), dtype, 8, what=act)


@pytest.mark.parametrize("options", [{}, {"gain": -1.3, "alpha": 0.3}, {"clamp": 0.7}, {"alpha": -0.5}], ids=str)
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("act", CLOSED)
def test_derivatives(act, impl, axis, options):
    random = np.random.RandomState(3)
    x = random.randn(2, 3, 4)
    # Away from kinks: x + b is a multiple of 1/4 plus 1/8, and no result is near the clamp.
    x, b = np.round(x * 4) / 4 + 1 / 8, np.round(random.randn(x.shape[axis]) * 4) / 4
    check_derivatives(lambda t, u: ops.fused_bias_act(t, u, act, axis=axis, impl=impl, **options), x, b, order=3)


@pytest.mark.parametrize("act", ["tanh", "sigmoid", "softplus", "swish", "elu"])
def test_compiled_has_derivatives_of_any_order(act):
    x = np.array([-3.1, -0.6, 0.4, 2.7, 30.0])

    def build(t):
        results = []
        for impl in IMPLS:
            y = ops.fused_bias_act(t, act=act, axis=0, impl=impl)
            for _ in range(6):
                y = tf.gradients(y, t)[0]
            results.append(y)
        return results

    reference, compiled = evaluate(build, x)
    assert_close(compiled, reference, "float64", 1e3)


@pytest.mark.parametrize("impl", IMPLS)
def test_second_derivative_of_piecewise_linear_is_none_or_zero(impl):
    def build(x):
        dx = tf.gradients(tf.reduce_sum(ops.fused_bias_act(x, act="lrelu", impl=impl)), x)[0]
        return [tf.gradients(dx, x, unconnected_gradients="zero")[0]]

    assert not evaluate(build, np.random.RandomState(0).randn(3, 4))[0].any()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_slope_at_zero_and_at_the_clamp(impl, dtype):
    x = np.array([[-2.0, -1.0, 0.0, 1.0, 2.0]])

    def build(t):
        lrelu = ops.fused_bias_act(t, act="lrelu", gain=1, alpha=0.25, impl=impl)
        relu = ops.fused_bias_act(t, act="relu", gain=1, impl=impl)
        cut = ops.fused_bias_act(t, clamp=1, impl=impl)
        return [cut, *(tf.gradients(y, t)[0] for y in (lrelu, relu, cut))]

    cut, lrelu, relu, masked = evaluate(build, x, dtype=dtype)
    assert cut.tolist() == [[-1, -1, 0, 1, 1]]
    assert lrelu.tolist() == [[0.25, 0.25, 0.25, 1, 1]]
    assert relu.tolist() == [[0, 0, 0, 1, 1]]
    assert masked.tolist() == [[0, 0, 1, 0, 0]]


@pytest.mark.parametrize("act", CLOSED)
@pytest.mark.parametrize("impl", IMPLS)
def test_extreme_and_invalid_inputs(impl, act):
    x = np.array([[-1e4, -100.0, 100.0, 1e4, np.nan]])

    def build(t):
        y = ops.fused_bias_act(t, act=act, impl=impl)
        dx = tf.gradients(y, t)[0]
        clamped = ops.fused_bias_act(t, act=act, clamp=1, impl=impl)
        return [y, dx, tf.gradients(dx, t, unconnected_gradients="zero")[0], clamped]

    for dtype in ("float64", "float32"):
        y, dx, ddx, clamped = evaluate(build, x, dtype=dtype)
        for found in (y, dx, ddx):
            assert np.isfinite(found[:, :4]).all()
        assert np.isnan(y[0, 4]) and np.isnan(clamped[0, 4])
        assert_close(y[:, :4], CLOSED[act][2] * CLOSED[act][0](x[:, :4]), "float32", 2)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.integers(0, 67), min_size=1, max_size=4).filter(lambda s: np.prod(s) < 40000),
    st.integers(0, 3),
    st.sampled_from(sorted(CLOSED)),
    st.sampled_from([None, 0.5, 2.0]),
    st.booleans(),
)
def test_compiled_equals_reference(shape, axis, act, clamp, bias):
    axis %= len(shape)
    random = np.random.RandomState(0)
    arrays = [random.randn(*shape)] + ([random.randn(shape[axis])] if bias else [])

    def build(*inputs):
        results = []
        for impl in IMPLS:
            y = ops.fused_bias_act(inputs[0], *inputs[1:], act=act, clamp=clamp, axis=axis, impl=impl)
            results += [y, *tf.gradients(y, inputs, tf.sin(y))]
        return results

    found = evaluate(build, *arrays)
    for reference, compiled in zip(found[: len(found) // 2], found[len(found) // 2 :], strict=True):
        assert_close(compiled, reference, "float64", 100)


def test_long_sums_are_accurate():
    # A million ones in float32 and bfloat16: naive sums in either type go astray.
    for axis, shape in ((1, (1, 2, 1 << 20)), (2, (1, 1 << 20, 2))):
        for dtype in ("float32", "bfloat16"):
            x, b = np.ones(shape), np.zeros(2)
            (db,) = evaluate(
                lambda t, u, axis=axis: tf.gradients(ops.fused_bias_act(t, u, axis=axis, impl="compiled"), [u]),
                x, b, dtype=dtype,
            )  # fmt: skip
            assert db.tolist() == [1 << 20] * 2


@pytest.mark.parametrize(
    "change, message",
    [
        ({"act": "gelu"}, r"act: found 'gelu', expected one of linear, relu, lrelu, tanh"),
        ({"axis": 4}, r"axis: found 4, expected an integer from -4 to 3"),
        ({"b": np.zeros(4, np.float32)}, r"b: found shape \(4,\), expected \[3\], the size of axis 1"),
        ({"b": np.zeros((3, 1), np.float32)}, r"b: found rank 2 .*expected rank 1"),
        ({"gain": 0}, r"gain: found 0, expected a finite number other than 0"),
        ({"alpha": float("nan")}, r"alpha: found nan, expected a finite number"),
        ({"clamp": -1}, r"clamp: found -1.0, expected None or a number above 0"),
        ({"x": np.float32(1)}, r"x: found rank 0, expected .*at least 1"),
        ({"x": np.zeros((2, 3), np.int64)}, r"x: found dtype int64"),
    ],
)
def test_refusals(change, message):
    options = {"x": np.zeros((2, 3, 4, 5), np.float32), "b": np.zeros(3, np.float32), **change}
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        ops.fused_bias_act(**options)


def test_mixed_dtypes_are_refused():
    with tf.Graph().as_default(), pytest.raises(ValueError, match="b: found dtype float32, expected float16"):
        ops.fused_bias_act(tf.zeros([2, 3], tf.float16), tf.zeros([3], tf.float32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("act, clamp", [("lrelu", 0.5), ("relu", None), ("linear", 0.25), ("linear", None)])
@pytest.mark.parametrize("channels", [48, 80])
def test_gradients_of_many_channels(act, clamp, dtype, channels):
    """Registers of channels, several pieces of pixels; zeros and clamped numbers among the results."""
    random = np.random.RandomState(3)
    x, b, dy = np.round(random.randn(3, 19, 23, channels) * 8) / 8, np.round(random.randn(channels)), random.randn()

    def build(x, b):
        results = []
        for impl in IMPLS:
            y = ops.fused_bias_act(x, b, act, clamp=clamp, axis=3, impl=impl)
            results += [y, *tf.gradients(y, [x, b], tf.sin(x) * tf.cast(dy, x.dtype))]
        return results

    found = evaluate(build, x, b, dtype=dtype)
    for reference, compiled in zip(found[:3], found[3:], strict=True):
        assert_close(compiled, reference, dtype, 8)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels", [3, 100, 128])
def test_results_written_past_the_caches(channels, dtype):
    """From 48 MiB on. Of few channels, several pixels make up whole registers, and the rest is left to other loops."""
    random = np.random.RandomState(4)
    pixels = (50 << 20) // (4 if dtype == "float32" else 2) // channels + 5
    x, b = random.randn(pixels, channels).astype(np.float32), random.randn(channels)

    def build(x, b):
        results = []
        for impl in IMPLS:
            y = ops.fused_bias_act(x, b, "lrelu", axis=1, impl=impl)
            results += [y, *tf.gradients(y, [x, b], x)]
        return results

    y_ref, dx_ref, _, y, dx, db = evaluate(build, x, b, dtype=dtype)
    assert_close(y, y_ref, dtype, 8)
    assert_close(dx, dx_ref, dtype, 8)
    # The reference adds millions of numbers in float32.
    rounding = 0 if dtype == "float32" else 2**-8
    assert np.abs(db - dx.sum(0)).max() <= 1e-5 * np.abs(dx).sum(0).max() + rounding * np.abs(db).max()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("act", ["tanh", "sigmoid", "elu", "selu", "softplus", "swish"])
def test_slopes_of_half_types_are_those_of_the_formula(act, impl, dtype):
    """Results of these types are too coarse to tell the slope far from zero: tanh(3) rounds to 0.996 or to 1."""
    x = rounded(np.array([-6, -4, -3, -1, -0.25, 0.25, 1, 3, 4, 6.0]), dtype)
    with tf.Graph().as_default(), tf.Session() as session:
        t = tf.cast(tf.constant(x), dtype)
        dx = tf.gradients(ops.fused_bias_act(t, None, act, axis=0, impl=impl), t)[0]
        found = session.run(tf.cast(dx, tf.float64))
    value, slope, gain = CLOSED[act]
    # Two roundings of the result, and the smallest numbers of float16.
    np.testing.assert_allclose(found, gain * slope(x), rtol=0.01 if dtype == "bfloat16" else 0.002, atol=1e-7)


def test_slope_of_selu_at_zero_is_one_number():
    for dtype in ("float32", "float64"):
        for impl in IMPLS:

            def slope(x, impl=impl):
                return tf.gradients(ops.fused_bias_act(x, None, "selu", axis=0, impl=impl), x)

            np.testing.assert_allclose(evaluate(slope, np.zeros(1), dtype=dtype)[0], [S], rtol=1e-6)


def test_derivatives_beyond_the_last_are_refused_in_time():

    def derivative(x, order):
        y = ops.fused_bias_act(x, None, "swish", axis=0, impl="compiled")
        for _ in range(order):
            y = tf.gradients(y, x)[0]
        return [y]

    assert np.isfinite(evaluate(lambda x: derivative(x, 13), np.array([0.5]))[0]).all()
    with pytest.raises(ValueError, match="found derivative 14 of swish, expected at most 13; for more use impl='ref'"):
        evaluate(lambda x: derivative(x, 14), np.array([0.5]))


@pytest.mark.parametrize("gain", [1e-39, -3e38])
def test_gains_that_float32_cannot_divide_by(gain):
    with pytest.raises(ValueError, match=r"gain: found .*, expected a number of a size between 1e-37 and 1e37"):
        ops.fused_bias_act(tf.zeros([1]), None, "tanh", gain=gain, axis=0)
