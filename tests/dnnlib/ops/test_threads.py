"""Results do not depend on how many threads share the work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dnnlib.tflib.ops import library

ROOT = Path(__file__).resolve().parents[3]
THREADS = (1, 3)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[int, dict[str, np.ndarray]]:
    """Number of threads -> arrays by name."""
    library.get()  # built before several processes want it
    folder = tmp_path_factory.mktemp("threads")
    found = {}
    for n in THREADS:
        path = folder / f"{n}.npz"
        command = [sys.executable, "-m", "tests.dnnlib.ops.thread_results", str(n), str(path)]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
        assert process.returncode == 0, process.stderr[-2000:]
        with np.load(path) as data:
            found[n] = {name: data[name] for name in data.files}
    return found


def test_pools_differ(results):
    counts = [int(results[n]["threads"]) for n in THREADS]
    assert counts == sorted(set(counts)), f"threads of the processes: {counts}"


@pytest.mark.parametrize("n", THREADS[1:])
def test_ops_give_the_same_bits(results, n):
    names = [name for name in results[1] if not name.startswith(("train ", "threads"))]
    assert len(names) > 300
    assert all(np.isfinite(results[1][name]).all() and results[1][name].any() for name in names if " y " in name)
    assert [name for name in names if not np.array_equal(results[1][name], results[n][name])] == []


@pytest.mark.parametrize("n", THREADS[1:])
def test_training_gives_the_same_gradients(results, n):
    """To rounding: TensorFlow's own convolutions and sums share their work in ways that depend on the threads."""
    names = [name for name in results[1] if name.startswith("train ")]
    assert {name.split()[1] for name in names} == {"G_main", "G_reg", "D_main", "D_reg"}
    largest: dict[str, float] = {}
    for name in names:
        phase = name.split()[1]
        largest[phase] = max(largest.get(phase, 0.0), float(np.abs(results[1][name]).max()))
    worst = {}
    for name in names:
        expected, found = results[1][name], results[n][name]
        # Sums that cancel are as exact as what they are made of.
        scale = max(float(np.abs(expected).max()), 1e-3 * largest[name.split()[1]])
        worst[name] = float(np.abs(found - expected).max()) / scale
    assert {name: error for name, error in worst.items() if not error < 1e-4} == {}
