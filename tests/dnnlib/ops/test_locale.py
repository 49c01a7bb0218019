"""Compiled ops in programs that write numbers as their country does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import locale
import numpy as np
from dnnlib.tflib import ops
from dnnlib.tflib.tfutil import tf

locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")
assert locale.localeconv()["decimal_point"] == ","
x, w = tf.constant([[-1, 1, 0.25]]), tf.ones([1, 1, 2, 2])
with tf.Session() as session:
    for impl in ("compiled", "ref"):
        y = ops.fused_bias_act(x, None, "lrelu", gain=1.5, clamp=0.75, impl=impl)
        found = (y, tf.gradients(y, x)[0], ops.modulate_weights(w, tf.ones([1, 2]), eps=1.5, impl=impl))
        print(*(str(value.astype(float).ravel().round(4).tolist()) for value in session.run(found)))
"""


def test_a_decimal_comma_changes_nothing(tmp_path: Path) -> None:
    if shutil.which("localedef") is None:
        pytest.skip("no localedef here")
    made = subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "de_DE.UTF-8")], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no sources of the German locale here")
    environment = os.environ | {"LOCPATH": str(tmp_path), "LC_ALL": "de_DE.UTF-8"}
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    compiled, reference = done.stdout.splitlines()
    assert compiled == reference and compiled.startswith("[-0.3, 0.75, 0.375] [0.3, 0.0, 1.5]")
