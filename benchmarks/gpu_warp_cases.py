"""Cases of the affine warp and its adjoint. Every step is linear, so the references are products of matrices."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.gpu_case import Case, Random, integers, rounded
from dnnlib.symlet import SYM6

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


def sampling(xp: Any, theta: np.ndarray, height: int, width: int) -> list[tuple[Any, Any]]:
    """(index, weight) of the four numbers of the extended fine image, in a border of zeros, that each sample is of."""
    fine = [2 * (3 * size - 2) for size in (width, height)]
    x, y = ((xp.arange(2 * (size + _BORDER)) - _BORDER) / 2 - (size - 1) / 2 for size in (width, height))
    places = zip(theta.tolist(), (width, height), strict=True)
    at = [2 * (row[0] * x + row[1] * y[:, None] + row[2] + 1.5 * (size - 1)) for row, size in places]
    below = [xp.floor(a) for a in at]
    corners = []
    for down in (0, 1):
        for right in (0, 1):
            steps = zip(below, (right, down), fine, strict=True)
            x, y = (xp.clip(b + step + 1, 0, last + 1) for b, step, last in steps)
            wx, wy = (1 - abs(a - b - step) for a, b, step in zip(at, below, (right, down), strict=True))
            corners.append(((y * (fine[0] + 2) + x).astype(int).ravel(), (wx * wy).ravel()))
    return corners


def warp_reference(xp: Any, x: np.ndarray, theta: np.ndarray, adjoint: bool) -> np.ndarray:
    """x [N, C, H, W] through theta [N, 2, 3], or through the transposes."""
    (height, width), result = x.shape[2:], xp.empty_like(x)
    up_y, up_x, down_y, down_x = (xp.asarray(make(n)) for make in (upsampling, downsampling) for n in (height, width))
    shape = up_y.shape[0] + 2, up_x.shape[0] + 2
    for image, channels, row in zip(x, result, theta, strict=True):
        if np.array_equal(row, np.eye(2, 3)):
            channels[:] = image
            continue
        if not np.isfinite(row.tolist()).all():
            channels[:] = np.nan
            continue
        corners = sampling(xp, row, height, width)
        for c in range(len(image)):
            if adjoint:
                band = (down_y.T @ image[c] @ down_x).ravel()
                wide = sum(xp.bincount(index, w * band, shape[0] * shape[1]) for index, w in corners)
                channels[c] = up_y.T @ wide.reshape(shape)[1:-1, 1:-1] @ up_x
            else:
                wide = xp.pad(up_y @ image[c] @ up_x.T, 1).ravel()
                band = sum(w * wide[index] for index, w in corners)
                channels[c] = down_y @ band.reshape(down_y.shape[1], down_x.shape[1]) @ down_x.T
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
    samples, channels = (4, 4) if size < 200 else (samples, 3)
    theta = maps(samples, size)
    for adjoint in (0, 1):
        yield warp_case(random, (samples, channels, size, size), theta, adjoint)


def warp_case(random: Random, shape: tuple[int, int, int, int], theta: np.ndarray, adjoint: int, label="") -> Case:
    """Images [N, C, H, W] through theta [N, 2, 3]."""
    taps = (ctypes.c_float * len(_TAPS))(*_TAPS)
    x, sizes = random.normal(*shape), integers(*shape)

    def call(library, dtype, p, stream) -> int:
        return library.ops_cuda_warp(dtype, adjoint, p["x"], p["theta"], p["y"], sizes, taps, stream)

    expected = {"y": warp_reference(random.xp, x, theta, bool(adjoint))}
    inputs = {"x": x, "theta": random.xp.asarray(theta)}
    return Case(f"warp{' adjoint' * adjoint}{label}", inputs, expected, call, frozenset({"theta"}), factor=4)


ODD_MAPS = {
    "to a point": [[0, 0, 0], [0, 0, 0]],
    "to a column": [[0, 0, 3.3], [0.2, 0.9, 0]],
    "to a diagonal": [[0.5, 0.5, 1], [0.5, 0.5, -1]],
    "to a line along x": [[1, 0, 0.3], [0.5, 0, 0]],
    "nearly to a line": [[0.5, 0.5, 1], [0.5, 0.5000001, -1]],
    "of NaN": [[1, 0, 0], [0, 1, np.nan]],
    "far away": [[1, 0, 1e30], [0, 1, 0]],
    "stretched": [[1e30, 0, 2e29], [0, 1e30, 0]],
    # The first sample of the images of 34 columns lies 1e8 before the image, and none of the others in it.
    "past the image": [[1.3e7, 0, 1.97e8], [0, 1, 0]],
}


def odd_warp_cases(random: Random) -> Iterator[Case]:
    """Maps that are singular, no numbers, or beyond what integers hold; sides that differ, and of 2."""
    for adjoint in (0, 1):
        for shape in ((4, 4, 21, 70), (4, 1, 50, 17), (4, 3, 2, 9), (4, 2, 40, 2), (4, 3, 2, 2)):
            yield warp_case(random, shape, maps(4, max(shape)), adjoint, f" {shape[2]}x{shape[3]}")
        for label, theta in ODD_MAPS.items():
            yield warp_case(random, (1, 3, 20, 34), rounded(np.array([theta]), "float32"), adjoint, f" {label}")
