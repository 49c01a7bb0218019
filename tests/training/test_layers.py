"""Layers against the formulas written out: the factor of equalised learning rate may move, results may not."""

import numpy as np
import pytest

from dnnlib import tflib
from dnnlib.tflib.network import Network
from dnnlib.tflib.ops import ACTIVATIONS, conv_downsample_2d, fused_bias_act
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from tests.tiny import tiny_config
from training.config_networks import D_kwargs
from training.layers import (
    Layout,
    append_minibatch_stddev,
    convolution,
    convolution_act,
    dense_act,
    fully_connected,
    modulated_convolution,
)

KERNEL = (1, 3, 3, 1)


def _images(*shape):
    return np.random.RandomState(1).randn(*shape).astype(np.float32)


def _set_variables(bias_factor=1.0):
    """Random values for all variables; returns (stored weight, effective bias)."""
    rng = np.random.RandomState(2)
    values = {v: rng.randn(*v.shape.as_list()).astype(np.float32) for v in tf.global_variables()}
    tflib.set_vars(values)
    by_name = {v.op.name.rpartition("/")[2]: value for v, value in values.items()}
    return by_name["weight"], by_name.get("bias", np.zeros(1, np.float32)) * np.float32(bias_factor)


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("act", list(ACTIVATIONS))
def test_convolution_act(session, act, down):
    x, clamp, scale = _images(2, 8, 8, 5), 1.5, 0.7
    options = dict(down=True, resample_kernel=KERNEL) if down else {}
    y = convolution_act(tf.constant(x), 4, 3, Layout("NHWC"), act, clamp=clamp, scale=scale, **options)
    weight, b = _set_variables()
    w = weight / np.sqrt(3 * 3 * 5).astype(np.float32)
    z = conv_downsample_2d(x, w, KERNEL, data_format="NHWC") if down else tf.nn.conv2d(x, w, 1, "SAME")
    expected = fused_bias_act(z, b, act, clamp=clamp, axis=3) * scale
    np.testing.assert_allclose(*session.run([y, expected]), atol=2e-5)
    assert np.abs(session.run(expected)).max() > 0.1


@pytest.mark.parametrize("act", ["lrelu", "tanh"])
def test_dense_act(session, act):
    x, lrmul = _images(3, 6), 0.01
    y = dense_act(tf.constant(x), 4, act, lrmul)
    weight, b = _set_variables(lrmul)
    expected = fused_bias_act(x @ (weight * np.float32(lrmul / np.sqrt(6))), b, act)
    np.testing.assert_allclose(*session.run([y, expected]), rtol=1e-4, atol=1e-7)


def test_fully_connected_and_plain_convolution(session):
    x, images = _images(3, 6), _images(2, 8, 8, 6)
    dense = fully_connected(tf.constant(x), 4)
    weight, _ = _set_variables()
    np.testing.assert_allclose(session.run(dense), x @ weight / np.sqrt(6), rtol=1e-4, atol=1e-6)
    with tf.variable_scope("conv"):
        y = convolution(tf.constant(images), 4, 1, Layout("NHWC"), gain=0.5)
    tflib.set_vars({tf.global_variables()[-1]: weight.reshape(1, 1, 6, 4)})
    np.testing.assert_allclose(session.run(y), images @ weight / np.sqrt(6) * 0.5, rtol=1e-4, atol=1e-6)


def test_float16_does_not_overflow_before_the_factor(session):
    """Inputs as large as conv_clamp lets them be, weights of one sign: the sum without the factor exceeds 65504."""
    x = np.full((1, 8, 8, 256), 256, np.float16)
    y = convolution_act(tf.constant(x), 4, 3, Layout("NHWC"), "lrelu", clamp=None)
    weight = [v for v in tf.global_variables() if v.op.name.endswith("weight")][0]
    tflib.set_vars({v: np.ones(v.shape.as_list()) * (v is weight) for v in tf.global_variables()})
    middle = session.run(y)[0, 3, 3]
    np.testing.assert_allclose(middle.astype(np.float32), 256 * np.sqrt(9 * 256) * np.sqrt(2), rtol=2e-3)


@pytest.mark.parametrize("up", [False, True])
def test_float16_with_a_style_and_weights_of_zero(session, up):
    """One sample has no style, one output map no weights: zeros, with gradients that are numbers, as in float32."""
    x, style, layout = _images(3, 8, 8, 5), _images(3, 4), Layout("NHWC")
    style[1] = 0
    results = {}
    for dtype in (tf.float32, tf.float16):
        with tf.variable_scope("layer", reuse=tf.AUTO_REUSE):
            w = tf.constant(style)
            options = dict(up=True, resample_kernel=KERNEL) if up else {}
            y, factors = modulated_convolution(tf.cast(x, dtype), w, 6, 3, layout, **options)
            y = tf.cast(y, tf.float32) * factors[:, None, None, :]
            variables = tf.trainable_variables()
            results[dtype] = y, tf.gradients(y * _images(*y.shape.as_list()), [*variables, w])
    values = {v: _images(*v.shape.as_list()) for v in variables}
    for v in variables:
        if v.op.name.endswith("mod_bias"):
            values[v] = np.full(v.shape.as_list(), -1, np.float32)  # it counts from 1
        elif v.op.name.endswith("/weight"):
            values[v][..., 2] = 0
    tflib.set_vars(values)
    (full, full_grads), (half, half_grads) = session.run([results[tf.float32], results[tf.float16]])
    assert not half[1].any() and not half[..., 2].any() and np.abs(half[0]).max() > 1
    np.testing.assert_allclose(half, full, atol=0.02)
    for a, b in zip(half_grads, full_grads, strict=True):
        assert np.abs(a - b).max() < 0.02 * np.abs(b).max()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_groups_that_do_not_divide_the_minibatch_are_one_line(session, layout):
    shape = dict(num_channels=3, resolution=8, label_size=0)
    D = Network("D", func_name="D_stylegan2", data_format=layout, **shape, **D_kwargs(tiny_config().D))
    images = _images(14, 3, 8, 8)
    for found, options in ((14, {}), (6, {"minibatch_size": 8})):
        with pytest.raises(UserError) as error:
            D.run(images, None, **options)
        assert str(error.value) == (
            "network 'D': minibatch stddev: expected a multiple of mbstd_group_size=4 samples, or fewer, at a time, "
            f"found {found}"
        )
    assert D.run(images, None, mbstd_group_size=7).shape == (14, 1)
    assert D.run(images, None, minibatch_size=3).shape == (14, 1)


def test_groups_of_known_size_need_no_check_at_run_time(session):
    append_minibatch_stddev(tf.zeros([8, 4, 4, 2]), Layout("NHWC"))
    append_minibatch_stddev(tf.zeros([3, 4, 4, 2]), Layout("NHWC"))
    with pytest.raises(UserError, match="mbstd_group_size=4 samples, or fewer, at a time, found 6"):
        append_minibatch_stddev(tf.zeros([6, 4, 4, 2]), Layout("NHWC"))
    assert "Assert" not in {op.type for op in session.graph.get_operations()}
