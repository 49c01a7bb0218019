"""Walks between points of z or w: straight lines, great arcs, circles, smooth curves; and loops of noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dnnlib.util import UserError, list_nearest

MODES = ("linear", "slerp", "circle", "spline")
EASINGS = ("none", "smooth")


def walk(
    keys: np.ndarray,
    frames: int,
    mode: str = "slerp",
    loop: bool = True,
    easing: str = "none",
    center: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Points along a walk through keys, float64 [n, ...], n = frames x legs (and the last key, unless it loops).

    keys: [k, ...]; frames: per leg, from one key to the next; a loop has k legs, the last one back to the first key,
    and others k - 1. center: what `slerp` and `circle` turn around, 0 in z, the average in w.

    linear: straight legs. slerp: each leg turns evenly from one direction to the next, lengths going along (between
    opposite directions, straight). circle: center + cos(a) u + sin(a) v, a full turn with u and v the two keys; for
    z ~ N(0, I) every point is one of N(0, I) again. spline: one smooth curve through all keys (cubic).

    easing: `smooth` rests at every key. Raises `UserError` for unknown names and too few keys.
    """
    _check(mode, easing, frames, len(keys))
    keys = np.asarray(keys, np.float64)
    count = len(keys)
    if mode == "circle":
        steps = _eased(np.arange(4 * frames) / frames, easing)  # quarters, as keys lie at right angles
        angle = (steps * (np.pi / 2)).reshape(-1, *[1] * (keys.ndim - 1))
        return center + np.cos(angle) * (keys[0] - center) + np.sin(angle) * (keys[1] - center)
    legs = count if loop else count - 1
    at = _eased(np.arange(legs * frames + (0 if loop else 1)) / frames, easing)
    if mode == "spline":
        from scipy.interpolate import CubicSpline

        through = np.concatenate([keys, keys[:1]]) if loop else keys
        return CubicSpline(np.arange(len(through)), through, bc_type="periodic" if loop else "natural")(at)
    leg = np.minimum(np.floor(at).astype(int), legs - 1)
    t = (at - leg).reshape(-1, *[1] * (keys.ndim - 1))
    a, b = keys[leg] - center, keys[(leg + 1) % count] - center
    return center + (a + (b - a) * t if mode == "linear" else turn(a, b, t))


def turn(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Between vectors (last axis): directions along the great arc, lengths linearly. Vectors of length 0 and opposite
    ones, where no arc is defined, are joined by a line."""
    length_a, length_b = (np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
    unit_a, unit_b = (x / np.maximum(length, 1e-300) for x, length in ((a, length_a), (b, length_b)))
    angle = np.arccos(np.clip(np.sum(unit_a * unit_b, axis=-1, keepdims=True), -1, 1))
    sine = np.sin(angle)
    flat = (sine < 1e-6) | (length_a == 0) | (length_b == 0)
    safe = np.where(flat, 1.0, sine)
    arc = (np.sin((1 - t) * angle) * unit_a + np.sin(t * angle) * unit_b) / safe
    return np.where(flat, a + (b - a) * t, arc * (length_a + (length_b - length_a) * t))


class NoiseLoop:
    """Noise that turns once in `frames` frames: each is N(0, I), and the one after the last is the first again."""

    def __init__(self, shape: Sequence[int], frames: int, rng: np.random.RandomState) -> None:
        self._ends = rng.randn(2, *shape).astype(np.float32)
        self._frames = frames

    def at(self, frame: int) -> np.ndarray:
        """float32 [*shape]."""
        angle = 2 * np.pi * frame / self._frames
        return (np.cos(angle) * self._ends[0] + np.sin(angle) * self._ends[1]).astype(np.float32)


def _eased(at: np.ndarray, easing: str) -> np.ndarray:
    if easing == "none":
        return at
    leg = np.floor(at)
    t = at - leg
    return leg + t * t * (3 - 2 * t)


def _check(mode: str, easing: str, frames: int, keys: int) -> None:
    if mode not in MODES:
        raise UserError(f"unknown mode {mode!r}: {list_nearest(mode, MODES)}")
    if easing not in EASINGS:
        raise UserError(f"unknown easing {easing!r}: {list_nearest(easing, EASINGS)}")
    if frames < 1:
        raise UserError(f"a walk has 1 frame per leg at least, found {frames}")
    if mode == "circle" and keys != 2:
        raise UserError(f"a circle is spanned by exactly 2 points, found {keys}")
    if keys < 2:
        raise UserError(f"a walk needs 2 points at least, found {keys}")
