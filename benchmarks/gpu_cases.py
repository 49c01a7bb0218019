"""Cases of the CUDA kernels (see `gpu_case.py`): float64 references in numpy.

At the size of real images numpy takes minutes: on a machine with CuPy (same functions, on the GPU) `Random(xp=cupy)`
computes the same references in float64 there.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.gpu_case import Case, Random, integers, module_of, rounded
from benchmarks.gpu_depthwise_cases import depthwise_cases
from benchmarks.gpu_warp_cases import warp_cases

LINEAR, LRELU, SWISH = 1, 3, 9


# ---------------------------------------------------------------- float64 references


Pair = tuple[int, int]


def upfirdn_reference(x: np.ndarray, k: np.ndarray, up: Pair, down: Pair, pad: Sequence[int]) -> np.ndarray:
    """x [outer, H, W, inner], k [kh, kw], factors (y, x): the definition, step by step."""
    xp, (outer, height, width, inner) = module_of(x), x.shape
    y = xp.zeros((outer, height * up[0], width * up[1], inner))
    y[:, :: up[0], :: up[1]] = x
    y = xp.pad(y, [(0, 0), (max(pad[0], 0), max(pad[1], 0)), (max(pad[2], 0), max(pad[3], 0)), (0, 0)])
    y = y[:, max(-pad[0], 0) : y.shape[1] - max(-pad[1], 0), max(-pad[2], 0) : y.shape[2] - max(-pad[3], 0)]
    kh, kw = k.shape
    out_h, out_w = y.shape[1] - kh + 1, y.shape[2] - kw + 1
    result = xp.zeros((outer, out_h, out_w, inner))
    for i in range(kh):
        for j in range(kw):
            result += k[kh - 1 - i, kw - 1 - j] * y[:, i : i + out_h, j : j + out_w]
    return result[:, :: down[0], :: down[1]]


def act_reference(act: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value and slope of linear, lrelu (0.2) and swish."""
    xp = module_of(x)
    if act == LRELU:
        return xp.where(x > 0, x, 0.2 * x), xp.where(x > 0, 1.0, 0.2)
    if act == SWISH:
        s = 1 / (1 + xp.exp(-x))
        return x * s, s + x * s * (1 - s)
    return x, xp.ones_like(x)


# ---------------------------------------------------------------- cases


