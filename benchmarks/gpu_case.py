"""What a case of the CUDA kernels is: inputs, a launch through ctypes, and float64 results. No GPU needed here."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

DTYPES = ("float32", "float16", "bfloat16")
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
TOLERANCE = {"float32": 4e-6, "float16": 1e-3, "bfloat16": 8e-3}


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
    """Load the launchers."""
    return declare_launchers(ctypes.CDLL(str(path)))


def declare_launchers(library: ctypes.CDLL) -> ctypes.CDLL:
    """Types of the arguments and results of the launchers."""
    pointer, number, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_double
    act = [number] + [real] * 3
    signatures = {
        "ops_cuda_upfirdn": [number] + [pointer] * 7,
        "ops_cuda_bias_act": [number, *act] + [pointer] * 5,
        "ops_cuda_bias_act_grad": [number, number, number, number] + [real] * 3 + [pointer] * 9,
        "ops_cuda_demodulation": [number, real] + [pointer] * 6,
        "ops_cuda_energy": [number] + [pointer] * 7,
        "ops_cuda_energy_weights": [number] + [pointer] * 7,
        "ops_cuda_energy_styles": [number] + [pointer] * 7,
        "ops_cuda_modulate": [number] + [pointer] * 5 + [number, pointer],
        "ops_cuda_modulate_grad": [number] + [pointer] * 9 + [number, pointer],
        "ops_cuda_warp": [number, number] + [pointer] * 6,
        "ops_cuda_depthwise": [number, real, real] + [pointer] * 6,
        "ops_cuda_epilogue": [number, *act] + [pointer] * 7 + [number, pointer],
        "ops_cuda_epilogue_grad": [number, *act] + [pointer] * 11 + [number, pointer],
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


def errors_of(case: Case, outputs: dict[str, np.ndarray], dtype: str) -> list[str]:
    """What is wrong with the outputs, as text."""
    wrong = []
    for name, expected in case.expected.items():
        found = outputs[name].astype(float).reshape(expected.shape)
        xp = module_of(expected)
        neither = xp.isnan(expected) & xp.isnan(xp.asarray(found))  # is a number, as it should be
        expected, found = xp.where(neither, 0.0, expected), xp.where(neither, 0.0, xp.asarray(found))
        scale = max(float(abs(expected).max()), case.scales.get(name, 1e-3))
        # Sums come rounded to the dtype too, but for those that stay float32. NaN is more than any error allowed.
        error = float(abs(found - expected).max()) / scale
        allowed = case.factor * TOLERANCE["float32" if name in case.wide else dtype]
        if not error <= allowed:
            wrong.append(f"{case.name} {dtype} {name}: relative error {error:.2g}, at most {allowed:.2g} expected")
    return wrong
