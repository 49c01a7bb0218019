"""Filtered resampling of images, alone or around a convolution (StyleGAN2 paper, section 4.1 and appendix B)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dnnlib.tflib.ops import arguments
from dnnlib.tflib.ops.convolution import check_room, conv_operands, conv_transposed, conv_valid, is_grouped
from dnnlib.tflib.ops.upfirdn_2d import upfirdn_2d
from dnnlib.tflib.tfutil import num_gpus, tf

__all__ = ["conv_downsample_2d", "downsample_2d", "filter_2d", "upsample_2d", "upsample_conv_2d"]

PadRule = Callable[[int], tuple[int, int]]


def _filter(k: Any, factor: int) -> np.ndarray:
    """Normalise a filter to sum 1; None is a box as long as the factor."""
    taps = np.ones(factor) if k is None else arguments.filter_taps(k)
    total = taps.sum()
    arguments.check(abs(total) > 1e-12, "k", f"taps that sum to {total}", "a filter with a sum to normalise by")
    return taps / total


def _integer_padding(padding: Any) -> int:
    arguments.check(arguments.is_integer(padding), "padding", repr(padding), "an integer")
    return int(padding)


def _pads(taps: np.ndarray, rule: PadRule) -> tuple[int, int, int, int]:
    """Padding (y0, y1, x0, x1) from the rule for one axis of that many taps."""
    return (*rule(taps.shape[0]), *rule(taps.shape[-1]))


def filter_2d(
    x: Any, k: Any, gain: float = 1.0, padding: int = 0, data_format: str = "NCHW", impl: str | None = None
) -> tf.Tensor:
    """Filter images and keep their size (plus twice `padding`).

    x: [N, C, H, W] or [N, H, W, C]; k: 1-D or 2-D filter, normalised to sum `gain`. Zeros surround the images.
    Returns the dtype of x. See `upfirdn_2d` for dtypes and errors.
    """
    taps, extra = _filter(k, 1), _integer_padding(padding)
    pads = _pads(taps, lambda n: (n // 2 + extra, (n - 1) // 2 + extra))
    return upfirdn_2d(x, taps, pad=pads, gain=gain, data_format=data_format, impl=impl)


def upsample_2d(
    x: Any, k: Any = None, factor: int = 2, gain: float = 1.0, padding: int = 0, data_format: str = "NCHW",
    impl: str | None = None,
) -> tf.Tensor:  # fmt: skip
    """Enlarge images by an integer factor, filtering with `k`.

    x: [N, C, H, W] or [N, H, W, C] -> [N, C, H * factor + 2 * padding, ...]. k: 1-D or 2-D filter, normalised;
    None repeats pixels. The filter's sum is scaled to gain * factor^2 so that a constant image keeps its value.
    """
    factor, extra = arguments.positive(factor, "factor"), _integer_padding(padding)
    taps = _filter(k, factor)
    pads = _pads(taps, lambda n: ((n + factor - 1) // 2 + extra, (n - factor) // 2 + extra))
    gain = arguments.finite(gain, "gain") * factor**2
    return upfirdn_2d(x, taps, up=factor, pad=pads, gain=gain, data_format=data_format, impl=impl)


def downsample_2d(
    x: Any, k: Any = None, factor: int = 2, gain: float = 1.0, padding: int = 0, data_format: str = "NCHW",
    impl: str | None = None,
) -> tf.Tensor:  # fmt: skip
    """Shrink images by an integer factor, filtering with `k` (normalised; None averages blocks).

    x: [N, C, H, W] or [N, H, W, C] -> [N, C, H // factor + 2 * padding, ...]: `padding` counts result pixels.
    """
    factor, extra = arguments.positive(factor, "factor"), _integer_padding(padding) * factor
    taps = _filter(k, factor)
    pads = _pads(taps, lambda n: ((n - factor + 1) // 2 + extra, (n - factor) // 2 + extra))
    return upfirdn_2d(x, taps, down=factor, pad=pads, gain=gain, data_format=data_format, impl=impl)


def upsample_conv_2d(
    x: Any, w: Any, k: Any = None, factor: int = 2, gain: float = 1.0, padding: int = 0, data_format: str = "NCHW",
    impl: str | None = None,
) -> tf.Tensor:  # fmt: skip
    """Enlarge, filter, and convolve: `upsample_2d` then a VALID convolution, padded once before everything.

    The convolution comes first, as a transposed one at the low resolution, and the filter second: they commute, and
    three quarters of the products with inserted zeros are saved.

    Args:
        x: [N, C, H, W] or [N, H, W, C]; for a grouped convolution [1, G * C, H, W] or [1, H, W, G * C].
        w: [kh, kw, C, out] or, grouped, [kh, kw, C, G * out].
        k: 1-D or 2-D filter, normalised; None is a box.
        factor: integer of at least 1. Results have H * factor + 2 * padding rows; kernels larger than 1x1 lose
            factor - 2 of them, as the published networks define it.
        gain: factor on the result.
    """
    c_axis, _, _ = arguments.layout(data_format)
    factor, extra = arguments.positive(factor, "factor"), _integer_padding(padding)
    x, w = conv_operands(x, w, data_format)
    kh, kw, _, _ = w.shape.as_list()
    if kh == kw == 1:
        x = conv_valid(x, w, 1, data_format, impl)
        return upsample_2d(x, k, factor, gain, padding, data_format, impl)
    taps = _filter(k, factor)
    gain = arguments.finite(gain, "gain") * factor**2

    def rule(n: int, kernel: int) -> tuple[int, int]:
        p = (n - factor) - (kernel - 1)
        return (p + 1) // 2 + factor - 1 + extra, p // 2 + 1 + extra

    y0, y1 = rule(taps.shape[0], kh)
    x0, x1 = rule(taps.shape[-1], kw)
    # Enlarged by the factor and by the kernel, padded, filtered: at least one row is to be left.
    more = [kh - factor + y0 + y1 - taps.shape[0] + kh, kw - factor + x0 + x1 - taps.shape[-1] + kw]
    check_room(x, w, data_format, "padding", factor, more)
    if is_grouped(x, w, data_format) and not num_gpus():
        # No grouped transposed convolution on the CPU: follow the definition. Zeros inserted after the last sample
        # are cropped, as a transposed convolution does not make them.
        pad = (y0 + kh - 1, y1 + kh - factor, x0 + kw - 1, x1 + kw - factor)
        x = upfirdn_2d(x, taps, up=factor, pad=pad, gain=gain, data_format=data_format, impl=impl)
        return conv_valid(x, w, 1, data_format, impl)
    x = conv_transposed(x, w, factor, data_format, impl)
    return upfirdn_2d(x, taps, pad=(y0, y1, x0, x1), gain=gain, data_format=data_format, impl=impl)


def conv_downsample_2d(
    x: Any, w: Any, k: Any = None, factor: int = 2, gain: float = 1.0, padding: int = 0, data_format: str = "NCHW",
    impl: str | None = None,
) -> tf.Tensor:  # fmt: skip
    """Filter, convolve and shrink: an FIR filter, then a VALID convolution of stride `factor`.

    Arguments as `upsample_conv_2d`; `padding` counts result pixels. [N, C, H, W] -> [N, out, H // factor, ...].
    A 1x1 convolution is taken after the filter has dropped what the stride skips.
    """
    factor, extra = arguments.positive(factor, "factor"), _integer_padding(padding) * factor
    arguments.layout(data_format)
    x, w = conv_operands(x, w, data_format)
    kh, kw, _, _ = w.shape.as_list()
    taps = _filter(k, factor)

    def rule(n: int, kernel: int) -> tuple[int, int]:
        p = (n - factor) + (kernel - 1)
        return (p + 1) // 2 + extra, p // 2 + extra

    pads = (*rule(taps.shape[0], kh), *rule(taps.shape[-1], kw))
    if kh == kw == 1:
        x = upfirdn_2d(x, taps, down=factor, pad=pads, gain=gain, data_format=data_format, impl=impl)
        return conv_valid(x, w, 1, data_format, impl)
    more = (pads[0] + pads[1] - taps.shape[0] + 1, pads[2] + pads[3] - taps.shape[-1] + 1)
    check_room(x, w, data_format, "padding", 1, more)
    x = upfirdn_2d(x, taps, pad=pads, gain=gain, data_format=data_format, impl=impl)
    return conv_valid(x, w, factor, data_format, impl)
