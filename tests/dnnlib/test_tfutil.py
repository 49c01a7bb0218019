"""What importing tfutil decides for all programs."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from dnnlib.tflib.tfutil import tf
print(tf.config.experimental.tensor_float_32_execution_enabled(), tf.executing_eagerly())
"""


def test_float32_is_full_precision_and_graphs_are_graphs():
    # In a process of its own: tests in this one change the settings.
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]
