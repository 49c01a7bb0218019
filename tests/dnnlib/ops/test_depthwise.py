"""Depthwise convolution: both implementations against TensorFlow's own, derivatives of any order, refusals."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.tflib import ops
from dnnlib.tflib.ops.depthwise import RELU6
from dnnlib.tflib.tfutil import create_session, tf
from tests.dnnlib.ops.helpers import DTYPES, IMPLS, assert_close, check_derivatives, evaluate, rounded

CLIPS = (None, RELU6, (0, None), (-1.5, 2.5))


def operands(shape, kernel, dtype, seed=0):
    """x, w, b."""
    random = np.random.RandomState(seed)
    c = shape[3]
    return [rounded(random.randn(*size), dtype) for size in (shape, (*kernel, c, 1), (c,))]


def oracle(x, w, b, stride, clip):
    """TensorFlow's convolution in float64, NumPy's clip."""
    if x.size == 0:
        return np.zeros((x.shape[0], -(-x.shape[1] // stride), -(-x.shape[2] // stride), x.shape[3]))
    strides = [1, stride, stride, 1]
    (y,) = evaluate(lambda x, w: [tf.nn.depthwise_conv2d(x, w, strides, "SAME")], x, w)
    low, high = clip or (None, None)
    return np.clip(y + b, -np.inf if low is None else low, np.inf if high is None else high)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("impl", IMPLS)
def test_grid(impl, dtype):
    """Rows shorter than a tile, ragged and whole tiles; fewer channels than a register, ragged and whole ones."""
    cases = []
    for shape in ((2, 9, 23, 20), (1, 17, 14, 3), (3, 1, 1, 64), (0, 8, 8, 16), (2, 2, 30, 33)):
        for index, kernel in enumerate(((3, 3), (5, 5), (1, 1), (7, 3), (2, 5))):
            for stride in (1, 2, 3):
                cases.append((operands(shape, kernel, dtype), stride, CLIPS[(index + stride) % len(CLIPS)]))
    with tf.Graph().as_default(), create_session() as session:
        results = []
        for arrays, stride, clip in cases:
            x, w, b = (tf.constant(a, dtype) for a in arrays)
            y = ops.depthwise_conv_2d(x, w, b, stride, clip, impl=impl)
            assert y.dtype == x.dtype
            results.append(y)
        found = session.run(results)
    for (arrays, stride, clip), tensor, y in zip(cases, results, found, strict=True):
        assert tensor.shape.as_list() == list(y.shape)
        what = f"{arrays[0].shape} {arrays[1].shape} {stride} {clip}"
        assert_close(y, oracle(*arrays, stride, clip), dtype, 2, what)


@functools.cache
def session_of(kernel, stride, clip):
    """A session, placeholders of any size, results of both implementations and their gradients."""
    graph = tf.Graph()
    with graph.as_default():
        inputs = [tf.placeholder(tf.float32, [None] * rank) for rank in (4, 4, 1)]
        inputs[1].set_shape([*kernel, None, 1])
        results = [ops.depthwise_conv_2d(*inputs, stride, clip, impl=impl) for impl in IMPLS]
        return tf.Session(graph=graph), inputs, [[y, *tf.gradients(y, inputs)] for y in results]


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.integers(1, 70)),
    kernel=st.sampled_from([(3, 3), (5, 5)]),
    stride=st.integers(1, 2),
    clip=st.sampled_from([None, RELU6]),
    seed=st.integers(0, 1000),
)
def test_both_implementations_agree(size, kernel, stride, clip, seed):
    session, inputs, results = session_of(kernel, stride, clip)
    reference, compiled = session.run(results, dict(zip(inputs, operands(size, kernel, "float32", seed), strict=True)))
    assert_close(compiled[0], reference[0], factor=2)
    if clip is None:  # at a limit rounding decides what is cut
        for found, expected in zip(compiled[1:], reference[1:], strict=True):
            assert_close(found, expected, factor=2)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("stride", "clip"), [(1, None), (2, (-0.7, 6))])
def test_derivatives(impl, stride, clip):
    arrays = operands((2, 5, 6, 3), (3, 3), "float64", seed=6)
    check_derivatives(lambda x, w, b: ops.depthwise_conv_2d(x, w, b, stride, clip, impl=impl), *arrays, order=2)


@pytest.mark.parametrize("impl", IMPLS)
def test_without_bias(impl):
    x, w, b = operands((1, 6, 9, 16), (3, 3), "float32")
    (y,) = evaluate(lambda x, w: [ops.depthwise_conv_2d(x, w, impl=impl)], x, w, dtype="float32")
    assert_close(y, oracle(x, w, 0 * b, 1, None))


def test_nan_stays():
    x, w, b = operands((1, 9, 9, 16), (3, 3), "float32")
    x[0, 4, 4, 5] = np.nan
    (y,) = evaluate(
        lambda *t: [ops.depthwise_conv_2d(*t, clip=RELU6, impl="compiled")], x, w, b, dtype="float32"
    )  # fmt: skip
    wrong = np.argwhere(np.isnan(y))
    assert sorted(map(tuple, wrong)) == [(0, i, j, 5) for i in (3, 4, 5) for j in (3, 4, 5)]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (dict(x=np.zeros([2, 8, 8], np.float32)), "x: found rank 3"),
        (dict(x=np.zeros([2, 8, 8, 4], np.int32)), "x: found dtype int32"),
        (dict(w=tf.float64), "w: found dtype float64, expected float32"),
        (dict(w=np.zeros([3, 3, 5, 1])), r"w: found shape \(3, 3, 5, 1\), expected \[kh, kw, 4, 1\]"),
        (dict(w=np.zeros([3, 3, 4, 2])), r"w: found shape \(3, 3, 4, 2\), expected \[kh, kw, 4, 1\]"),
        (dict(w=np.zeros([0, 3, 4, 1])), "a kernel of at least 1 x 1"),
        (dict(b=np.zeros([5])), r"b: found shape \(5,\), expected \[4\], one bias per channel"),
        (dict(stride=0), "stride: found 0, expected an integer of at least 1"),
        (dict(clip=6), r"clip: found 6, expected None or a pair \(low, high\)"),
        (dict(clip=(6, 0)), r"clip: found \(6, 0\), expected a pair \(low, high\) with low < high"),
        (dict(clip=(0, float("nan"))), "clip: found nan, expected a finite number"),
        (dict(impl="fast"), "impl: found 'fast'"),
    ],
)
def test_refusals(change, text):
    with tf.Graph().as_default() as graph:
        if change.get("w") is tf.float64:
            change = dict(w=tf.zeros([3, 3, 4, 1], tf.float64))
        call = dict(x=np.zeros([2, 8, 8, 4], np.float32), w=np.zeros([3, 3, 4, 1]), b=np.zeros([4])) | change
        with pytest.raises(ValueError, match=text):
            ops.depthwise_conv_2d(**call)
        assert not [op for op in graph.get_operations() if "epthwise" in op.type]
