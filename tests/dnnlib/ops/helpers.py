"""Shared by the tests of the ops: evaluation, tolerances per dtype, numerical derivatives, an oracle of upfirdn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.signal

from dnnlib.tflib.tfutil import create_session, tf

IMPLS = ("ref", "compiled")
DTYPES = ("float64", "float32", "float16", "bfloat16")

# Worst error relative to the largest value: a few roundings of the dtype.
_TOLERANCE = {"float64": 1e-12, "float32": 2e-6, "float16": 2e-3, "bfloat16": 1.6e-2}


def tolerance(dtype: str) -> float:
    """Error allowed in units of the largest magnitude of the expected array."""
    return _TOLERANCE[dtype]


def assert_close(found: Any, expected: Any, dtype: str = "float32", factor: float = 1.0, what: Any = "") -> None:
    """Same shape, and equal within the precision of the dtype."""
    found, expected = np.asarray(found).astype(np.float64), np.asarray(expected).astype(np.float64)
    assert found.shape == expected.shape, f"{what}: shape {found.shape}, expected {expected.shape}"
    if expected.size:
        error = np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-3)
        assert error <= factor * tolerance(dtype), f"{what}: relative error {error:.3g} in {dtype}"


def rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    """float64 numbers that the dtype can hold, so that oracles see what the ops see."""
    return array.astype(tf.as_dtype(dtype).as_numpy_dtype).astype(np.float64)


def evaluate(build: Callable[..., Sequence[Any]], *arrays: np.ndarray, dtype: str | Sequence[str] = "float64") -> list:
    """Build a graph on placeholders of these arrays, run it, return arrays; None among the results is left out."""
    dtypes = [dtype] * len(arrays) if isinstance(dtype, str) else dtype
    with tf.Graph().as_default(), create_session() as session:
        inputs = [tf.placeholder(d, a.shape) for d, a in zip(dtypes, arrays, strict=True)]
        outputs = [t for t in build(*inputs) if t is not None]
        feeds = {t: a.astype(t.dtype.as_numpy_dtype) for t, a in zip(inputs, arrays, strict=True)}
        return [np.asarray(v).astype(np.float64) for v in session.run(outputs, feeds)]


def _weights(t: Any, seed: int) -> Any:
    """Fixed numbers around 1, one for each of the tensor's."""
    shape = t.shape.as_list()
    return tf.constant(1 + 0.5 * np.sin(np.arange(np.prod(shape, dtype=int)) * 1.7 + seed).reshape(shape), t.dtype)


def check_derivatives(function: Callable[..., Any], *arrays: np.ndarray, order: int = 3) -> None:
    """Compare TensorFlow's derivatives of the orders 1 to `order` with central differences, in float64.

    phi_0 is a nonlinear function of the op's result, phi_k+1 a weighted sum of the gradient of phi_k; the slope of
    every phi_k along a random direction is checked against its gradient.
    """
    random = np.random.RandomState(5)
    directions = [random.randn(*a.shape) for a in arrays]
    with tf.Graph().as_default(), create_session() as session:
        inputs = [tf.placeholder(tf.float64, a.shape) for a in arrays]
        y = function(*inputs)
        phis = [tf.reduce_sum(_weights(y, 0) * (y + 0.5 * tf.square(y)))]
        slopes = []
        for k in range(order):
            gradients = tf.gradients(phis[k], inputs, unconnected_gradients="zero")
            slopes.append(tf.add_n([tf.reduce_sum(g * d) for g, d in zip(gradients, directions, strict=True)]))
            phis.append(tf.add_n([tf.reduce_sum(_weights(g, k + 1) * g) for g in gradients]))

        def run(tensors: list[Any], h: float) -> np.ndarray:
            moved = [a + h * d for a, d in zip(arrays, directions, strict=True)]
            return np.array(session.run(tensors, dict(zip(inputs, moved, strict=True))))

        h = 2e-4
        # Five points: the error goes with the fourth power of h.
        numerical = (8 * (run(phis, h) - run(phis, -h)) - (run(phis, 2 * h) - run(phis, -2 * h))) / (12 * h)
        analytic = run(slopes, 0)
        size = np.abs(run(phis, 0))
    for k in range(order):
        scale = max(abs(analytic[k]), size[k], 1.0)
        error = abs(numerical[k] - analytic[k]) / scale
        assert error < 1e-8, f"derivative of order {k + 1}: numerical {numerical[k]}, found {analytic[k]}"


def upfirdn_oracle(x: np.ndarray, k: np.ndarray, up: Any, down: Any, pad: Sequence[int]) -> np.ndarray:
    """x [N, C, H, W], k [kh, kw], factors (y, x): step by step, with scipy's convolution."""
    n, c, h, w = x.shape
    stuffed = np.zeros((n, c, h * up[0], w * up[1]))
    stuffed[:, :, :: up[0], :: up[1]] = x
    y0, y1, x0, x1 = pad
    stuffed = np.pad(stuffed, [(0, 0), (0, 0), (max(y0, 0), max(y1, 0)), (max(x0, 0), max(x1, 0))])
    bottom, right = stuffed.shape[2] - max(-y1, 0), stuffed.shape[3] - max(-x1, 0)
    stuffed = stuffed[:, :, max(-y0, 0) : bottom, max(-x0, 0) : right]
    planes = [[scipy.signal.convolve2d(p, k, mode="valid") for p in image] for image in stuffed]
    return np.array(planes)[:, :, :: down[0], :: down[1]]
