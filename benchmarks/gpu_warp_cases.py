"""Cases of the affine warp and its adjoint. Every step is linear, so the references are products of matrices."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.gpu_case import Case, Random, integers, rounded
from dnnlib.tflib.ops.affine_warp import SYM6

_TAPS = rounded(np.array(SYM6), "float32")
_BORDER = 5


def upsampling(size: int) -> np.ndarray:
    """[2 * (3 * size - 2), size]: extension by reflection, and interpolation to twice as many samples."""
    matrix = np.zeros((2 * (3 * size - 2), size))
    for n in range(len(matrix)):
        for k, tap in enumerate(_TAPS):
            i, odd = divmod(n + _BORDER - k, 2)
            if not odd and 0 <= i < 3 * size - 2:
                pixel = abs(i - (size - 1))
                matrix[n, 2 * size - 2 - pixel if pixel >= size else pixel] += np.sqrt(2) * tap
    return matrix


def downsampling(size: int) -> np.ndarray:
    """[size, 2 * size + 10]"""
    matrix = np.zeros((size, 2 * (size + _BORDER)))
    for i in range(size):
        matrix[i, 2 * i : 2 * i + len(_TAPS)] = _TAPS / np.sqrt(2)
    return matrix


def sampling(xp: Any, theta: np.ndarray, size: int) -> list[tuple[Any, Any]]:
    """(index, weight) of the four numbers of the extended fine image, in a border of zeros, that each sample is of."""
    fine = 2 * (3 * size - 2)
    n = (xp.arange(2 * (size + _BORDER)) - _BORDER) / 2 - (size - 1) / 2
    at = [2 * (row[0] * n + row[1] * n[:, None] + row[2] + 1.5 * (size - 1)) for row in theta.tolist()]
    below = [xp.floor(a) for a in at]
    corners = []
    for down in (0, 1):
        for right in (0, 1):
            x, y = (xp.clip(b + step + 1, 0, fine + 1) for b, step in zip(below, (right, down), strict=True))
            wx, wy = (1 - abs(a - b - step) for a, b, step in zip(at, below, (right, down), strict=True))
            corners.append(((y * (fine + 2) + x).astype(int).ravel(), (wx * wy).ravel()))
    return corners


def warp_reference(xp: Any, x: np.ndarray, theta: np.ndarray, adjoint: bool) -> np.ndarray:
    """x [N, C, size, size] through theta [N, 2, 3], or through the transposes."""
    size, result = x.shape[2], xp.empty_like(x)
    up, down = (xp.asarray(make(size)) for make in (upsampling, downsampling))
    fine, samples = up.shape[0], down.shape[1]
    for image, channels, row in zip(x, result, theta, strict=True):
        if np.array_equal(row, np.eye(2, 3)):
            channels[:] = image
            continue
        corners = sampling(xp, row, size)
        for c in range(len(image)):
            if adjoint:
                band = (down.T @ image[c] @ down).ravel()
                wide = sum(xp.bincount(index, w * band, (fine + 2) ** 2) for index, w in corners)
                channels[c] = up.T @ wide.reshape(fine + 2, fine + 2)[1:-1, 1:-1] @ up
            else:
                wide = xp.pad(up @ image[c] @ up.T, 1).ravel()
                band = sum(w * wide[index] for index, w in corners)
                channels[c] = down @ band.reshape(samples, samples) @ down.T
    return result


def maps(count: int, size: int) -> np.ndarray:
    """[count, 2, 3]: turned, stretched and shifted; where images are small also a copy, and what looks far beyond."""
    made = []
    for angle, scale_x, scale_y, x, y in (
        (0.3, 1.1, 0.9, 0.1, -0.05), (0.0, 1.0, 1.0, 0.0, 0.0), (-2.0, 0.6, -1.2, -0.2, 0.1), (1.6, -2.2, 1.7, 0.4, 0.9)
    ):  # fmt: skip
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        made.append(np.hstack([turn @ np.diag([scale_x, scale_y]), [[x * size], [y * size]]]))
    few = made if size < 200 else made[:1]
    return rounded(np.stack([few[i % len(few)] for i in range(count)]), "float32")


def warp_cases(random: Random, size: int, samples: int) -> Iterator[Case]:
    """Both directions, for images in color; with alpha where they are small."""
    taps = (ctypes.c_float * len(_TAPS))(*_TAPS)
    samples, channels = (4, 4) if size < 200 else (samples, 3)
    theta = maps(samples, size)
    for adjoint, name in ((0, "warp"), (1, "warp adjoint")):
        x = random.normal(samples, channels, size, size)
        sizes = integers(samples, channels, size, size)

        def call(library, dtype, p, stream, adjoint=adjoint, sizes=sizes) -> int:
            return library.ops_cuda_warp(dtype, adjoint, p["x"], p["theta"], p["y"], sizes, taps, stream)

        expected = {"y": warp_reference(random.xp, x, theta, bool(adjoint))}
        inputs = {"x": x, "theta": random.xp.asarray(theta)}
        yield Case(name, inputs, expected, call, frozenset({"theta"}), factor=4)
