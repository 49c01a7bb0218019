"""Resampling helpers and convolutions around them: the definitions, grouped as per sample, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from dnnlib.tflib import ops
from dnnlib.tflib.tfutil import create_session, tf
from tests.dnnlib.ops.helpers import IMPLS, assert_close, check_derivatives, evaluate, upfirdn_oracle

K = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
FORMATS = ("NCHW", "NHWC")


def correlate(x: np.ndarray, w: np.ndarray, stride: int = 1) -> np.ndarray:
    """VALID correlation of x [N, C, H, W] with w [kh, kw, C, out], by scipy."""
    result = [
        [
            sum(scipy.signal.correlate2d(x[n, c], w[:, :, c, o], "valid") for c in range(x.shape[1]))
            for o in range(w.shape[3])
        ]
        for n in range(len(x))
    ]
    return np.array(result)[:, :, ::stride, ::stride]


def defined(op: str, x: np.ndarray, w: np.ndarray | None) -> np.ndarray:
    """The table of definitions: filter [1, 3, 3, 1], factor 2, padding on both axes alike."""
    kernel = w.shape[0] if w is not None else 0
    up, down, pad, gain = {
        "upsample_2d": (2, 1, (2, 1), 4),
        "downsample_2d": (1, 2, (1, 1), 1),
        "filter_2d": (1, 1, (2, 1), 1),
        "upsample_conv_2d": (2, 1, (3, 2) if kernel == 3 else (2, 1), 4),
        "conv_downsample_2d": (1, 1, (2, 2) if kernel == 3 else (1, 1), 1),
    }[op]
    y = upfirdn_oracle(x, K * gain, (up, up), (down, down), pad * 2)
    if w is None:
        return y
    return correlate(y, w, 2 if op == "conv_downsample_2d" else 1)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
    "op, kernel",
    [("upsample_2d", 0), ("downsample_2d", 0), ("filter_2d", 0)]
    + [(op, k) for op in ("upsample_conv_2d", "conv_downsample_2d") for k in (1, 3)],
)
def test_definitions(op, kernel, impl, data_format):
    random = np.random.RandomState(0)
    x = random.randn(2, 3, 8, 6)
    w = random.randn(kernel, kernel, 3, 4) if kernel else None

    def build(t, *rest):
        t = t if data_format == "NCHW" else tf.transpose(t, [0, 2, 3, 1])
        y = getattr(ops, op)(t, *rest, k=[1, 3, 3, 1], data_format=data_format, impl=impl)
        return [y if data_format == "NCHW" else tf.transpose(y, [0, 3, 1, 2])]

    found = evaluate(build, *([x] if w is None else [x, w]))
    assert_close(found[0], defined(op, x, w), "float64", 10)


@pytest.mark.parametrize("impl", IMPLS)
def test_constant_images_keep_their_value_inside(impl):
    x = np.ones((1, 1, 12, 12))
    options = {"impl": impl, "k": [1, 3, 3, 1]}
    found = evaluate(
        lambda t: [ops.upsample_2d(t, **options), ops.downsample_2d(t, **options), ops.filter_2d(t, **options)], x
    )
    for y in found:
        assert y[0, 0, 2:-2, 2:-2] == pytest.approx(1)
    up, down = evaluate(
        lambda t: [ops.upsample_2d(t, factor=3), ops.downsample_2d(t, factor=3)], np.arange(9.0).reshape(1, 1, 3, 3)
    )
    assert up[0, 0].tolist() == np.kron(np.arange(9).reshape(3, 3), np.ones((3, 3))).tolist()
    assert down.item() == pytest.approx(4)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("op", ["conv_2d", "upsample_conv_2d", "conv_downsample_2d"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_grouped_is_one_convolution_per_sample(op, kernel, impl, data_format):
    random = np.random.RandomState(1)
    n, c, o = 3, 4, 5
    x, w = random.randn(n, c, 6, 8), random.randn(kernel, kernel, c, n * o)
    options = {"data_format": data_format} | ({} if op == "conv_2d" else {"k": [1, 3, 3, 1], "impl": impl})
    function = getattr(ops, op)

    def images(t, back=False):
        return t if data_format == "NCHW" else tf.transpose(t, [0, 3, 1, 2] if back else [0, 2, 3, 1])

    def build(x, w):
        grouped = images(function(images(tf.reshape(x, [1, n * c, 6, 8])), w, **options), back=True)
        single = [
            images(function(images(x[i : i + 1]), w[:, :, :, i * o : (i + 1) * o], **options), back=True)
            for i in range(n)
        ]
        single = tf.concat(single, axis=1)
        results = []
        for y in (grouped, single):
            grads = tf.gradients(y, [x, w], tf.sin(y))
            second = tf.gradients(grads[0], [x, w], tf.cos(x), unconnected_gradients="zero")
            results += [y, *grads, *second]
        return results

    found = evaluate(build, x, w)
    for grouped, single in zip(found[:5], found[5:], strict=True):
        assert_close(grouped, single, "float64", 100)


def test_grouped_with_unknown_number_of_samples():
    with tf.Graph().as_default(), create_session() as session:
        s = tf.placeholder(tf.float32, [None, 4])
        x = tf.placeholder(tf.float32, [None, 4, 8, 8])
        w = ops.modulate_weights(tf.ones([3, 3, 4, 5]), s, layout="grouped")
        flat = tf.reshape(x, [1, -1, 8, 8])
        results = [ops.conv_2d(flat, w), ops.upsample_conv_2d(flat, w), ops.conv_downsample_2d(flat, w)]
        feeds = {s: np.ones((2, 4)), x: np.ones((2, 4, 8, 8))}
        found = session.run([*results, tf.gradients(results, s)[0]], feeds)
    assert [f.shape for f in found] == [(1, 10, 8, 8), (1, 10, 16, 16), (1, 10, 4, 4), (2, 4)]


@pytest.mark.parametrize("op", ["upsample_conv_2d", "conv_downsample_2d"])
@pytest.mark.parametrize("impl", IMPLS)
def test_derivatives(op, impl):
    random = np.random.RandomState(2)
    x, w = random.randn(1, 5, 4, 2) / 4, random.randn(3, 3, 2, 2) / 4
    check_derivatives(lambda a, b: getattr(ops, op)(a, b, [1, 3, 3, 1], data_format="NHWC", impl=impl), x, w)


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x: ops.upsample_2d(x, factor=0), r"factor: found 0, expected an integer of at least 1"),
        (lambda x: ops.downsample_2d(x, padding=0.5), r"padding: found 0.5, expected an integer"),
        (lambda x: ops.filter_2d(x, [1, -1]), r"k: found taps that sum to 0.0, expected a filter with a sum"),
        (
            lambda x: ops.conv_2d(x, np.zeros((3, 3, 2, 4), np.float32)),
            r"w: found shape \(3, 3, 2, 4\), expected 3 input maps",
        ),
        (lambda x: ops.conv_2d(x, np.zeros((3, 3, 3), np.float32)), r"w: found rank 3"),
        (
            lambda x: ops.conv_2d(x, np.zeros((3, 3, 3, 4), np.float32), padding="FULL"),
            r"padding: found 'FULL', expected",
        ),
        (lambda x: ops.conv_2d(x, tf.zeros([3, 3, 3, 4], tf.float16)), r"w: found dtype float16, expected float32"),
        (
            lambda x: ops.conv_downsample_2d(x, np.zeros((3, 3, 3, 4), np.float32), padding=-2),
            r"padding: found -3 rows or columns",
        ),
    ],
)
def test_refusals(function, message):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        function(tf.zeros([2, 3, 4, 4]))
