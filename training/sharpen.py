"""Unsharp masking of training images, as "Scaling up StyleGAN2" (annex B) tried it: to its harm.

Networks learn the artefacts: FID falls, but pictures do not get better. Here so that the finding can be repeated.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

_SIZE, _SIGMA = 5, 1.0  # of the Gaussian that is subtracted, in pixels


def sharpen(image: Image.Image, amount: float) -> Image.Image:
    """x + amount * (x - blurred x), rounded and clipped to [0, 255].

    image: mode L, RGB or RGBA, whose alpha stays as it is; blurred by a Gaussian of 5x5 pixels and sigma 1, borders
    reflected. amount: 1 is that of the text, 0 changes nothing.
    """
    import cv2  # here, because worker processes are started sooner without it

    pixels = np.asarray(image)
    colours = (pixels[..., :3] if pixels.ndim == 3 else pixels).astype(np.float32)
    blurred = cv2.GaussianBlur(colours, (_SIZE, _SIZE), _SIGMA)
    sharp = np.clip(np.rint(colours + np.float32(amount) * (colours - blurred)), 0, 255).astype(np.uint8)
    if image.mode == "RGBA":
        sharp = np.concatenate([sharp, pixels[..., 3:]], axis=2)
    return Image.fromarray(sharp)
