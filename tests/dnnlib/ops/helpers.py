"""Shared by the tests of the ops: one graph per evaluation, tolerances per dtype, numerical derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dnnlib.tflib.tfutil import tf

# Worst error relative to the largest value: a few roundings of the dtype.
_TOLERANCE = {"float64": 1e-12, "float32": 4e-6, "float16": 3e-3, "bfloat16": 2.5e-2}


def tolerance(dtype: str) -> float:
    """Error allowed in units of the largest magnitude of the expected array."""
    return _TOLERANCE[dtype]


def evaluate(build: Callable[..., Sequence[tf.Tensor | None]], *arrays: np.ndarray, dtype: str | None = None) -> list:
    """Build a graph on placeholders of these arrays (cast to `dtype`), run it, return float64 arrays."""
    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=1)) as session:
        feeds = {tf.placeholder(dtype or a.dtype.name, a.shape): a for a in arrays}
        values = session.run([t for t in build(*feeds) if t is not None], feeds)
    return [np.asarray(v).astype(np.float64) for v in values]


def assert_close(
    found: np.ndarray, expected: np.ndarray, dtype: str = "float32", factor: float = 1.0, what: str = ""
) -> None:
    """Same shape, and equal within the precision of the dtype."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape, f"{what}: shape {found.shape}, expected {expected.shape}"
    if not expected.size:
        return
    scale = max(np.abs(expected).max(), 1e-3)
    error = np.abs(found - expected).max() / scale
    assert error <= factor * tolerance(dtype), f"{what}: relative error {error:.3g} in {dtype}"
