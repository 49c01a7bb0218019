"""3x3 convolutions by minimal filtering: TensorFlow's in float64 as the truth, derivatives of any order, choices."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.tflib import ops
from dnnlib.tflib.ops import conv_3x3 as compiled
from dnnlib.tflib.ops import library
from dnnlib.tflib.tfutil import create_session, num_gpus, tf
from tests.dnnlib.ops.helpers import assert_close, evaluate, rounded
from training import flops

COMPILED_OPS = {"DnnlibConv3x3", "DnnlibConv3x3FilterGrad"}


def operands(results, maps, stride, seed=0, dtype="float32"):
    """x, w and a gradient of the results, numbers of the dtype; results [N, H, W], maps (in, out)."""
    random = np.random.RandomState(seed)
    n, height, width = results
    image = (height, width) if stride == 1 else (2 * height + 1, 2 * width + 1)
    shapes = (n, *image, maps[0]), (3, 3, *maps), (*results, maps[1])
    return [rounded(random.randn(*shape), dtype) for shape in shapes]


def padding(stride):
    return "SAME" if stride == 1 else "VALID"


def with_gradients(y, inputs, dy):
    return [y, *tf.gradients(y, inputs, dy)]


def expected(x, w, dy, stride):
    """[y, dx, dw] of TensorFlow in float64."""

    def build(x, w, dy):
        return with_gradients(tf.nn.conv2d(x, w, stride, padding(stride)), [x, w], dy)

    return evaluate(build, x, w, dy)


def found(x, w, dy, stride, dtype="float32", tile=None):
    """[y, dx, dw] of the compiled ops."""

    def build(x, w, dy):
        return with_gradients(compiled.conv_3x3(x, w, stride, tile), [x, w], dy)

    return evaluate(build, x, w, dy, dtype=dtype)


# Stride and tile, and how much more than a few roundings results may be off by: tiles of 4 lose some in transforms.
WAYS = {(1, 2): 1, (1, 4): 3, (2, 2): 1}


@pytest.mark.parametrize(("stride", "tile"), WAYS)
@pytest.mark.parametrize(
    ("results", "maps"),
    [
        ((2, 7, 5), (32, 48)),  # tiles that reach over the border, half a panel of maps
        ((1, 8, 8), (160, 16)),
        ((3, 1, 1), (16, 64)),  # less than a tile
        ((1, 2, 300), (16, 16)),
        ((2, 16, 16), (128, 128)),
        ((1, 9, 6), (272, 304)),  # sums in two blocks, two groups of maps
        ((1, 12, 12), (528, 32)),  # three blocks
        ((3, 33, 34), (16, 32)),  # several pieces of work, several parts of the sums of filters
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_equals_tensorflow(results, maps, stride, tile, dtype):
    arrays = operands(results, maps, stride, dtype=dtype)
    values = found(*arrays, stride, dtype, tile), expected(*arrays, stride)
    for name, a, b in zip(("y", "dx", "dw"), *values, strict=True):
        assert_close(a, b, dtype, WAYS[stride, tile] if dtype == "float32" else 1, what=name)


@functools.cache
def session_of(stride, tile):
    """A session, placeholders of any size, and results of both."""
    graph = tf.Graph()
    with graph.as_default():
        inputs = [tf.placeholder(tf.float64, [None] * 4) for _ in range(3)]
        x, w, dy = inputs
        single = [tf.cast(t, tf.float32) for t in inputs]
        mine = with_gradients(compiled.conv_3x3(*single[:2], stride, tile), single[:2], single[2])
        theirs = with_gradients(tf.nn.conv2d(x, w, stride, padding(stride)), [x, w], dy)
        return tf.Session(graph=graph), inputs, mine, theirs


@settings(max_examples=80, deadline=None)
@given(
    results=st.tuples(st.integers(1, 5), st.integers(1, 37), st.integers(1, 37)),
    maps=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    way=st.sampled_from(list(WAYS)),
    seed=st.integers(0, 1000),
)
def test_any_size(results, maps, way, seed):
    stride, tile = way
    session, inputs, mine, theirs = session_of(stride, tile)
    arrays = operands(results, (16 * maps[0], 16 * maps[1]), stride, seed)
    values = session.run([mine, theirs], dict(zip(inputs, arrays, strict=True)))
    for a, b in zip(*values, strict=True):
        assert_close(a, b, "float32", WAYS[way], what=(results, maps, way))


@pytest.mark.parametrize(("stride", "tile"), WAYS)
@pytest.mark.parametrize("adjoint", [False, True])
def test_derivatives_of_higher_order(stride, tile, adjoint):
    """Second and third derivatives of the convolution and of its adjoint against TensorFlow's in float64."""
    x, w, dy = operands((2, 5, 6), (16, 32), stride)

    def derivatives(function, x, w):
        y = function(x, w)
        level = tf.reduce_sum(tf.square(y) + y)
        found = [y]
        for seed in range(3):
            gradients = tf.gradients(level, [x, w])
            found += gradients
            weights = [np.sin(np.arange(g.shape.num_elements()) + seed).reshape(g.shape) for g in gradients]
            level = tf.add_n(
                [tf.reduce_sum(g * tf.constant(a, g.dtype)) for g, a in zip(gradients, weights, strict=True)]
            )
        return found

    def mine(x, w):
        return derivatives(
            lambda x, w: (compiled.conv_3x3_adjoint if adjoint else compiled.conv_3x3)(x, w, stride, tile), x, w
        )

    def theirs(image, w):
        def function(image, w):
            if adjoint:
                return tf.nn.conv2d_transpose(image, w, x.shape, stride, padding(stride))
            return tf.nn.conv2d(image, w, stride, padding(stride))

        return derivatives(function, image, w)

    image = dy if adjoint else x
    results = evaluate(mine, image, w, dtype="float32"), evaluate(theirs, image, w)
    assert len(results[0]) == 7
    for k, (a, b) in enumerate(zip(*results, strict=True)):
        assert_close(a, b, "float32", 2 * WAYS[stride, tile], f"number {k}")


