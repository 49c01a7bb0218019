"""The test that every device passes before compiled ops are used on it: small inputs against the reference."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dnnlib.tflib.ops.affine_warp import affine_warp
from dnnlib.tflib.ops.convolution import conv_2d
from dnnlib.tflib.ops.demodulation import demodulation
from dnnlib.tflib.ops.depthwise import depthwise_conv_2d
from dnnlib.tflib.ops.fused_bias_act import ACTIVATIONS, fused_bias_act
from dnnlib.tflib.ops.library import relative_error
from dnnlib.tflib.ops.modulate_weights import modulate_weights
from dnnlib.tflib.ops.modulated_epilogue import modulated_epilogue
from dnnlib.tflib.ops.passed import CPU
from dnnlib.tflib.ops.upfirdn_2d import upfirdn_2d
from dnnlib.tflib.tfutil import num_gpus, tf
from dnnlib.util import hide_native_info

# Wrong numbers, not rounding, are what is looked for. (Filters are float32 numbers in any dtype.)
_TOLERANCE = {tf.float64: 1e-6, tf.float32: 1e-4, tf.float16: 2e-2, tf.bfloat16: 1e-1}
# TensorFlow calls it an error that oneDNN, which none of these nodes use, lacks float16 on most processors.
_NO_ERROR = b"oneDNN supports DT_"
_COMMON = ("linear", "lrelu", "swish")  # activations that have code of their own for both layouts

Case = tuple[str, Callable[..., tf.Tensor], list[tf.Tensor]]


def _cases(dtype: tf.DType) -> Iterator[Case]:
    random = np.random.RandomState(0)

    def make(*shape: int, kind: tf.DType = dtype) -> tf.Tensor:
        return tf.constant(random.randn(*shape), dtype=kind)

    # GPUs have other kernels for long filters, large planes, and channels that come in vectors (8 of a half type).
    short, long = [1, 3, 3, 1], np.cos(np.arange(12) / 2)
    for data_format, shape in (("NCHW", (2, 20, 9, 13)), ("NHWC", (2, 9, 13, 24))):
        filters = [(1, 1, short), (2, 1, short), (1, 2, short), (2, 3, [[1, 2], [3, 5]]), (2, 1, long), (1, 2, long)]
        for up, down, k in filters:

            def upfirdn(x: tf.Tensor, up=up, down=down, k=k, data_format=data_format, impl="") -> tf.Tensor:
                return upfirdn_2d(x, k, up, down, (2, 1, 1, 2), data_format=data_format, impl=impl)

            yield f"upfirdn_2d up {up} down {down} {data_format}", upfirdn, [make(*shape)]
            if k is short:
                other, kind = (
                    ((1, 1, 40, 150), "a large plane") if data_format == "NCHW" else ((1, 9, 7, 5), "5 channels")
                )
                yield f"upfirdn_2d up {up} down {down} of {kind}", upfirdn, [make(*other)]
        axis = 1 if data_format == "NCHW" else 3
        # In half types rounding decides what is clamped near the limit.
        clamp = 1.5 if dtype in (tf.float32, tf.float64) else None
        for act in ACTIVATIONS if data_format == "NCHW" else _COMMON:

            def bias_act(x: tf.Tensor, b: tf.Tensor, act=act, axis=axis, clamp=clamp, impl="") -> tf.Tensor:
                return fused_bias_act(x, b, act, clamp=clamp, axis=axis, impl=impl)

            yield f"fused_bias_act {act} {data_format}", bias_act, [make(*shape), make(shape[axis])]

        def epilogue(x, scale, noise, strength, b, data_format=data_format, impl="") -> tf.Tensor:
            return modulated_epilogue(x, scale, noise, strength, b, data_format=data_format, impl=impl)

        noise_shape = tuple(1 if i == axis else d for i, d in enumerate(shape))
        sums = tf.float64 if dtype == tf.float64 else tf.float32
        scale, bias = make(shape[0], shape[axis], kind=sums), make(shape[axis], kind=sums)
        wide = [scale, make(*noise_shape), make(kind=sums), bias]
        yield f"modulated_epilogue {data_format}", epilogue, [make(*shape), *wide]
    for layout in ("per_sample", "grouped"):

        def modulate(w: tf.Tensor, s: tf.Tensor, layout=layout, impl="") -> tf.Tensor:
            return modulate_weights(w, s, layout=layout, impl=impl)

        yield f"modulate_weights {layout}", modulate, [make(3, 3, 20, 12), make(3, 20)]

    def factors(w: tf.Tensor, s: tf.Tensor, impl="") -> tf.Tensor:
        return demodulation(w, s, impl=impl)

    yield "demodulation", factors, [make(3, 3, 20, 12), make(3, 20)]
    for size, stride, channels in ((3, 1, 24), (3, 2, 24), (5, 1, 24), (5, 2, 20), (4, 3, 24)):

        def depthwise(x: tf.Tensor, w: tf.Tensor, stride=stride, channels=channels, impl="") -> tf.Tensor:
            bias = tf.constant(np.linspace(-1, 1, channels), x.dtype)
            return depthwise_conv_2d(x, w, bias, stride, impl=impl)

        inputs = [make(2, 9, 23, channels), make(size, size, channels, 1)]
        yield f"depthwise_conv_2d {size}x{size} / {stride}", depthwise, inputs

    if dtype in (tf.float32, tf.bfloat16) and not num_gpus():  # on GPUs it would test cuDNN
        for stride, size in ((1, 17), (1, 9), (2, 35)):  # of stride 1 with tiles of 4x4 and of 2x2 results

            def convolution(x: tf.Tensor, w: tf.Tensor, stride=stride, impl="") -> tf.Tensor:
                padding = "SAME" if stride == 1 else "VALID"
                return conv_2d(x, w, stride, padding, data_format="NHWC", impl=impl)

            # Whole and half panels, several blocks of sums, groups of maps and parts of the tiles.
            name = f"conv_2d 3x3 / {stride}" + (" of few pixels" if size < 16 else "")
            yield name, convolution, [make(2, size, size, 272), make(3, 3, 272, 80)]

    if dtype in (tf.float32, tf.float64):
        # A turn and a shift, and one that shows the image from far away, between its reflections.
        theta = [[[0.8, -0.6, 1.3], [0.6, 0.9, -2.4]], [[-2.1, 0.3, 4.0], [0.2, 1.9, 7.0]]]

        def warp(x: tf.Tensor, impl="") -> tf.Tensor:
            return affine_warp(x, theta, impl=impl)

        yield "affine_warp", warp, [make(2, 4, 9, 21)]


def _values(
    function: Callable[..., tf.Tensor], inputs: list[tf.Tensor], second_order: bool, impl: str, device: str
) -> list[tf.Tensor]:
    """The result, its gradients, and theirs."""

    def weights(t: tf.Tensor) -> tf.Tensor:
        # They differ from number to number, so that misplaced ones show. (Constants: most of the time goes into nodes.)
        return tf.constant(np.sin(np.arange(t.shape.num_elements())).reshape(t.shape.as_list()), t.dtype)

    with tf.device(device):
        y = function(*inputs, impl=impl)
        first = tf.gradients(y, inputs, weights(y))
        if not second_order:
            return [y, *first]
        second = tf.gradients(first, inputs, [weights(t) for t in first])
        return [y, *first, *(tf.zeros_like(x) if t is None else t for t, x in zip(second, inputs, strict=True))]


def _test_device(device: str, dtypes: list[tf.DType]) -> str:
    """'' if all ops are right on this device, else what is wrong."""
    with tf.Graph().as_default():
        names: list[str] = []
        pairs: list[Any] = []
        for dtype in dtypes:
            exact = tf.float64 if dtype == tf.float64 else tf.float32
            for name, function, inputs in _cases(dtype):
                names.append(f"{name} {dtype.name}")
                second = name.startswith(("fused_bias_act", "modulated_epilogue", "demodulation"))  # of code of its own
                compiled = _values(function, inputs, second, "compiled", device)
                reference = _values(function, [tf.cast(t, exact) for t in inputs], second, "ref", "/cpu:0")
                pairs.append(([tf.cast(t, exact) for t in compiled], reference, _TOLERANCE[dtype]))
        config = tf.ConfigProto(allow_soft_placement=True)
        config.gpu_options.allow_growth = True
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        try:
            quiet = hide_native_info(_NO_ERROR) if device == CPU else contextlib.nullcontext()
            with quiet, tf.Session(config=config) as session:
                results = session.run([p[:2] for p in pairs])
        except tf.errors.OpError as error:
            return f"the kernels fail on {device}: {error.message.splitlines()[0]}"
    for name, (found, expected), (_, _, tolerance) in zip(names, results, pairs, strict=True):
        worst = max(relative_error(f, e) for f, e in zip(found, expected, strict=True))
        if not worst <= tolerance:
            return (
                f"{device} gives wrong numbers in {name} (relative error {worst:.2g}, at most {tolerance:g} expected)"
            )
    return ""


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    """Matrix products of full precision: in TensorFloat-32, which a configuration may have turned on, they are off by
    more than the tolerance on GPUs from Ampere on."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def test_devices(cpu: bool = True) -> dict[str, str]:
    """Test GPUs, and the CPU if `cpu`; returns 'CPU:0', 'GPU:0', ... -> '' or what is wrong."""
    with _full_float32():
        results = {CPU: _test_device(CPU, [tf.float32, tf.float16, tf.bfloat16, tf.float64])} if cpu else {}
        for index in range(len(tf.config.list_physical_devices("GPU"))):
            results[f"GPU:{index}"] = _test_device(f"GPU:{index}", [tf.float32, tf.float16, tf.bfloat16])
    return results
