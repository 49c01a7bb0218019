"""upfirdn_2d: against scipy, compiled against reference, derivatives, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dnnlib.tflib import ops
from dnnlib.tflib.tfutil import create_session, tf
from tests.dnnlib.ops.helpers import (
    DTYPES,
    IMPLS,
    assert_close,
    check_derivatives,
    evaluate,
    rounded,
    upfirdn_oracle,
)

BINOMIAL = np.array([1, 3, 3, 1]) / 8
SKEW = np.array([[1.0, -2, 3], [0.5, 4, -1]])
# filter, up, down, pad; channels decide which loops of the kernels run
GRID = [
    (BINOMIAL, (1, 1), (1, 1), (2, 1, 1, 2)),
    (BINOMIAL, (2, 2), (1, 1), (2, 1, 2, 1)),
    (BINOMIAL, (1, 1), (2, 2), (1, 1, 1, 1)),
    (SKEW, (1, 1), (1, 1), (0, 1, -1, 3)),
    (SKEW, (2, 3), (1, 2), (3, -1, 2, 2)),
    (np.arange(1.0, 13), (3, 1), (2, 4), (7, 6, 5, 8)),
    (np.array([1.0]), (4, 4), (3, 3), (0, 0, 0, 0)),
    (np.array([1.0, -2, 4, 0.5]), (2, 2), (1, 1), (-1, 4, 3, -2)),
    (np.array([1.0, -2, 4, 0.5]), (1, 1), (2, 2), (4, -1, -3, 5)),
]


def full(k: np.ndarray) -> np.ndarray:
    return np.outer(k, k) if k.ndim == 1 else k


def nhwc(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("channels", [1, 3, 7, 64])
def test_equals_scipy(impl, dtype, channels):
    x = rounded(np.random.RandomState(0).randn(2, channels, 13, 10), dtype)
    expected = [upfirdn_oracle(x, full(k), *rest) for k, *rest in GRID]

    def build(first, last):
        nchw = [ops.upfirdn_2d(first, k, up, down, pad, impl=impl) for k, up, down, pad in GRID]
        options = {"impl": impl, "data_format": "NHWC"}
        return nchw + [ops.upfirdn_2d(last, k, up, down, pad, **options) for k, up, down, pad in GRID]

    found = evaluate(build, x, nhwc(x), dtype=dtype)
    # Filters are rounded to float32.
    looser = 1e5 if dtype == "float64" else 1
    for i, e in enumerate(expected):
        assert_close(found[i], e, dtype, looser, what=f"NCHW {GRID[i]}")
        assert_close(found[len(GRID) + i], nhwc(e), dtype, looser, what=f"NHWC {GRID[i]}")


# Images beyond the size of caches are filtered along their rows, all channels of a pixel at a time; those of 128 and of
# 144 channels are written past the caches.
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "up, down, shape",
    [
        ((1, 1), (1, 1), (1, 257, 200, 130)),
        ((1, 1), (1, 1), (1, 301, 300, 144)),
        ((2, 2), (1, 1), (1, 133, 157, 130)),
        ((2, 2), (1, 1), (1, 161, 157, 128)),
        ((1, 1), (2, 2), (1, 303, 270, 130)),
    ],
)
@pytest.mark.parametrize("k", [BINOMIAL, np.array([1.0, -2, 4, 0.5])], ids=["mirrored", "skew"])
def test_images_larger_than_caches(k, up, down, shape, dtype):
    n, height, width, channels = shape if dtype == "float32" else (2 * shape[0], *shape[1:])
    x = rounded(np.random.RandomState(0).randn(n, height, width, channels).astype(np.float32), dtype)
    pad = (2, 1, 1, 3)
    (found,) = evaluate(
        lambda t: [ops.upfirdn_2d(t, k, up, down, pad, data_format="NHWC", impl="compiled")], x, dtype=dtype
    )
    item = tf.as_dtype(dtype).size
    assert item * (x.size + found.size) >= 48 << 20  # or other loops run
    # Channels of the first and the last register, and of the shorter last group.
    chosen = [0, 15, 127, *range(128, channels)] if channels < 140 else [0, 127, 128, 143]
    expected = upfirdn_oracle(x[..., chosen].transpose(0, 3, 1, 2), full(k), up, down, pad)
    assert_close(found[..., chosen], nhwc(expected), dtype, what="chosen channels")


def test_rows_of_few_channels_past_the_caches():
    x = np.random.RandomState(0).randn(1, 1041, 1025, 3).astype(np.float32)
    k = np.array([1.0, -2, 4, 0.5])
    (found,) = evaluate(
        lambda t: [ops.upfirdn_2d(t, k, 2, 1, (2, 1, 1, 3), data_format="NHWC", impl="compiled")], x, dtype="float32"
    )
    assert found.size * 4 >= 48 << 20  # or other stores are used
    assert_close(found, nhwc(upfirdn_oracle(x.transpose(0, 3, 1, 2), full(k), (2, 2), (1, 1), (2, 1, 1, 3))))


# Four taps over many channels have kernels of their own, whose registers, blocks of rows and tiles end anywhere.
@pytest.mark.parametrize("pad", [(1, 1, 1, 1), (2, 1, 1, 4), (0, 3, -2, 2), (6, -1, 5, 7), (-1, -2, -3, -1)])
@pytest.mark.parametrize("up, down", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("k", [BINOMIAL, np.array([1.0, -2, 4, 0.5])], ids=["mirrored", "skew"])
def test_four_taps_over_many_channels(k, up, down, pad):
    random = np.random.RandomState(0)
    # Tiles are 8 pixels at 1030 channels, and all of the row at 21.
    images = [random.randn(2, 8, 9, 21), random.randn(1, 9, 37, 1030)]

    def build(*inputs):
        results = []
        for dtype in ("float32", "bfloat16", "float64"):
            cast = [tf.cast(tf.cast(t, "bfloat16"), dtype) for t in inputs]
            ys = [ops.upfirdn_2d(t, k, up, down, pad, data_format="NHWC", impl="compiled") for t in cast]
            results += [*ys, *tf.gradients([y * y for y in ys], cast)]
        return results

    images = [rounded(x, "bfloat16") for x in images]
    found = evaluate(build, *images)
    for i, x in enumerate(images):
        expected = nhwc(upfirdn_oracle(x.transpose(0, 3, 1, 2), full(k), (up, up), (down, down), pad))
        for j, dtype in enumerate(("float32", "bfloat16", "float64")):
            assert_close(found[4 * j + i], expected, dtype, 1, what=f"{dtype} {x.shape}")
            if j:
                assert_close(found[4 * j + 2 + i], found[2 + i], "bfloat16" if j == 1 else "float32", 2, "gradient")


def test_numbers_outside_the_image_are_not_read():
    """Rows and columns of zeros stand there, also beside infinite ones."""
    x = np.full((1, 5, 6, 16), np.inf)
    for up, down in ((1, 1), (2, 1), (1, 2)):
        y = evaluate(
            lambda t, u=up, d=down: [ops.upfirdn_2d(t, BINOMIAL, u, d, 4, data_format="NHWC", impl="compiled")],
            x, dtype="float32",
        )[0]  # fmt: skip
        assert not np.isnan(y).any()
        assert (y[:, 0] == 0).all() and (y[:, :, 0] == 0).all()


def test_results_written_past_the_caches():
    """From 48 MiB on."""
    x = np.random.RandomState(0).randn(1, 445, 451, 64)
    for up, down, pad in ((1, 1, (2, 1, 1, 2)), (2, 1, (2, 1, 2, 1)), (1, 2, (1, 1, 1, 1))):
        x_used = x[:, :223, :226] if up == 2 else np.tile(x, (1, 2, 2, 1)) if down == 2 else x
        found = evaluate(
            lambda t, u=up, d=down, p=pad: [
                ops.upfirdn_2d(t, BINOMIAL, u, d, p, data_format="NHWC", impl=i) for i in IMPLS
            ],
            x_used, dtype="float32",
        )  # fmt: skip
        assert found[1].size * 4 >= 48 << 20
        assert_close(found[1], found[0], "float32")


@st.composite
def arguments(draw):
    size = st.integers(1, 67)
    shape = (draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 3, 5, 20])), draw(size), draw(size))
    taps = st.integers(1, 24)
    k_shape = (draw(taps),) if draw(st.booleans()) else (draw(taps), draw(taps))
    factor = st.integers(1, 4)
    up, down = (draw(factor), draw(factor)), (draw(factor), draw(factor))
    pad = tuple(draw(st.integers(-9, 26)) for _ in range(4))
    for axis in range(2):
        left = shape[2 + axis] * up[axis] + pad[2 * axis] + pad[2 * axis + 1] - k_shape[min(axis, len(k_shape) - 1)]
        kept = shape[2 + axis] * up[axis] + min(pad[2 * axis], 0) + min(pad[2 * axis + 1], 0)
        assume(left >= 0 and kept > 0)
    return shape, k_shape, up, down, pad, draw(st.booleans()), draw(st.sampled_from(["NCHW", "NHWC"]))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(arguments())
def test_compiled_equals_reference(case):
    shape, k_shape, up, down, pad, flip, data_format = case
    random = np.random.RandomState(1)
    x, k = random.randn(*shape), random.randn(*k_shape)
    # A view that is not contiguous in memory.
    x = x if data_format == "NCHW" else nhwc(x)

    def build(t):
        results = []
        for impl in IMPLS:
            y = ops.upfirdn_2d(t, k, up, down, pad, gain=1.5, flip_filter=flip, data_format=data_format, impl=impl)
            weights = tf.cast(tf.reshape(tf.sin(tf.range(tf.size(y), dtype=tf.float32)), tf.shape(y)), y.dtype)
            results += [y, tf.gradients(y, t, weights)[0]]
        return results

    y_ref, dx_ref, y, dx = evaluate(build, x)
    assert_close(y, y_ref, "float64", 10)
    assert_close(dx, dx_ref, "float64", 10)
    flipped = full(k.astype(np.float32).astype(float))[:: -1 if flip else 1, :: -1 if flip else 1]
    oracle = upfirdn_oracle(x if data_format == "NCHW" else x.transpose(0, 3, 1, 2), 1.5 * flipped, up, down, pad)
    assert_close(y, oracle if data_format == "NCHW" else nhwc(oracle), "float32", 4)


@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("case", GRID[1:6:2], ids=str)
def test_derivatives(impl, data_format, case):
    k, up, down, pad = case
    x = np.random.RandomState(2).randn(*((2, 3, 6, 5) if data_format == "NCHW" else (2, 6, 5, 3)))
    k = k / np.abs(k).sum()
    check_derivatives(lambda t: ops.upfirdn_2d(t, k, up, down, pad, data_format=data_format, impl=impl), x)


@pytest.mark.parametrize("batch", [0, None])
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_empty_batch(impl, dtype, batch):
    if batch is None and impl == "ref" and dtype != "float64":
        pytest.skip("oneDNN's depthwise convolution mistakes the size of a batch found to be empty at run time")
    with tf.Graph().as_default(), create_session() as session:
        x = tf.placeholder(dtype, [batch, 3, 5, 4])
        y = ops.upfirdn_2d(x, BINOMIAL, up=2, pad=(2, 1, 2, 1), impl=impl)
        found = session.run([y, tf.gradients(y * y, x)[0]], {x: np.zeros((0, 3, 5, 4))})
    assert [f.shape for f in found] == [(0, 3, 10, 8), (0, 3, 5, 4)]


def test_inputs_permuted_inside_the_graph():
    x = np.random.RandomState(0).randn(2, 6, 5, 3)
    found = evaluate(lambda t: [ops.upfirdn_2d(tf.transpose(t[:, ::-1], [0, 3, 1, 2]), SKEW, impl=i) for i in IMPLS], x)
    assert_close(found[1], found[0], "float64")


def test_sums_of_half_types_are_wide():
    # 24 x 24 times 1: exact in float32, far off if summed in bfloat16 (whose integers end at 256).
    for impl in IMPLS:
        found = evaluate(
            lambda x, i=impl: [ops.upfirdn_2d(x, np.ones(24), impl=i)], np.ones((1, 1, 24, 24)), dtype="bfloat16"
        )
        assert found[0].item() == 576


def test_unknown_sizes_and_long_filters_use_the_reference():
    x = np.random.RandomState(0).randn(1, 2, 60, 50)
    k = np.random.RandomState(1).randn(33)
    with tf.Graph().as_default(), create_session() as session:
        t = tf.placeholder(tf.float64, [None, 2, None, None])
        dynamic = ops.upfirdn_2d(t, BINOMIAL, up=(1, 2), down=2, pad=(1, -1, 2, 0), impl="compiled")
        long = ops.upfirdn_2d(tf.constant(x), k, impl="compiled")
        found = session.run([dynamic, long], {t: x})
    assert_close(found[0], upfirdn_oracle(x, full(BINOMIAL), (1, 2), (2, 2), (1, -1, 2, 0)), "float64", 1e5)
    assert_close(found[1], upfirdn_oracle(x, full(k), (1, 1), (1, 1), (0,) * 4), "float32", 4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x": np.zeros((2, 3, 4), np.float32)}, r"x: found rank 3 .*expected rank 4"),
        ({"x": np.zeros((1, 1, 4, 4), np.int32)}, r"x: found dtype int32, expected one of float32"),
        ({"k": np.zeros((1, 2, 3))}, r"k: found rank 3 .*expected 1 or 2 dimensions"),
        ({"k": []}, r"k: found shape \(0,\), expected at least one tap"),
        ({"k": [1, float("nan")]}, r"k: found numbers that are not finite"),
        ({"k": ["a"]}, r"k: found \['a'\], expected numbers"),
        ({"up": 0}, r"up: found 0, expected an integer of at least 1"),
        ({"up": 1.5}, r"up: found 1.5, expected an integer"),
        ({"down": (2, -1)}, r"down: found \(2, -1\), expected an integer of at least 1"),
        ({"down": (1, 2, 3)}, r"down: found \(1, 2, 3\)"),
        ({"pad": (1, 2)}, r"pad: found \(1, 2\), expected an integer or four integers"),
        (
            {"pad": (-3, -2, 0, 0)},
            r"pad: found \(-3, -2, 0, 0\) .*leaves nothing of height 4.*expected an output of at",
        ),
        ({"k": np.ones((1, 7))}, r"7 taps, which leaves nothing of width 4"),
        ({"gain": float("inf")}, r"gain: found inf, expected a finite number"),
        ({"data_format": "HWCN"}, r"data_format: found 'HWCN', expected 'NCHW' or 'NHWC'"),
        ({"impl": "cuda"}, r"impl: found 'cuda', expected None or one of auto, compiled, ref"),
    ],
)
def test_refusals(change, message):
    options = {"x": np.zeros((1, 2, 4, 4), np.float32), "k": BINOMIAL, "pad": 1, **change}
    with tf.Graph().as_default() as graph:
        with pytest.raises(ValueError, match=message):
            ops.upfirdn_2d(**options)
        assert len(graph.get_operations()) <= 1  # the constant made of x


@pytest.mark.parametrize("shape", [(1, 1, 0, 4), (2, 3, 4, 0)])
@pytest.mark.parametrize("impl", IMPLS)
def test_gradient_of_images_without_pixels(impl, shape):
    def build(x):
        y = ops.upfirdn_2d(x, [1, 2, 1], pad=3, impl=impl)
        return y, tf.gradients(y, x)[0]

    y, dx = evaluate(build, np.zeros(shape))
    assert dx.shape == shape and y.size and not y.any()


@pytest.mark.parametrize("impl", IMPLS)
def test_a_crop_of_more_than_there_is(impl):
    """Of sizes that are known late it is an error as well, when it shows."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [1, 1, None, None])
        y = ops.upfirdn_2d(x, [1.0], pad=(0, -7, 0, -3), impl=impl)
        assert session.run(y, {x: np.ones([1, 1, 9, 9])}).shape == (1, 1, 2, 6)
        with pytest.raises(tf.errors.InvalidArgumentError, match="leaves nothing of the height"):
            session.run(y, {x: np.ones([1, 1, 5, 5])})


@pytest.mark.parametrize("options", [{"pad": (0, 0, -(2**31) + 1, 2**31 - 1)}, {"up": 1 << 24}, {"down": 10**30}])
def test_numbers_too_large_for_the_kernels(options):
    with pytest.raises(ValueError, match="expected numbers of a size below 16777216"):
        ops.upfirdn_2d(tf.zeros([1, 8, 8, 1]), [1, 3, 3, 1], data_format="NHWC", **options)