def test_derivatives_stay_compiled():
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [4, 16, 16, 32])
        w = tf.placeholder(tf.float32, [3, 3, 32, 48])
        y = ops.conv_2d(x, w, data_format="NHWC", impl="compiled")
        for _ in range(3):
            y = tf.add_n([tf.reduce_sum(tf.square(g)) for g in tf.gradients(y, [x, w])])
        types = {op.type for op in graph.get_operations() if "onv" in op.type}
    assert types == COMPILED_OPS


def test_no_images():
    for stride, tile in WAYS:
        x, w, dy = operands((0, 8, 8), (16, 32), stride)
        y, dx, dw = found(x, w, dy, stride, tile=tile)
        assert y.shape == (0, 8, 8, 32) and dx.shape == x.shape
        np.testing.assert_array_equal(dw, np.zeros(w.shape))


@pytest.mark.parametrize("tile", [2, 4])
def test_images_do_not_meet(tile):
    """Each image gives the same bits in a minibatch as alone."""
    x, w, _ = operands((5, 20, 20), (48, 80), 1)
    (together,) = evaluate(lambda x, w: [compiled.conv_3x3(x, w, tile=tile)], x, w, dtype="float32")
    for i in range(5):
        (alone,) = evaluate(lambda x, w: [compiled.conv_3x3(x, w, tile=tile)], x[i : i + 1], w, dtype="float32")
        np.testing.assert_array_equal(together[i], alone[0])


def test_tiles():
    """Of 4x4 results where these are many for the weights, and do not reach far beyond the images."""
    assert [compiled.tile_of(16, size, size, 128, 128) for size in (4, 8, 16)] == [2, 4, 4]
    assert [compiled.tile_of(n, 16, 16, 512, 512) for n in (None, 4, 32)] == [2, 2, 4]
    assert [compiled.tile_of(64, size, size, 64, 64) for size in (5, 6, 7, 9)] == [2, 2, 4, 4]
    assert compiled.tile_of(None, 64, 64, 128, 128) == 4 and compiled.tile_of(None, None, 64, 128, 128) == 2
    with tf.Graph().as_default():
        x, w = tf.placeholder(tf.float32, [None, 64, 64, 32]), tf.placeholder(tf.float32, [3, 3, 32, 48])
        y = compiled.conv_3x3(x, w)
        dx, dw = tf.gradients(y, [x, w])
        assert {op.get_attr("tile") for op in (y.op, dx.op, dw.op)} == {4}


