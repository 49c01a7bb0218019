"""Pictures that look a little like photographs, made of nothing, for tests of what judges photographs."""

from __future__ import annotations

import numpy as np
from PIL import Image


def photo(seed: int, height: int = 128, width: int = 128) -> np.ndarray:
    """Coloured structure of all sizes, coarse ones strongest: uint8 [height, width, 3], the same for the same seed."""
    rng = np.random.default_rng(seed)
    total = np.zeros([height, width, 3])
    cells = 2
    while cells <= max(height, width):
        layer = rng.normal(size=[cells, cells, 3])
        channels = [
            np.asarray(Image.fromarray(layer[..., c].astype(np.float32)).resize((width, height), 3)) for c in range(3)
        ]
        total += np.stack(channels, -1) / cells**0.8
        cells *= 2
    low, high = total.min(), total.max()
    return np.rint((total - low) / (high - low) * 255).astype(np.uint8)
