"""TensorFlow's memory on the CPU, in processes of their own: it is decided once in each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Twenty operations with results of 64 MB each: what would be given back to the system and asked for anew.
_COUNT_FAULTS = """
import resource
import dnnlib.tflib as tflib
from dnnlib.tflib.tfutil import tf
y = tf.random.normal([16 << 20], seed=1)
for _ in range(20):
    y = tf.tanh(y)
tflib.run(y.op)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
tflib.run(y.op)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

_GIGABYTE = """
import dnnlib.tflib as tflib
from dnnlib.tflib.tfutil import tf
try:
    tflib.run(tf.random.normal([256 << 20], seed=1).op)
    print("fits")
except tf.errors.ResourceExhaustedError:
    print("too much")
"""


def _output(code: str, **environment: str) -> str:
    known = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPU_")}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=ROOT, env={**known, **environment}, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts page faults of Linux")
def test_memory_of_tensors_is_used_again():
    assert int(_output(_COUNT_FAULTS)) < 1000
    assert int(_output(_COUNT_FAULTS, TF_CPU_ALLOCATOR_USE_BFC="0")) > 4000  # what the user sets stays


def test_a_limit_of_the_user_counts():
    assert _output(_GIGABYTE) == "fits"
    assert _output(_GIGABYTE, TF_CPU_BFC_MEM_LIMIT_IN_MB="256") == "too much"
