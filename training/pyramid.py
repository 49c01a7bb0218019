"""The levels of an image pyramid: each is the mean of 2x2 blocks of the level above, before any rounding."""

from __future__ import annotations

import numpy as np


def quantize(image: np.ndarray) -> np.ndarray:
    """uint8 from numbers in [0, 255]: rounded (halves to even) and clipped."""
    if image.dtype == np.uint8:
        return image
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def halve(image: np.ndarray) -> np.ndarray:
    """Means of 2x2 blocks, float32 [..., H/2, W/2] of [..., H, W]; H and W even."""
    x = image.astype(np.float32)
    return (x[..., 0::2, 0::2] + x[..., 0::2, 1::2] + x[..., 1::2, 0::2] + x[..., 1::2, 1::2]) * np.float32(0.25)


def pyramid(image: np.ndarray, smallest: int = 4) -> list[np.ndarray]:
    """All levels from the full size down to `smallest` pixels, each rounded on its own.

    Args:
        image: uint8 or float [..., H, W] in [0, 255].
        smallest: no side of a level is shorter.
    Returns:
        uint8 arrays [..., H / 2^i, W / 2^i].
    """
    levels = [quantize(image)]
    while min(image.shape[-2:]) >= 2 * smallest and not any(side % 2 for side in image.shape[-2:]):
        image = halve(image)
        levels.append(quantize(image))
    return levels


def reduced(image: np.ndarray, halvings: int) -> np.ndarray:
    """One level of the pyramid, uint8 [..., H / 2^halvings, W / 2^halvings]: what `pyramid` gives, without the others.

    Args:
        image: uint8 or float [..., H, W] in [0, 255], both sides divisible by 2^halvings.
    """
    for _ in range(halvings):
        image = halve(image)
    return quantize(image)
