"""Cases of the CUDA kernels: inputs, launches through ctypes, and float64 references in numpy. No GPU needed here.

At the size of real images numpy takes minutes: on a machine with CuPy (same functions, on the GPU) `Random(xp=cupy)`
computes the same references in float64 there.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

DTYPES = ("float32", "float16", "bfloat16")
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
TOLERANCE = {"float32": 4e-6, "float16": 1e-3, "bfloat16": 8e-3}
LINEAR, LRELU, SWISH = 1, 3, 9


@dataclass
class Case:
    """One kernel at one shape. Arrays are float64; those in `wide` are float32 on the device, the rest of the dtype.

    call(library, dtype code, pointer by name, stream) launches; `expected` maps output names to float64 arrays.
    """

    name: str
    inputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    call: Callable[[Any, int, dict[str, int], int], int]
    wide: frozenset[str] = frozenset()
    workspace: int = 0
    factor: float = 1.0  # of the tolerance: sums over many numbers
    scales: dict[str, float] = field(default_factory=dict)  # what errors of sums that may cancel are measured by

    def traffic(self, dtype: str) -> int:
        """Bytes that must move: every input and output once."""
        arrays = {**self.inputs, **self.expected}
        return sum(a.size * (4 if name in self.wide else BYTES[dtype]) for name, a in arrays.items())


def module_of(a: Any) -> Any:
    """The module whose functions work on the array: numpy, or cupy for arrays of the GPU."""
    return np if isinstance(a, np.ndarray) else sys.modules[type(a).__module__.partition(".")[0]]


def rounded(a: np.ndarray, dtype: str) -> np.ndarray:
    """float64 numbers that the dtype can hold: nearest to those given, ties to even."""
    if dtype == "bfloat16":
        bits = a.astype(np.float32).view(np.uint32).astype(np.uint64)
        return ((((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16).astype(np.uint32)).view(np.float32).astype(float)
    return a.astype(dtype).astype(float)


@dataclass(frozen=True)
class Random:
    """Normal numbers that the dtype can hold, so that references see what kernels see."""

    state: Any  # a RandomState of `xp`
    dtype: str
    xp: Any = np

    def normal(self, *shape: int) -> np.ndarray:
        return rounded(self.state.standard_normal(shape), self.dtype)

    def away_from_zero(self, x: np.ndarray) -> np.ndarray:
        """Rounded numbers of at least 0.1, where the slope of lrelu is beyond doubt."""
        return rounded(x + self.xp.copysign(0.1, x), self.dtype)


def integers(*values: int) -> Any:
    """A C array of int64."""
    return (ctypes.c_int64 * len(values))(*values)


def load_library(path: Path | str) -> ctypes.CDLL:
    """Load the launchers and declare the types of their arguments."""
    library = ctypes.CDLL(str(path))
    pointer, number, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_double
    act, grad = [number] + [real] * 3, [number, number] + [real] * 3
    signatures = {
        "ops_cuda_upfirdn": [number] + [pointer] * 7,
        "ops_cuda_bias_act": [number, *act] + [pointer] * 5,
        "ops_cuda_bias_act_grad": [number, number, number, number] + [real] * 3 + [pointer] * 9,
        "ops_cuda_demodulation": [number, real] + [pointer] * 6,
        "ops_cuda_modulate": [number] + [pointer] * 5 + [number, pointer],
        "ops_cuda_modulate_grad": [number] + [pointer] * 9 + [number, pointer],
        "ops_cuda_epilogue": [number, *act] + [pointer] * 7 + [number, pointer],
        "ops_cuda_epilogue_grad": [number, *grad] + [pointer] * 11 + [number, pointer],
    }
    for name, types in signatures.items():
        getattr(library, name).argtypes = types
        getattr(library, name).restype = number
    for name in ("bias_act_grad", "demodulation", "modulate_grad", "epilogue_grad"):
        function = getattr(library, f"ops_cuda_{name}_workspace")
        function.argtypes = [pointer, number] if name == "epilogue_grad" else [pointer]
        function.restype = ctypes.c_int64
    library.ops_cuda_error.argtypes, library.ops_cuda_error.restype = [number], ctypes.c_char_p
    return library


# ---------------------------------------------------------------- float64 references


def upfirdn_reference(x: np.ndarray, k: np.ndarray, up: int, down: int, pad: Sequence[int]) -> np.ndarray:
    """x [outer, H, W, inner], k [kh, kw]: the definition, step by step."""
    xp, (outer, height, width, inner) = module_of(x), x.shape
    y = xp.zeros((outer, height * up, width * up, inner))
    y[:, ::up, ::up] = x
    y = xp.pad(y, [(0, 0), (max(pad[0], 0), max(pad[1], 0)), (max(pad[2], 0), max(pad[3], 0)), (0, 0)])
    y = y[:, max(-pad[0], 0) : y.shape[1] - max(-pad[1], 0), max(-pad[2], 0) : y.shape[2] - max(-pad[3], 0)]
    kh, kw = k.shape
    out_h, out_w = y.shape[1] - kh + 1, y.shape[2] - kw + 1
    result = xp.zeros((outer, out_h, out_w, inner))
    for i in range(kh):
        for j in range(kw):
            result += k[kh - 1 - i, kw - 1 - j] * y[:, i : i + out_h, j : j + out_w]
    return result[:, ::down, ::down]


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
    """The filters of the networks in both layouts, and a filter of the direct kernel."""
    binomial, line = np.array([1, 3, 3, 1]) / 8, np.random.RandomState(7).randn(12).astype(np.float32)
    plans = [(1, 1, (1, 2, 2, 1), binomial), (2, 1, (2, 1, 2, 1), binomial), (1, 2, (1, 1, 1, 1), binomial)]
    # Rows of odd length, as between a convolution of stride 2 and its filter.
    plans += [(1, 1, (1, 1, 1, 1), binomial), (1, 1, (2, 2, 2, 2), binomial)]
    plans += [(1, 1, (6, 5, 6, 5), line), (2, 1, (-1, 3, 1, 2), binomial)]
    for layout, outer, inner in (("NCHW", samples * channels, 1), ("NHWC", samples, channels)):
        for up, down, pad, taps in plans:
            odd = size < 100 or pad == (1, 1, 1, 1) and down == 1
            x = random.normal(outer, size // up + odd, size // up + odd, inner)
            expected = upfirdn_reference(x, np.outer(taps, taps), up, down, pad)
            sizes = integers(outer, inner, x.shape[1], expected.shape[1], x.shape[2], expected.shape[2])
            numbers = (ctypes.c_int * 8)(up, up, down, down, pad[0], pad[2], len(taps), len(taps))
            flipped = (ctypes.c_float * len(taps))(*taps[::-1])

            def call(library, dtype, p, stream, sizes=sizes, numbers=numbers, flipped=flipped) -> int:
                return library.ops_cuda_upfirdn(dtype, p["x"], p["y"], sizes, numbers, flipped, flipped, stream)

            name = f"upfirdn {layout} up {up} down {down} taps {len(taps)} pad {','.join(map(str, pad))}"
            yield Case(name, {"x": x}, {"y": expected}, call, factor=2)


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
                dtype, LRELU, 0, 0.2, gain, math.nan, *(p[n] for n in names), sizes, last, stream
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


def errors_of(case: Case, outputs: dict[str, np.ndarray], dtype: str) -> list[str]:
    """What is wrong with the outputs, as text."""
    wrong = []
    for name, expected in case.expected.items():
        found = outputs[name].astype(float).reshape(expected.shape)
        scale = max(float(abs(expected).max()), case.scales.get(name, 1e-3))
        # Sums come rounded to the dtype too, but for those that stay float32. NaN is more than any error allowed.
        error = float(abs(found - expected).max()) / scale
        allowed = case.factor * TOLERANCE["float32" if name in case.wide else dtype]
        if not error <= allowed:
            wrong.append(f"{case.name} {dtype} {name}: relative error {error:.2g}, at most {allowed:.2g} expected")
    return wrong
