"""The profile of a graph: lengths of unions of intervals, kinds of operations, a small graph."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.op_profile import KINDS, covered, kind_of, profile
from dnnlib.tflib.tfutil import tf


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=12))
def test_covered_counts_every_moment_once(found):
    intervals = [(start, start + length) for start, length in found]
    moments = {t for start, end in intervals for t in range(start, end)}
    assert covered(intervals) == len(moments)


@pytest.mark.parametrize(
    "op_type, kind",
    [
        ("_MklNativeConv2DBackpropFilter", "convolutions"),
        ("_FusedMatMul", "matrix products"),
        ("DnnlibUpfirdn2d", "resampling"),
        ("DnnlibBiasActGrad", "epilogues and activations"),
        ("DnnlibDemodulationGrad", "demodulation"),
        ("ResourceApplyAdam", "Adam"),
        ("StatelessRandomNormalV2", "random numbers"),
        ("Cast", "casts"),
        ("BroadcastTo", "other"),
        ("", "other"),
    ],
)
def test_kinds(op_type, kind):
    assert kind in KINDS and kind_of(op_type) == kind


def test_profile_of_a_graph(session):
    a = tf.placeholder(tf.float32, [256, 256])
    y = tf.transpose(tf.linalg.matmul(a, a) + 1)
    calls = []

    def call():
        calls.append(session.run(y, {a: np.eye(256, dtype=np.float32)}))

    found = profile(call, session, repeats=3)
    assert len(calls) == 3 and calls[0][0, 0] == 2
    assert {"matrix products", "transposes"} <= set(found.by_kind)
    assert 0 < found.by_kind["matrix products"] <= found.busy <= found.span
    assert list(found.by_kind.values()) == sorted(found.by_kind.values(), reverse=True)
    assert "run" not in vars(session)