def test_numbers_that_are_none():
    """One NaN spoils what it reaches, and no more than the tiles that it is in."""
    x, w, _ = operands((2, 12, 12), (16, 16), 1)
    x[0, 5, 5, 3] = np.nan
    (y,) = evaluate(lambda x, w: [compiled.conv_3x3(x, w)], x, w, dtype="float32")
    assert np.isnan(y[0, 4:7, 4:7]).all()
    assert np.isfinite(y[0, :4]).all() and np.isfinite(y[0, 8:]).all() and np.isfinite(y[1]).all()


# ---------------------------------------------------------------- choices


@pytest.mark.parametrize("case", ["same", "down", "up"])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_helpers_use_it(case, data_format):
    """The networks' convolutions take the compiled op, unless the reference is asked for; results agree."""
    random = np.random.RandomState(1)
    x, w = random.randn(3, 20, 24, 32), random.randn(3, 3, 32, 64)
    k = [1, 3, 3, 1]

    def build(x, w, impl):
        if data_format == "NCHW":
            x = tf.transpose(x, [0, 3, 1, 2])
        if case == "same":
            return ops.conv_2d(x, w, data_format=data_format, impl=impl)
        helper = ops.upsample_conv_2d if case == "up" else ops.conv_downsample_2d
        return helper(x, w, k, data_format=data_format, impl=impl)

    def both(x, w):
        results = []
        for impl in ("compiled", "ref"):
            before = len(tf.get_default_graph().get_operations())
            results += with_gradients(build(x, w, impl), [x, w], None)
            types = {op.type for op in tf.get_default_graph().get_operations()[before:]}
            assert (types >= COMPILED_OPS) == (impl == "compiled")
            assert bool(types & {"Conv2D", "Conv2DBackpropInput"}) == (impl == "ref")
        return results

    values = evaluate(both, x, w, dtype="float32")
    for a, b in zip(values[:3], values[3:], strict=True):
        assert_close(a, b, "float32", 2)


def test_maps_that_lack_some():
    """One map more than compiled convolutions take, as after the minibatch's standard deviation."""
    x, w, dy = operands((4, 9, 8), (129, 64), 1)
    types = set()

    def build(x, w, dy):
        values = with_gradients(ops.conv_2d(x, w, data_format="NHWC", impl="compiled"), [x, w], dy)
        types.update(op.type for op in x.graph.get_operations() if "onv" in op.type)
        return values

    for name, a, b in zip(
        ("y", "dx", "dw"), evaluate(build, x, w, dy, dtype="float32"), expected(x, w, dy, 1), strict=True
    ):
        assert_close(a, b, "float32", WAYS[1, 4], what=name)
    assert types == COMPILED_OPS


