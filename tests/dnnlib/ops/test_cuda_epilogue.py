"""The kernel of the epilogue whose threads go through several channels, run on the processor by the emulation."""

from __future__ import annotations

import ctypes
import dataclasses

import numpy as np
import pytest

from benchmarks.gpu_case import DTYPES, Case, Random, errors_of
from benchmarks.gpu_odd_cases import EPILOGUES, epilogue_case
from dnnlib.tflib.ops import build
from tests.dnnlib.ops.cuda_emulation.emulate import emulate
from tests.dnnlib.ops.test_cuda import CAREFUL, launched, run_case


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """The launcher of the epilogue."""
    library = emulate(tmp_path_factory.mktemp("epilogue"), [build.SOURCE_DIR / "epilogue.cu"], *CAREFUL)
    number, real, pointer = ctypes.c_int, ctypes.c_double, ctypes.c_void_p
    library.ops_cuda_epilogue.argtypes = [number] * 2 + [real] * 3 + [pointer] * 7 + [number, pointer]
    return library


def in_place(case: Case) -> Case:
    """The case that writes y where x is."""

    def call(library, dtype, p, stream) -> int:
        return case.call(library, dtype, {**p, "y": p["x"]}, stream)

    return dataclasses.replace(case, call=call)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("plan", EPILOGUES, ids=str)
def test_planes(emulated, plan, dtype):
    """Groups of channels that are not full, noise that samples share, what is not given; the same in place."""
    case = epilogue_case(Random(np.random.RandomState(3), dtype), *plan)
    launched(emulated)
    arrays = run_case(emulated, case, dtype)
    assert not errors_of(case, arrays, dtype)
    assert run_case(emulated, in_place(case), dtype)["x"].tobytes() == arrays["y"].tobytes()
    assert launched(emulated) == {"epilogue_planes_kernel"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_planes_that_vectors_cannot_be_loaded_from(emulated, dtype):
    """Arrays that begin anywhere."""
    case = epilogue_case(Random(np.random.RandomState(3), dtype), *EPILOGUES[0])
    for name in ("x", "noise", "y"):
        assert not errors_of(case, run_case(emulated, case, dtype, odd=[name]), dtype)
