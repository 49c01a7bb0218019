"""Convolution of images in either layout on any device, one filter for all samples or one per sample (grouped).

TensorFlow's CPU kernels know NHWC only, and lack gradients of grouped convolutions; GPUs know all of it. On CPUs most
convolutions of 3x3 taps are compiled ones (`conv_3x3`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnnlib.tflib.ops import arguments
from dnnlib.tflib.ops.conv_3x3 import MAPS_STEP, conv_3x3, conv_3x3_adjoint, takes_conv_3x3
from dnnlib.tflib.ops.impl import check_impl
from dnnlib.tflib.tfutil import num_gpus, tf

__all__ = ["conv_2d"]


def conv_2d(
    x: Any, w: Any, stride: int = 1, padding: str = "SAME", data_format: str = "NCHW", impl: str | None = None
) -> tf.Tensor:
    """Correlate images with filters.

    Args:
        x: [N, C, H, W] or [N, H, W, C]; for a grouped convolution [1, G * C, H, W] or [1, H, W, G * C].
        w: [kh, kw, C, out]; for a grouped convolution [kh, kw, C, G * out], same dtype.
        stride: keep every stride-th position.
        padding: 'SAME' (zeros all around so that stride 1 keeps the size) or 'VALID'.
        data_format: 'NCHW' or 'NHWC'.
        impl: 'compiled' (3x3 convolutions on CPUs by minimal filtering, where that is faster: `takes_conv_3x3`), 'ref'
            (TensorFlow's own) or None for `default_impl()`.

    Differentiable to any order on any device. Raises `ValueError` for wrong ranks, sizes and dtypes.
    """
    arguments.layout(data_format)
    check_impl(impl)
    arguments.check(padding in ("SAME", "VALID"), "padding", repr(padding), "'SAME' or 'VALID'")
    stride = arguments.positive(stride, "stride")
    x, w = conv_operands(x, w, data_format)
    if padding == "SAME" and stride == 1 and data_format == "NHWC" and not is_grouped(x, w, data_format):
        # TensorFlow pads alike here, inside the convolution: no padded copies in either direction.
        padded = _whole_maps(x, w)
        if takes_conv_3x3(*padded, 1, impl=impl):
            return conv_3x3(*padded)
        return tf.nn.conv2d(x, w, strides=1, padding="SAME")
    if padding == "SAME":
        if stride == 1 and data_format == "NCHW" and not num_gpus() and not is_grouped(x, w, data_format):
            y = conv_2d(tf.transpose(x, [0, 2, 3, 1]), w, data_format="NHWC", impl=impl)
            return tf.transpose(y, [0, 3, 1, 2])
        x = _pad_same(x, w, data_format)
    return conv_valid(x, w, stride, data_format, impl)


def _whole_maps(x: tf.Tensor, w: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """NHWC operands with as many input maps as compiled convolutions take, zeros for those that lack.

    Of a discriminator's last ones, one more is the standard deviation of a minibatch.
    """
    lack = -w.shape.as_list()[2] % MAPS_STEP
    if lack == 0 or w.shape.as_list()[2] < 4 * MAPS_STEP:
        return x, w
    return tf.pad(x, [[0, 0]] * 3 + [[0, lack]]), tf.pad(w, [[0, 0]] * 2 + [[0, lack], [0, 0]])


def conv_operands(x: Any, w: Any, data_format: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Check the images and filters of a convolution. Raises `ValueError`."""
    x = arguments.float_tensor(x, "x", rank=4)
    w = arguments.float_tensor(w, "w", rank=4, like=x)
    *kernel, cin, cout = w.shape.as_list()
    good = all(size is not None and size >= 1 for size in (*kernel, cin))
    arguments.check(good, "w", f"shape {w.shape}", "[kh, kw, in, out], the first three static and at least 1")
    channels = x.shape.as_list()[arguments.layout(data_format)[0]]
    if channels is not None:
        fits = channels == cin or (x.shape.as_list()[0] == 1 and channels >= 1 and channels % cin == 0)
        arguments.check(fits, "w", f"shape {w.shape}", f"{channels} input maps as x {x.shape} has ({data_format})")
        groups = channels // cin
        arguments.check(cout is None or cout % groups == 0, "w", f"shape {w.shape}",
                        f"as many output maps for each of the {groups} groups in x {x.shape}")  # fmt: skip
    return x, w


def is_grouped(x: tf.Tensor, w: tf.Tensor, data_format: str) -> bool:
    """True where the maps of x are those of several samples side by side."""
    channels = x.shape.as_list()[arguments.layout(data_format)[0]]
    return x.shape.as_list()[0] == 1 and channels != w.shape.as_list()[2]


def _strides(stride: int, data_format: str) -> list[int]:
    return [1, 1, stride, stride] if data_format == "NCHW" else [1, stride, stride, 1]


def _pad_same(x: tf.Tensor, w: tf.Tensor, data_format: str) -> tf.Tensor:
    kh, kw = w.shape.as_list()[:2]
    if kh == kw == 1:
        return x
    spatial = [[(kh - 1) // 2, kh // 2], [(kw - 1) // 2, kw // 2]]
    return tf.pad(x, [[0, 0], [0, 0], *spatial] if data_format == "NCHW" else [[0, 0], *spatial, [0, 0]])


def check_room(
    x: tf.Tensor, w: tf.Tensor, data_format: str, argument: str, factor: int = 1, more: Any = (0, 0)
) -> None:
    """Refuse what leaves nothing for a VALID convolution of images that are enlarged by a factor, and then by `more`
    rows and columns."""
    for axis, kernel, extra in zip(arguments.layout(data_format)[1:], w.shape.as_list(), more, strict=False):
        size = x.shape.as_list()[axis]
        if size is not None:
            found = f"{size * factor + extra} rows or columns, with their padding, of images {x.shape}"
            arguments.check(size * factor + extra >= kernel, argument, found, f"at least {kernel} for w {w.shape}")


def _without_images(call: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, results: list[int | None]) -> tf.Tensor:
    """call(x) for no images: TensorFlow's convolutions of none, and their gradients, may have wrong sizes."""
    y = call(tf.reshape(x, x.shape))
    return tf.reshape(y, [tf.shape(y)[i] if size is None else size for i, size in enumerate(results)])


def conv_valid(x: tf.Tensor, w: tf.Tensor, stride: int, data_format: str, impl: str | None = None) -> tf.Tensor:
    """VALID correlation of checked operands."""
    check_room(x, w, data_format, "x")
    if is_grouped(x, w, data_format) and not num_gpus():
        return _grouped_by_matmul(x, w, stride, data_format)
    if x.shape.is_fully_defined() and x.shape[0] == 0:
        c_axis, h_axis, w_axis = arguments.layout(data_format)
        kh, kw, _, cout = w.shape.as_list()
        results = x.shape.as_list()
        results[h_axis], results[w_axis] = (results[h_axis] - kh) // stride + 1, (results[w_axis] - kw) // stride + 1
        results[c_axis] = cout
        return _without_images(lambda x: _conv_valid(x, w, stride, data_format, impl), x, results)
    return _conv_valid(x, w, stride, data_format, impl)


def _conv_valid(x: tf.Tensor, w: tf.Tensor, stride: int, data_format: str, impl: str | None) -> tf.Tensor:
    if data_format == "NCHW" and not num_gpus():
        return tf.transpose(_conv_valid(tf.transpose(x, [0, 2, 3, 1]), w, stride, "NHWC", impl), [0, 3, 1, 2])
    if data_format == "NHWC" and stride == 2 and takes_conv_3x3(x, w, 2, impl=impl):
        return conv_3x3(x, w, 2)
    return tf.nn.conv2d(x, w, strides=_strides(stride, data_format), padding="VALID", data_format=data_format)


def conv_transposed(x: tf.Tensor, w: tf.Tensor, stride: int, data_format: str, impl: str | None = None) -> tf.Tensor:
    """Correlate the zero-stuffed x (stride - 1 zeros between samples, kernel - 1 around) with w.

    x [N, C, H, W], w [kh, kw, C, out] -> [N, out, (H - 1) * stride + kh, (W - 1) * stride + kw]. Not for grouped
    operands on a CPU.
    """
    if data_format == "NCHW" and not num_gpus():
        return tf.transpose(conv_transposed(tf.transpose(x, [0, 2, 3, 1]), w, stride, "NHWC", impl), [0, 3, 1, 2])
    c_axis, h_axis, w_axis = arguments.layout(data_format)
    grouped = is_grouped(x, w, data_format)
    kh, kw, cin, cout = [tf.shape(w)[i] if d is None else d for i, d in enumerate(w.shape.as_list())]
    w = tf.reverse(w, [0, 1])
    if grouped:
        groups = tf.shape(x)[c_axis] // cin
        w = tf.transpose(tf.reshape(w, [kh, kw, cin, groups, cout // groups]), [0, 1, 4, 3, 2])
        w = tf.reshape(w, [kh, kw, cout // groups, groups * cin])
    else:
        w = tf.transpose(w, [0, 1, 3, 2])
        if stride == 2 and data_format == "NHWC" and takes_conv_3x3(x, w, 2, adjoint=True, impl=impl):
            return conv_3x3_adjoint(x, w, 2)
    size = [tf.shape(x)[i] if d is None else d for i, d in enumerate(x.shape.as_list())]
    size[c_axis] = cout
    size[h_axis] = (size[h_axis] - 1) * stride + kh
    size[w_axis] = (size[w_axis] - 1) * stride + kw
    strides = _strides(stride, data_format)

    def transposed(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d_transpose(x, w, tf.stack(size), strides=strides, padding="VALID", data_format=data_format)

    if x.shape.is_fully_defined() and x.shape[0] == 0:
        return _without_images(transposed, x, [d if isinstance(d, int) else None for d in size])
    return transposed(x)


def _grouped_by_matmul(x: tf.Tensor, w: tf.Tensor, stride: int, data_format: str) -> tf.Tensor:
    """Grouped VALID correlation as one batched matrix product over patches: any dtype, any order of derivative."""
    kh, kw, cin, cout = w.shape.as_list()
    c_axis, h_axis, w_axis = arguments.layout(data_format)
    height, width = [tf.shape(x)[i] if x.shape[i] is None else x.shape.as_list()[i] for i in (h_axis, w_axis)]
    channels = x.shape.as_list()[c_axis]
    groups = tf.shape(x)[c_axis] // cin if channels is None else channels // cin
    out = tf.shape(w)[3] // groups if cout is None or channels is None else cout // groups
    if data_format == "NCHW":
        x = tf.transpose(tf.reshape(x, [groups, cin, height, width]), [0, 2, 3, 1])
    else:
        x = tf.transpose(tf.reshape(x, [height, width, groups, cin]), [2, 0, 1, 3])
    out_h, out_w = (height - kh) // stride + 1, (width - kw) // stride + 1
    last_h, last_w = (out_h - 1) * stride + 1, (out_w - 1) * stride + 1
    slices = [x[:, i : i + last_h : stride, j : j + last_w : stride] for i in range(kh) for j in range(kw)]
    patches = tf.reshape(tf.concat(slices, axis=3), [groups, out_h * out_w, kh * kw * cin])
    filters = tf.transpose(tf.reshape(w, [kh * kw * cin, groups, out]), [1, 0, 2])
    y = tf.reshape(tf.matmul(patches, filters), [groups, out_h, out_w, out])
    if data_format == "NCHW":
        return tf.reshape(tf.transpose(y, [0, 3, 1, 2]), [1, groups * out, out_h, out_w])
    return tf.reshape(tf.transpose(y, [1, 2, 0, 3]), [1, out_h, out_w, groups * out])