def test_what_is_taken(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")

    def takes(x, w, stride=1, dtype=tf.float32, **options):
        with tf.Graph().as_default():
            return compiled.takes_conv_3x3(tf.placeholder(dtype, x), tf.placeholder(dtype, w), stride, **options)

    w = [3, 3, 32, 64]
    assert takes([4, 8, 8, 32], w)
    assert takes([None, 16, 16, 32], w)
    assert takes([4, 17, 17, 32], w, 2)
    assert takes([4, 8, 8, 64], w, 2, adjoint=True)
    assert not takes([4, 8, 8, 32], w, impl="ref")
    assert not takes([3, 8, 8, 32], w), "too little work"
    assert not takes([None, 8, 8, 32], w), "perhaps too little"
    assert not takes([4, None, 8, 32], w)
    assert not takes([4, 16, 16, 32], w, 2), "even sides"
    assert not takes([4, 8, 8, 32], w, 3)
    assert not takes([4, 8, 8, 32], [1, 1, 32, 64])
    assert not takes([4, 8, 8, 24], [3, 3, 24, 64])
    assert not takes([4, 8, 8, 0], [3, 3, 0, 64])
    assert not takes([4, 8, 8, 16], [3, 3, 16, 64]), "few maps"
    assert not takes([4, 17, 17, 32], [3, 3, 32, 32], 2), "few maps for stride 2"
    assert not takes([1, 16, 16, 512], [3, 3, 512, 512]), "many weights for few results"
    assert takes([2, 16, 16, 512], [3, 3, 512, 512])
    assert not takes([4, 8, 8, 32], w, dtype=tf.float64)
    few, wide = [8, 4, 4, 32], [3, 3, 512, 512]
    for choice, flags, without in (
        ("0", "avx512_vnni", True), ("1", "", False), ("", "avx512f avx512_vnni", False), ("", "avx2", True),
    ):  # fmt: skip
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", choice)
        monkeypatch.setattr(compiled, "cpu_flags", lambda flags=flags: frozenset(flags.split()))
        monkeypatch.setattr(compiled.platform, "machine", lambda: "x86_64")
        assert takes(few, w) == without
        assert takes([4, 4, 4, 512], wide) == without and not takes([2, 4, 4, 512], wide)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    for flags, ours in (("avx512f", True), ("avx512f avx512_bf16", False), ("amx_bf16", False), ("", True)):
        monkeypatch.setattr(compiled, "cpu_flags", lambda flags=flags: frozenset(flags.split()))
        assert takes([4, 8, 8, 32], w, dtype=tf.bfloat16) == ours
        assert takes([4, 8, 8, 32], w)


def test_wrong_operands_of_the_graph_are_errors():
    with tf.Graph().as_default():
        x, w = tf.zeros([4, 9, 9, 32]), tf.zeros([3, 3, 32, 48])
        for arguments in ((x, tf.zeros([3, 3, 16, 48]), 1), (x, tf.zeros([3, 5, 32, 48]), 1), (x, w, 3)):
            with pytest.raises(ValueError):
                compiled.conv_3x3(*arguments)
        with pytest.raises(ValueError, match="impl"):
            ops.conv_2d(x, w, data_format="NHWC", impl="nonsense")


def test_wrong_operands_are_errors():
    library.ops()
    cases = [
        ((2, 8, 8, 16), (3, 3, 32, 16), 1, "expected images"),
        ((2, 8, 8, 16), (3, 1, 16, 16), 1, "expected images"),
        ((2, 8, 8, 8), (3, 3, 8, 16), 1, "multiples of 16"),
        ((2, 8, 9, 16), (3, 3, 16, 16), 2, "odd sides"),
    ]
    for x, w, stride, message in cases:
        with tf.Graph().as_default(), create_session() as session:
            feeds = {tf.placeholder(tf.float32): np.zeros(x), tf.placeholder(tf.float32): np.zeros(w)}
            with pytest.raises(tf.errors.InvalidArgumentError, match=message):
                session.run(compiled.conv_3x3(*feeds, stride), feeds)
    with tf.Graph().as_default(), create_session() as session:
        feeds = {
            tf.placeholder(tf.float32): np.zeros((2, 9, 9, 16)),
            tf.placeholder(tf.float32): np.zeros((2, 9, 9, 16)),
        }
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"dy: expected \[2, 4, 4, out\]"):
            session.run(library.ops().dnnlib_conv3x3_filter_grad(*feeds, stride=2), feeds)


def test_flops_are_those_of_the_taps():
    """Counted like TensorFlow's, however few products are made."""
    for stride in (1, 2):
        counts = []
        for impl in ("compiled", "ref"):
            with tf.Graph().as_default():
                x = tf.placeholder(tf.float32, [4, 17, 17, 32])
                w = tf.placeholder(tf.float32, [3, 3, 32, 64])
                y = ops.conv_2d(x, w, stride, "SAME" if stride == 1 else "VALID", "NHWC", impl=impl)
                made = flops.find_convolutions([t.op for t in with_gradients(y, [x, w], None)])
                assert {shape.compiled for shape in made} == {impl == "compiled" and not num_gpus()}  # GPUs: cuDNN
                counts.append({(s.plain().op, s.image, s.kernel, s.grad, s.stride, s.padding, s.flops) for s in made})
        assert counts[0] == counts[1] and len(counts[0]) == 3