def upfirdn_cases(random: Random, size: int, channels: int, samples: int) -> Iterator[Case]:
    """The filters of the networks in both layouts, a longer one, and one that is not separable."""
    state = np.random.RandomState(7)
    binomial, line, full = np.array([1, 3, 3, 1]) / 8, state.randn(12), state.randn(3, 5)
    line, full = (rounded(a, "float32") for a in (line, full))
    plans = [(1, 1, (1, 2, 2, 1), binomial), (2, 1, (2, 1, 2, 1), binomial), (1, 2, (1, 1, 1, 1), binomial)]
    # Rows of odd length, as between a convolution of stride 2 and its filter.
    plans += [(1, 1, (1, 1, 1, 1), binomial), (1, 1, (2, 2, 2, 2), binomial)]
    plans += [(1, 1, (6, 5, 6, 5), line), (2, 1, (-1, 3, 1, 2), binomial), (2, 3, (1, 1, 3, 2), full)]
    for layout, outer, inner in (("NCHW", samples * channels, 1), ("NHWC", samples, channels)):
        for up, down, pad, taps in plans:
            odd = size < 100 or pad == (1, 1, 1, 1) and down == 1
            shape = (outer, size // up + odd, size // up + odd, inner)
            yield upfirdn_case(random, shape, taps, (up, up), (down, down), pad, layout)


def upfirdn_case(
    random: Random, shape: Sequence[int], taps: Any, up: Pair, down: Pair, pad: Sequence[int], layout: str = ""
) -> Case:
    """Images [outer, H, W, inner], factors (y, x), padding (y0, y1, x0, x1).

    taps: the filter along both axes, a pair (y, x), or an array [kh, kw] that is not separable.
    """
    separable = isinstance(taps, tuple) or taps.ndim == 1
    axes = taps if isinstance(taps, tuple) else (taps, taps)
    kernel = np.outer(*axes) if separable else taps
    x = random.normal(*shape)
    expected = upfirdn_reference(x, kernel, up, down, pad)
    sizes = integers(shape[0], shape[3], x.shape[1], expected.shape[1], x.shape[2], expected.shape[2])
    numbers = (ctypes.c_int * 8)(*up, *down, pad[0], pad[2], *kernel.shape)
    gy, gx = ((ctypes.c_float * g.size)(*g.ravel()[::-1]) for g in axes)

    def call(library: Any, dtype: int, p: dict[str, int], stream: int) -> int:
        pointers = sizes, numbers, gy if separable else None, gx
        return library.ops_cuda_upfirdn(dtype, p["x"], p["y"], *pointers, stream)

    def text(pair: Sequence[int]) -> str:
        return str(pair[0]) if pair[0] == pair[1] else ",".join(map(str, pair))

    name = f"upfirdn {layout} up {text(up)} down {text(down)} taps {text(kernel.shape)}"
    return Case(f"{name} pad {','.join(map(str, pad))}", {"x": x}, {"y": expected}, call, factor=2)


def bias_act_cases(random: Random, size: int, channels: int, samples: int) -> Iterator[Case]:
    """Forward and backward, both layouts."""
    for layout, sizes in (("NCHW", (samples, channels, size * size)), ("NHWC", (samples * size * size, channels, 1))):
        for act, label in ((LRELU, "lrelu"), (SWISH, "swish")):
            gain = math.sqrt(2)
            dy, z, b = random.normal(*sizes), random.away_from_zero(random.normal(*sizes)), random.normal(channels)
            x = rounded(z - b[:, None], random.dtype)
            value, slope = act_reference(act, x + b[:, None])
            shape = integers(*sizes)

            def forward(library, dtype, p, stream, act=act, shape=shape, gain=gain) -> int:
                return library.ops_cuda_bias_act(
                    dtype, act, 0.2, gain, math.nan, p["x"], p["b"], p["y"], shape, stream
                )  # fmt: skip

            yield Case(f"bias_act {label} {layout}", {"x": x, "b": b}, {"y": gain * value}, forward)
            dx = dy * gain * slope
            from_input = int(act == SWISH)
            inputs = {"dy": dy, "ref": x if from_input else gain * value} | ({"b": b} if from_input else {})

            def backward(library, dtype, p, stream, act=act, from_input=from_input, shape=shape, gain=gain) -> int:
                return library.ops_cuda_bias_act_grad(
                    dtype, act, 0, from_input, 0.2, gain, math.nan, p["dy"], None, p["ref"], p.get("b"), p["dx"],
                    p["db"], p["workspace"], shape, stream,
                )  # fmt: skip

            # As large as the kernel says; it needs no more than a float per row and channel of its cut.
            workspace = 1024 * channels + samples * channels * (size * size // 16384 + 2)
            expected = {"dx": dx, "db": dx.sum((0, 2))}
            yield Case(f"bias_act gradient {label} {layout}", inputs, expected, backward, workspace=workspace, factor=4)


def modulate_cases(random: Random, maps: int) -> Iterator[Case]:
    """Demodulation, product and gradient for 3x3 and 1x1 weights."""
    samples = 4
    for taps in (9, 1):
        w, s = random.normal(taps, maps, maps), random.normal(samples, maps)
        d = 1 / random.xp.sqrt(((w[None] * s[:, None, :, None]) ** 2).sum((1, 2)) + 1e-8)
        d = rounded(d, "float32")
        y = w[None] * s[:, None, :, None] * d[:, None, None, :]
        dy = random.normal(*y.shape)
        sizes, workspace = integers(samples, taps, maps, maps), samples * maps * maps
        kind = f"{taps} taps {maps}x{maps}"

        def demodulate(library, dtype, p, stream, sizes=sizes) -> int:
            return library.ops_cuda_demodulation(
                dtype, 1e-8, p["w"], p["s"], p["d"], p["workspace"], sizes, stream
            )  # fmt: skip

        yield Case(f"demodulation {kind}", {"w": w, "s": s}, {"d": d}, demodulate, frozenset({"d"}), workspace)
        yield from energy_cases(random, kind, w, s)
        for grouped in (0, 1):
            order = (1, 2, 0, 3) if grouped else (0, 1, 2, 3)

            def product(library, dtype, p, stream, sizes=sizes, grouped=grouped) -> int:
                return library.ops_cuda_modulate(dtype, p["w"], p["s"], p["d"], p["y"], sizes, grouped, stream)

            inputs = {"w": w, "s": s, "d": d}
            label = f"{kind} {'grouped' if grouped else 'per sample'}"
            yield Case(f"modulate {label}", inputs, {"y": y.transpose(order)}, product, frozenset({"d"}), factor=2)

            def gradient(library, dtype, p, stream, sizes=sizes, grouped=grouped) -> int:
                names = ("dy", "w", "s", "d", "dw", "ds", "dd", "workspace")
                return library.ops_cuda_modulate_grad(dtype, *(p[n] for n in names), sizes, grouped, stream)

            expected = {
                "dw": (dy * s[:, None, :, None] * d[:, None, None, :]).sum(0),
                "ds": (dy * w[None] * d[:, None, None, :]).sum((1, 3)),
                "dd": (dy * w[None] * s[:, None, :, None]).sum((1, 2)),
            }
            inputs = {"dy": dy.transpose(order), **inputs}
            wide = frozenset({"d", "dd"})
            yield Case(f"modulate gradient {label}", inputs, expected, gradient, wide, workspace, factor=4)


def energy_cases(random: Random, kind: str, w1: np.ndarray, s1: np.ndarray) -> Iterator[Case]:
    """The forms that derivatives of the demodulation are made of, with two weights and two styles."""
    w2, s2 = random.normal(*w1.shape), random.normal(*s1.shape)
    g = rounded(random.normal(s1.shape[0], w1.shape[2]), "float32")
    sizes, sums, both = integers(s1.shape[0], *w1.shape), (w1 * w2).sum(0), s1 * s2
    for name, inputs, output, expected in (
        ("energy", {"w1": w1, "w2": w2, "s1": s1, "s2": s2}, "e", both @ sums),
        ("energy_weights", {"g": g, "w": w1, "s1": s1, "s2": s2}, "dw", w1 * (both.T @ g)),
        ("energy_styles", {"g": g, "w1": w1, "w2": w2, "s": s1}, "ds", s1 * (g @ sums.T)),
    ):

        def launch(library, dtype, p, stream, name=name, operands=(*inputs, output)) -> int:
            return getattr(library, f"ops_cuda_{name}")(dtype, *(p[o] for o in operands), sizes, stream)

        yield Case(f"{name} {kind}", inputs, {output: expected}, launch, frozenset({"g", "e"}), factor=4)


def epilogue_cases(random: Random, size: int, channels: int, samples: int) -> Iterator[Case]:
    """Forward and backward, both layouts."""
    pixels, gain = size * size, math.sqrt(2)
    for layout in ("NCHW", "NHWC"):
        last = int(layout == "NHWC")

        def images(a: np.ndarray, last=last) -> np.ndarray:
            return random.xp.ascontiguousarray(a.transpose(0, 2, 1)) if last else a

        scale = rounded(random.state.random_sample((samples, channels)) + 0.5, "float32")
        noise, strength, b = random.normal(samples, 1, pixels), random.xp.array([0.25]), random.normal(channels)
        z = random.away_from_zero(random.normal(samples, channels, pixels))
        x = rounded((z - noise * strength - b[:, None]) / scale[:, :, None], random.dtype)
        value, slope = act_reference(LRELU, x * scale[:, :, None] + noise * strength + b[:, None])
        dy = random.normal(*x.shape)
        dz = dy * gain * slope
        sizes = integers(samples, channels, pixels, samples)
        wide = frozenset({"scale", "strength", "b", "dscale", "dstrength", "db"})

        def forward(library, dtype, p, stream, sizes=sizes, last=last) -> int:
            names = ("x", "scale", "noise", "strength", "b", "y")
            return library.ops_cuda_epilogue(
                dtype, LRELU, 0.2, gain, math.nan, *(p[n] for n in names), sizes, last, stream
            )  # fmt: skip

        inputs = {"x": images(x), "scale": scale, "noise": noise, "strength": strength, "b": b}
        yield Case(f"epilogue {layout}", inputs, {"y": images(gain * value)}, forward, wide, factor=2)

        def backward(library, dtype, p, stream, sizes=sizes, last=last) -> int:
            names = ("dy", "y", "x", "scale", "noise", "dx", "dscale", "dstrength", "db", "workspace")
            return library.ops_cuda_epilogue_grad(
                dtype, LRELU, 0.2, gain, math.nan, *(p[n] for n in names), sizes, last, stream
            )  # fmt: skip

        inputs = {"dy": images(dy), "y": images(gain * value), "x": images(x), "scale": scale, "noise": noise}
        expected = {
            "dx": images(dz * scale[:, :, None]),
            "dscale": (dz * x).sum(2),
            "dstrength": (dz * noise).sum().reshape(1),
            "db": dz.sum((0, 2)),
        }
        workspace = (samples * 512 * 3 + 2) * channels
        scales = {"dstrength": float(((dz * noise) ** 2).sum() ** 0.5)}
        yield Case(f"epilogue gradient {layout}", inputs, expected, backward, wide, workspace, 4, scales)


def all_cases(dtype: str, size: int, channels: int, maps: int, samples: int = 2, xp: Any = np) -> Iterator[Case]:
    """Every kernel: `samples` images of `size`, weights of `maps` inputs and outputs; references by `xp`."""
    random = Random(xp.random.RandomState(0), dtype, xp)
    yield from upfirdn_cases(random, size, channels, samples)
    yield from bias_act_cases(random, size, channels, samples)
    yield from modulate_cases(random, maps)
    yield from epilogue_cases(random, size, channels, samples)
    yield from warp_cases(random, size, samples)
    yield from depthwise_cases(random, size, channels, samples)
