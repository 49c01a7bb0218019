"""Operands at the edge of what is allowed: limits that a dtype cannot hold, no images, shapes known late."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from dnnlib.tflib import ops
from dnnlib.tflib.tfutil import tf

IMPLS = ("ref", "compiled")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("clamp", [0.1, 0.7, 1.1, 256.0])
def test_no_gradient_where_the_clamp_holds(session, dtype, clamp):
    """0.1 and 1.1 in float16, 0.7 in bfloat16 are rounded down: results at the limit are below what was asked for."""
    x = tf.constant(np.array([3, -3, 0.5, 2]).reshape(1, 1, 2, 2) * clamp, dtype)
    for impl in IMPLS:
        for y in (
            ops.fused_bias_act(x, clamp=clamp, impl=impl),
            ops.modulated_epilogue(x, act="linear", clamp=clamp, impl=impl),
        ):
            slope = session.run(tf.cast(tf.gradients(y, x)[0], tf.float32)).ravel()
            np.testing.assert_array_equal(slope, [0, 0, 1, 0])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
def test_gradient_of_noise_whose_batch_is_known_late(session, impl, samples, data_format):
    def images(n: int | None, c: int) -> list[int | None]:
        return [n, c, 4, 5] if data_format == "NCHW" else [n, 4, 5, c]

    x, noise = tf.placeholder("float32", images(None, 3)), tf.placeholder("float32", images(None, 1))
    y = ops.modulated_epilogue(x, None, noise, tf.constant(2.0), act="linear", data_format=data_format, impl=impl)
    feed = {x: np.ones(images(2, 3)), noise: np.ones(images(samples, 1))}
    found = session.run(tf.gradients(y, noise)[0], feed)
    # Three channels, and both images where they share the noise, times the strength.
    np.testing.assert_array_equal(found, np.full(images(samples, 1), 2.0 * 3 * 2 / samples))


def test_operands_need_a_rank():
    with tf.Graph().as_default():
        x, unknown = tf.zeros([2, 3, 4, 4]), tf.placeholder("float32")
        for operands in ((unknown,), (None, unknown, 1.0), (None, None, None, unknown)):
            with pytest.raises(ValueError, match="no rank"):
                ops.modulated_epilogue(x, *operands)


@pytest.mark.parametrize("impl", IMPLS)
def test_operands_of_another_shape_when_it_runs(session, impl):
    """As many numbers as expected do not make the shape: nothing is computed from them."""
    x, flat = tf.placeholder("float32", [None, 3, 4, 4]), tf.placeholder("float32", [None, 5])
    scale, b = tf.placeholder("float32", [None, None]), tf.placeholder("float32", [None])
    noise = tf.placeholder("float32", [None, 1, None, None])
    images, ones = np.ones((2, 3, 4, 4)), np.ones
    refused = [
        (ops.modulated_epilogue(x, scale, impl=impl), {x: images, scale: ones((3, 2))}),
        (ops.modulated_epilogue(x, None, noise, 1.0, impl=impl), {x: images, noise: ones((2, 1, 2, 8))}),
        (ops.modulated_epilogue(x, b=b, impl=impl), {x: images, b: ones(0)}),
        (ops.fused_bias_act(flat, b, impl=impl), {flat: ones((2, 5)), b: ones(0)}),
    ]
    for y, feed in refused:
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(y, feed)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
@pytest.mark.parametrize("function", [ops.upsample_conv_2d, ops.conv_downsample_2d], ids=lambda f: f.__name__)
@pytest.mark.parametrize("kernel", [1, 3])
def test_convolutions_of_no_images(session, impl, data_format, function, kernel):
    for dtype in ("float32", "bfloat16"):
        x = tf.zeros([0, 6, 8, 8] if data_format == "NCHW" else [0, 8, 8, 6], dtype)
        w = tf.ones([kernel, kernel, 6, 4], dtype)
        y = function(x, w, [1, 3, 3, 1], data_format=data_format, impl=impl)
        side = 16 if function is ops.upsample_conv_2d else 4
        assert y.shape.as_list() == ([0, 4, side, side] if data_format == "NCHW" else [0, side, side, 4])
        found, dx, dw = session.run([tf.cast(t, tf.float32) for t in [y, *tf.gradients(y, [x, w])]])
        assert list(found.shape) == y.shape.as_list() and list(dx.shape) == x.shape.as_list()
        np.testing.assert_array_equal(dw, np.zeros(w.shape.as_list()))


def test_what_leaves_nothing_is_refused_by_name():
    with tf.Graph().as_default() as graph:
        x, w3, w9 = tf.zeros([2, 3, 8, 8]), tf.zeros([3, 3, 3, 4]), tf.zeros([9, 9, 3, 4])
        before = len(graph.get_operations())
        for call, name in (
            (lambda: ops.conv_2d(x, w9, padding="VALID"), "x: found 8 rows"),
            (lambda: ops.conv_downsample_2d(x, w9, [1, 1], padding=-3), "padding: found"),
            (lambda: ops.upsample_conv_2d(x, w3, [1, 1], padding=-9), "padding: found"),
            (lambda: ops.upfirdn_2d(x, [1.0], gain=1e300), "gain: found 1e"),
            (lambda: ops.fused_bias_act(x, axis=True), "axis: found True"),
            (lambda: ops.modulate_weights(w3, tf.zeros([2, 3]), demodulate="no"), "demodulate: found 'no'"),
        ):
            with pytest.raises(ValueError, match=name):
                call()
        assert len(graph.get_operations()) - before == 1  # the zeros of the last line
        assert ops.fused_bias_act(x, tf.zeros(3), axis=np.int64(1)).shape == x.shape


def test_the_smallest_results_that_are_left(session):
    """One pixel is a result."""
    x, w = tf.ones([1, 1, 4, 4]), tf.ones([3, 3, 1, 1])
    assert session.run(ops.conv_2d(x, tf.ones([4, 4, 1, 1]), padding="VALID")).shape == (1, 1, 1, 1)
    for function in (ops.upsample_conv_2d, ops.conv_downsample_2d):
        made = []
        for padding in range(0, -9, -1):
            try:
                made.append(function(x, w, [1, 1], padding=padding))
            except ValueError:
                break
        assert 0 < len(made) < 9
        assert all(min(session.run(y).shape[2:]) >= 1 for y in made)


class TestArguments:
    """What numpy or TensorFlow would take for numbers, or refuse in words of their own."""

    HUGE = 10**400  # no float

    @pytest.fixture(autouse=True)
    def images(self):
        with tf.Graph().as_default():
            self.x, self.w = tf.zeros([1, 4, 5, 5]), tf.zeros([3, 3, 4, 4])
            yield

    def refuse(self, text: str, function, *args, **kwargs) -> None:
        with pytest.raises(ValueError, match=f"^{text}"):
            function(*args, impl="ref", **kwargs)

    def test_numbers_of_filters(self):
        for k in (np.array([1 + 2j]), ["1", "2"], [True, False], [self.HUGE], [self.w], np.array(["1"], object), None):
            self.refuse("k: found .*, expected numbers, real and finite", ops.upfirdn_2d, self.x, k)
        self.refuse("gain: found 1.0", ops.upfirdn_2d, self.x, [1e200])
        self.refuse(r"gain: found 10+\.\.\.0+, expected a finite", ops.upfirdn_2d, self.x, [1.0], gain=self.HUGE)
        for k in ([Fraction(1, 2)], np.ones(1, tf.bfloat16.as_numpy_dtype), [[2**70]], np.ones(1, np.uint8)):
            assert ops.upfirdn_2d(self.x, k, impl="ref").shape == self.x.shape

    def test_arrays_without_an_axis_are_integers(self):
        y = ops.upfirdn_2d(self.x, [1.0], up=np.array(2), down=np.array(3), pad=np.array(1), impl="ref")
        assert y.shape == ops.upfirdn_2d(self.x, [1.0], 2, 3, 1, impl="ref").shape
        for name in ("up", "pad"):
            for value in (np.array(2.0), np.array(True), np.ones((2, 2), int)):
                self.refuse(f"{name}: found .*array", ops.upfirdn_2d, self.x, [1.0], **{name: value})

    @pytest.mark.parametrize("value", [1j, True, "1"], ids=["complex", "bool", "text"])
    def test_only_real_numbers_become_operands(self, value):
        numbers, text = [value] * 4, "found dtype .*, expected real numbers"
        for b in (np.array(numbers), numbers):
            self.refuse(f"b: {text}", ops.fused_bias_act, self.x, b)
            self.refuse(f"scale: {text}", ops.modulated_epilogue, self.x, [b])
            self.refuse(f"s: {text}", ops.demodulation, self.w, [b])
        noise = np.ones((1, 1, 5, 5))
        self.refuse(f"strength: {text}", ops.modulated_epilogue, self.x, None, noise, value)
        self.refuse(f"noise: {text}", ops.modulated_epilogue, self.x, None, np.full((1, 1, 5, 5), value), 1.0)

    def test_operands_that_no_tensor_is_made_of(self):
        for b in ([[1, 2], [3]], [None] * 4, [self.HUGE] * 4):
            self.refuse("b: found .*, expected numbers", ops.fused_bias_act, self.x, b)
        self.refuse("x: found None, expected numbers", ops.fused_bias_act, None)
        for b in ([1, 2.0, np.float64(3), np.int32(4)], [tf.constant(1.0)] * 4, np.ones(4, int)):
            assert ops.fused_bias_act(self.x, b, impl="ref").shape == self.x.shape

    def test_activations(self):
        for act in (["lrelu"], {}, None):
            self.refuse("act: found .*, expected one of linear", ops.fused_bias_act, self.x, act=act)

    def test_convolutions(self):
        for stride in (True, 1.0, 0, "1"):
            self.refuse("stride: found .*, expected an integer", ops.conv_2d, self.x, self.w, stride=stride)
        for function in (ops.conv_2d, ops.upsample_conv_2d, ops.conv_downsample_2d):
            for shape in ([3, 3, 0, 3], [0, 3, 4, 3]):
                self.refuse("w: found shape .* at least 1$", function, self.x, tf.zeros(shape))
            uneven = tf.zeros([3, 3, 2, 3])
            self.refuse("w: found .* each of the 2 groups", function, self.x, uneven)
            self.refuse("w: found .*, expected 0 input maps", function, tf.zeros([1, 0, 5, 5]), uneven)

    def test_noise_may_be_a_list(self):
        x, noise = tf.zeros([4, 3, 2, 2]), [[[[1.0, 2.0], [3.0, 4.0]]]]
        assert ops.modulated_epilogue(x, None, noise, 1.0, impl="ref").shape == x.shape
        self.refuse("noise: found shape", ops.modulated_epilogue, x, None, noise * 3, 1.0)
