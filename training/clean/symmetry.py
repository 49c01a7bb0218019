"""How unlike the left and the right half of an image, or of a mask of its subject, are."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from dnnlib.util import UserError
from training.clean.picture import Picture
from training.clean.verdicts import ImageFilter, Verdict
from training.image_files import ImageSpec, read_image

_MASK_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def asymmetry(grey: np.ndarray) -> float:
    """Bhattacharyya distance of the row sums of the left and the right half of uint8 [H, W]: 0 equal, 1 disjoint.

    The column in the middle of an odd width belongs to neither half. Brightness of a half as a whole does not count,
    only how it is spread over the rows. A half without any light is at distance 1 from one with.
    """
    half = grey.shape[1] // 2
    left = grey[:, :half].sum(axis=1, dtype=np.float64)
    right = grey[:, grey.shape[1] - half :].sum(axis=1, dtype=np.float64)
    total = left.sum() * right.sum()
    if total == 0:
        return 0.0 if left.sum() == right.sum() else 1.0
    return float(np.sqrt(max(0.0, 1 - np.sqrt(left * right).sum() / np.sqrt(total))))


def find_mask(folder: str, name: str) -> Path | None:
    """The mask of an image: the file of that name below `folder`, whatever its ending."""
    exact = Path(folder, name)
    candidates = (exact, *(exact.with_suffix(ending) for ending in _MASK_ENDINGS))
    return next((path for path in candidates if path.is_file()), None)


@dataclass(frozen=True)
class SymmetryFilter(ImageFilter):
    """Drops images with an asymmetry over `max_asymmetry`, measured on masks if a folder of them is given."""

    max_asymmetry: float
    masks: str | None = None
    name: ClassVar[str] = "asymmetry"
    high_is_bad: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.masks is not None and not os.path.isdir(self.masks):
            raise UserError(f"{self.masks} is no folder, expected one with a mask of the same name for each image")

    @property
    def criterion(self) -> str:
        """See `Filter`."""
        return f"asymmetry of the {'mask' if self.masks else 'image'} over {self.max_asymmetry:g}"

    def measure(self, picture: Picture) -> float | str:
        """See `asymmetry`; a text if the mask cannot be used."""
        if self.masks is None:
            return asymmetry(picture.grey)
        path = find_mask(self.masks, picture.name)
        if path is None:
            return f"no mask of that name in {self.masks}"
        try:
            mask = read_image(str(path), ImageSpec(None, 1))[0]
        except (UserError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as err:
            return f"its mask {path} cannot be read: {err}"
        return asymmetry(mask) if mask.any() else f"its mask {path} is empty"

    def judge(self, measured: float | str) -> Verdict:
        """Score: `asymmetry`, 0 to 1; infinite without a mask."""
        if isinstance(measured, str):
            return Verdict(False, math.inf, measured)
        return Verdict(measured <= self.max_asymmetry, measured, f"asymmetry {measured:.3f}, over {self.max_asymmetry}")
