"""The levels of an image pyramid in whole numbers: the same bytes as `pyramid`, several times as fast.

The sum of the 4^i pixels below a pixel of level i is exact, and so is its mean in the 32-bit floats of `pyramid` as
long as the sum has at most 24 bits: up to 8 halvings.
"""

from __future__ import annotations

import numpy as np

from training.image_shapes import SMALLEST, level_sizes
from training.pyramid import pyramid

_MOST_HALVINGS = 8


def fast_pyramid(image: np.ndarray) -> list[np.ndarray]:
    """All levels, from the full size down.

    Args:
        image: uint8 or float [C, H, W] in [0, 255].
    Returns:
        uint8 arrays [C, H / 2^i, W / 2^i].
    """
    count = len(level_sizes(*image.shape[1:]))
    if image.dtype != np.uint8 or count - 1 > _MOST_HALVINGS:
        return pyramid(image, SMALLEST)
    levels, sums = [image], image
    for bits in range(2, 2 * count, 2):  # a sum of 2^bits pixels
        # Sums of up to 256 pixels fit into 16 bits.
        kind = np.uint16 if bits <= 8 else np.uint32
        rows = np.add(sums[:, 0::2], sums[:, 1::2], dtype=kind)
        sums = np.add(rows[..., 0::2], rows[..., 1::2])
        # Rounded to the nearest, halves to even: one less than half is added, and one where the result would be odd.
        wide = sums if bits < 8 else sums.astype(np.uint32)
        levels.append(((wide + ((wide >> bits) & 1) + ((1 << (bits - 1)) - 1)) >> bits).astype(np.uint8))
    return levels
