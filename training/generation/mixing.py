"""Style mixing: coarse styles of one image with fine styles of another (section 3.1 of arXiv:1812.04948)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dnnlib.util import UserError


def coarse_styles(layers: int) -> range:
    """Layers whose styles are taken where nobody says which: the first 7, the published ones, or half of fewer than 14.

    Those 7 are pose and shape of networks of 256 to 1024 pixels, but nearly all layers of one of 32 pixels.
    """
    return range(min(7, layers // 2))


def mix_styles(rows: np.ndarray, columns: np.ndarray, layers: Sequence[int]) -> np.ndarray:
    """w [r, c, num_layers, dlatent_size]: those of the rows [r, num_layers, ...] with these layers of the columns.

    Raises `UserError` for layers that do not exist.
    """
    count = rows.shape[1]
    outside = [layer for layer in layers if not 0 <= layer < count]
    if outside:
        raise UserError(f"--col-styles: found layer {outside[0]}, this network has 0 to {count - 1}")
    mixed = np.repeat(rows[:, None], len(columns), axis=1)
    mixed[:, :, list(layers)] = columns[None, :, list(layers)]
    return mixed
