"""The emulation of CUDA notices what would fail on a GPU, or fail there at times."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.dnnlib.ops.cuda_emulation.emulate import emulate

FAULTS = Path(__file__).parent / "cuda_emulation" / "faults.cu"


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    return emulate(tmp_path_factory.mktemp("faults"), [FAULTS])


@pytest.mark.parametrize("kind", range(4), ids=["first writes", "last writes", "not cleared", "order of blocks"])
def test_faults_show_in_results(faults, kind):
    """In one order of threads and blocks, or as NaN in both."""
    results = []
    for backwards in (0, 1):
        y = np.zeros(32, np.float32)
        faults.emulation_backwards(backwards)
        faults.fault(kind, y.ctypes.data_as(ctypes.c_void_p))
        results.append(y)
    faults.emulation_backwards(0)
    assert np.isnan(results).any() or not np.array_equal(*results)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (4, "nothing: a grid without blocks"),
        (5, "nothing: a grid of too many blocks"),
        (6, "nothing: a grid of too many blocks"),
        (7, "nothing: a block of too many threads"),
        (8, "nothing: more shared memory than a block may have"),
        (9, "much_shared_memory: more shared memory than a block may have"),
        (10, "beyond_shared_memory: wrote beyond the shared memory that its launch asked for"),
        (11, "different_places: threads wait for one another in different places"),
        (12, "many_arguments: more arguments than a kernel may have"),
    ],
)
def test_faults_end_the_process(faults, kind, message):
    code = f"import ctypes; ctypes.CDLL({faults._name!r}).fault({kind}, (ctypes.c_float * 32)())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode < 0
    assert message in result.stderr


def test_what_a_gpu_can_do_is_allowed(faults):
    faults.emulation_launched()
    faults.no_fault((ctypes.c_float * 32)())
    assert faults.emulation_launched().decode().split() == ["nothing"] * 3 + ["much_shared_memory"]
