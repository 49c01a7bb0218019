"""The operations once more, in NumPy and SciPy, one image at a time in float64."""

from __future__ import annotations

import numpy as np
import scipy.ndimage
import scipy.signal
import scipy.spatial.transform

from dnnlib.symlet import SYM6

LUMA = np.ones(3) / np.sqrt(3)


def translate(x: float, y: float) -> np.ndarray:
    """3x3 matrix."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def scale(x: float, y: float) -> np.ndarray:
    """3x3 matrix."""
    return np.diag([x, y, 1.0])


def rotate(angle: float) -> np.ndarray:
    """3x3 matrix; angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def inverse_transform(p: dict[str, np.ndarray], n: int, height: int, width: int) -> np.ndarray:
    """Map from the result to image n: inverses of the operations, multiplied from the right. 3x3."""
    size = np.array([width, height])
    g = scale(1 - 2 * p["flip"][n], 1)
    g = g @ rotate(np.pi / 2 * p["quarter_turns"][n])
    g = g @ translate(*-np.round(p["xint"][n] * size))
    g = g @ scale(*[2.0 ** -p["log2_scale"][n]] * 2)
    g = g @ rotate(p["rotate_pre"][n])
    g = g @ scale(2.0 ** -p["log2_aniso"][n], 2.0 ** p["log2_aniso"][n])
    g = g @ rotate(p["rotate_post"][n])
    return g @ translate(*(-p["xfrac"][n] * size))


def warp(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Image [C, H, W] through the map from pixels of the result to pixels of the image, from the centres."""
    _, height, width = image.shape
    h = np.array(SYM6)
    wide = np.pad(image.astype(np.float64), [(0, 0), (height - 1,) * 2, (width - 1,) * 2], mode="reflect")
    for axis in (1, 2):
        # Tap 5 of the filter lies on the sample, and twice as many samples remain.
        wide = scipy.signal.upfirdn(h * np.sqrt(2), wide, up=2, axis=axis)
        wide = np.take(wide, np.arange(5, 5 + 2 * (3 * image.shape[axis] - 2)), axis=axis, mode="clip")
    rows, columns = np.arange(-5, 2 * height + 5) / 2, np.arange(-5, 2 * width + 5) / 2
    x, y = np.meshgrid(columns - (width - 1) / 2, rows - (height - 1) / 2)
    u, v, _ = np.tensordot(matrix, np.stack([x, y, np.ones_like(x)]), 1)
    at = [2 * (v + (height - 1) / 2 + height - 1), 2 * (u + (width - 1) / 2 + width - 1)]
    # A border of zeros, so that samples fade out over one pixel.
    at = [a + 1 for a in at]
    fine = np.stack([
        scipy.ndimage.map_coordinates(np.pad(channel, 1), at, order=1, mode="constant") for channel in wide
    ])  # fmt: skip
    for axis, size in ((1, height), (2, width)):
        full = scipy.signal.upfirdn(h[::-1] / np.sqrt(2), fine, down=1, axis=axis)
        fine = np.take(full, 11 + 2 * np.arange(size), axis=axis)
    return fine


def color_matrix(p: dict[str, np.ndarray], n: int) -> np.ndarray:
    """Homogeneous 4x4 matrix of image n, operations multiplied from the left."""

    def homogeneous(linear: np.ndarray) -> np.ndarray:
        result = np.eye(4)
        result[:3, :3] = linear
        return result

    brightness = np.eye(4)
    brightness[:3, 3] = p["brightness"][n]
    projector = np.outer(LUMA, LUMA)
    steps = [
        brightness,
        homogeneous(np.eye(3) * 2.0 ** p["log2_contrast"][n]),
        homogeneous(np.eye(3) - 2 * projector * p["lumaflip"][n]),
        homogeneous(scipy.spatial.transform.Rotation.from_rotvec(LUMA * p["hue"][n]).as_matrix()),
        homogeneous(projector + (np.eye(3) - projector) * 2.0 ** p["log2_saturation"][n]),
    ]
    result = np.eye(4)
    for step in steps:
        result = step @ result
    return result


def recolor(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Colours [3 or more, H, W]; channels from the fourth on stay."""
    colors = np.tensordot(matrix[:3, :3], image[:3].astype(np.float64), 1) + matrix[:3, 3][:, None, None]
    return np.concatenate([colors, image[3:]])


def filter_bands(image: np.ndarray, log2_gains: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Bands amplified one after the other, each time back to the expected power."""
    power = np.array([10, 1, 1, 1]) / 13
    total = np.ones(4)
    for band, gain in enumerate(log2_gains):
        t = np.ones(4)
        t[band] = 2.0**gain
        total *= t / np.sqrt(np.sum(power * t**2))
    taps = total @ bank
    for axis in (1, 2):
        image = scipy.ndimage.convolve1d(image.astype(np.float64), taps, axis=axis, mode="mirror")
    return image


def cut_out(image: np.ndarray, x: float, y: float, size: float) -> np.ndarray:
    """Pixels whose middle lies within size / 2 of the centre become 0."""
    result = image.copy()
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            if abs((row + 0.5) / height - y) < size / 2 and abs((column + 0.5) / width - x) < size / 2:
                result[:, row, column] = 0
    return result
