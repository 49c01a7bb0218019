"""Images inside plots."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes


def to_picture(image: np.ndarray) -> np.ndarray:
    """uint8 [C, H, W], C = 1, 3 or 4 (alpha laid on white), to uint8 [H, W, 3]."""
    pixels = image.transpose(1, 2, 0)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        alpha = pixels[:, :, 3:].astype(np.float32) / 255
        return np.rint(pixels[:, :, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return pixels


def show_image(axes: Axes, image: np.ndarray) -> None:
    """uint8 [C, H, W] without ticks; small ones enlarged pixel by pixel."""
    axes.imshow(to_picture(image), interpolation="nearest" if image.shape[2] < 128 else "antialiased")
    axes.set_axis_off()


def show_grid(axes: Axes, images: np.ndarray, title: str) -> None:
    """Images uint8 [n, C, H, W] as one nearly square picture."""
    columns = max(int(np.ceil(np.sqrt(len(images)))), 1)
    rows = max(-(-len(images) // columns), 1)
    height, width = images.shape[2:]
    canvas = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for index, image in enumerate(images):
        y, x = divmod(index, columns)
        canvas[y * height : (y + 1) * height, x * width : (x + 1) * width] = to_picture(image)
    axes.imshow(canvas, interpolation="nearest" if canvas.shape[1] < 500 else "antialiased")
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()
