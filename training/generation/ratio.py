"""Images of data sets whose images were stretched, in the ratio that those had. Importing this needs no TensorFlow."""

from __future__ import annotations

import numpy as np

from training.dataset_inspect import to_pil
from training.fits import fit_image
from training.image_files import planes


def unstretch(image: np.ndarray, ratio: float) -> np.ndarray:
    """An image uint8 [C, H, W], C 1, 3 or 4, with width over height as given: the side that is too short grows."""
    height, width = image.shape[1:]
    size = (height, max(width, round(height * ratio))) if ratio * height > width else (round(width / ratio), width)
    return planes(fit_image(to_pil(image), *size, "stretch"))
