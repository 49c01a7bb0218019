"""Memory that a compiled op cannot have, in whatever thread, is an error of that op, as it is of TensorFlow's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# On a CPU, and without the address space that every thread of malloc reserves.
ALONE = {"CUDA_VISIBLE_DEVICES": "-1", "MALLOC_ARENA_MAX": "1"}

PROGRAM = """
import resource, sys
import numpy as np
from dnnlib.tflib import ops
from dnnlib.tflib.ops.conv_3x3 import conv_3x3
from dnnlib.tflib.tfutil import create_session, tf

def limit_memory(more):
    kilobytes = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1])
    limit = (kilobytes << 10) + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

with tf.Graph().as_default(), create_session({"intra_op_parallelism_threads": 2}) as session:
    if sys.argv[1] == "conv":  # transformed, weights of 2048 maps take 268 MB
        x, w = (tf.placeholder(tf.float32, [None] * 4) for _ in range(2))
        y = conv_3x3(x, w)
        weights = np.ones([3, 3, 2048, 2048], np.float32)
        feeds = lambda maps: {x: np.ones([1, 16, 16, maps]), w: weights[:, :, :maps, :maps]}
        small, large, more = feeds(32), feeds(2048), 230 << 20
    else:  # pixels of 32 MB, of which a thread has 15 of its own
        x = [tf.placeholder(tf.float32, [1, 2, 2, channels]) for channels in (3, 1 << 23)]
        wide = tf.placeholder(tf.bool, [])
        y = tf.cond(wide, *(lambda x=x: ops.upfirdn_2d(x, np.ones(5), pad=2, data_format="NHWC") for x in x[::-1]))
        ones = [np.ones(x.shape, np.float32) for x in x]
        small, large = ({wide: big, x[0]: ones[0], x[1]: ones[1]} for big in (False, True))
        more = 400 << 20
    total = tf.reduce_sum(y)
    before = session.run(total, small)
    limit_memory(more)
    try:
        session.run(total, large)
        print("enough memory")
    except tf.errors.ResourceExhaustedError as error:
        print("error:", error)
    print("the same as before:", session.run(total, small) == before > 0)
"""


@pytest.mark.parametrize(("case", "name"), [("conv", "DnnlibConv3x3"), ("rows", "DnnlibUpfirdn2d")])
def test_too_little_memory_is_an_error(case, name):
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, case],
        cwd=ROOT,
        env={**os.environ, **ALONE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout.startswith("error: "), process.stdout
    assert f"no memory for the rows, sums or tiles that {name} works with" in process.stdout
    assert "the same as before: True\n" in process.stdout
