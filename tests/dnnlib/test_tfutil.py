"""What importing TensorFlow through tfutil changes and what it leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# In a process of its own: tests in this one change the settings.
PROGRAM = """
import json, sys
from dnnlib.tflib.tfutil import tf
print(json.dumps({
    "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
    "eager": tf.executing_eagerly(),
    "imported": [name for name in ("keras", "sklearn", "matplotlib", "scipy.stats") if name in sys.modules],
    "hooks": [type(finder).__module__ for finder in sys.meta_path],
    "lazy": tf.compat.v2.keras.layers.Dense.__name__,
    "keras": __import__("keras").__version__,
}))
"""


@pytest.fixture(scope="module")
def fresh() -> dict:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def test_float32_is_full_precision_and_graphs_are_graphs(fresh):
    assert not fresh["tf32"] and not fresh["eager"]


def test_keras_and_what_it_imports_wait_until_they_are_used(fresh):
    assert fresh["imported"] == []
    assert "dnnlib.tflib.lazy_keras" not in fresh["hooks"]
    assert fresh["lazy"] == "Dense" and fresh["keras"][0] == "3"
