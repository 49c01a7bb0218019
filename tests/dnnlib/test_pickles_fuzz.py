"""A short form of `python -m tests.fuzz_pickles`: damaged files end in one line, nothing is executed, nothing hangs."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dnnlib.snapshot import NetworkState, load_state
from tests import fuzz_pickles

ROOT = Path(__file__).parents[2]


def test_damaged_files() -> None:
    """In a process of its own: the hook that watches it cannot be taken away again."""
    command = [sys.executable, "-m", "tests.fuzz_pickles", "--seed", "1", "--count", "300"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 files: " in done.stdout and " 0 faults" in done.stdout


def test_the_valid_files_are_valid() -> None:
    kinds = [load_state(io.BytesIO(data)) for data in fuzz_pickles.valid_files()]
    assert sum(isinstance(kind, tuple) and isinstance(kind[0], NetworkState) for kind in kinds) == 8
    assert isinstance(kinds[7], NetworkState)


def test_files_depend_on_seed_and_number_alone() -> None:
    several = dict(fuzz_pickles.mutants(3, 0, 20))
    assert dict(fuzz_pickles.mutants(3, 12, 2)) == {number: several[number] for number in (12, 13)}
    assert several != dict(fuzz_pickles.mutants(4, 0, 20))
    assert len(set(several.values())) > 15


@pytest.mark.parametrize("what", ["another exception", "a program", "no end", "two lines"])
def test_faults_are_found(what: str) -> None:
    """With a reader that has one."""
    code = f"""
import io, pickle, sys, time
from dnnlib.util import UserError
from tests import fuzz_pickles
fuzz_pickles.SECONDS = 1
calls = []
def reader(file):
    calls.append(file)
    if len(calls) > len(fuzz_pickles.valid_files()):
        {{"another exception": lambda: 1 / 0, "a program": lambda: open({str(ROOT / "setup.py")!r}).close(),
          "no end": lambda: time.sleep(9), "two lines": lambda: raise_(UserError("a\\nb"))}}[{what!r}]()
def raise_(err): raise err
fuzz_pickles.load_state = reader
outcomes, faults = fuzz_pickles.fuzz(0, 0, 1)
print(faults)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = {
        "another exception": "ZeroDivisionError",
        "a program": "it did open",
        "no end": "TimeoutError: more than 1 seconds",
        "two lines": "not one short line",
    }
    assert "file 0: " in done.stdout and expected[what] in done.stdout


def test_numbers_survive() -> None:
    (array, number, nested, raw, big) = load_state(io.BytesIO(fuzz_pickles.valid_files()[-1]))
    np.testing.assert_array_equal(array, np.arange(6.0).reshape(2, 3))
    assert (number, raw, big) == (2.0, b"raw", 2**70) and sorted(nested["a"]) == [1, 2]
