"""Blur and noise by BRISQUE (Mittal et al. 2012), with the model that the library `brisque` ships.

The score is about 0 for clean photographs and 100 for bad ones, and can leave that range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from training.clean.libraries import require
from training.clean.picture import Picture
from training.clean.verdicts import ImageFilter, Verdict

# The time grows with the pixels, and what is finer than the largest networks' pixels does not matter.
LONGEST_SIDE = 1024
_SMALLEST = 16  # pixels: the window is 7 wide, and used at half the size, too


@cache
def _model() -> Any:
    from brisque import BRISQUE

    class _Brisque(BRISQUE):
        def scale_features(self, features: Any) -> np.ndarray:
            """Some features come as arrays of one element, which numpy 2.4 no longer takes for numbers."""
            return super().scale_features([np.asarray(feature).item() for feature in features])

    return _Brisque(url=False)


def brisque_score(pixels: np.ndarray) -> float:
    """BRISQUE of uint8 [H, W, 3], the lower the better; NaN where there is nothing to measure (flat or tiny)."""
    if min(pixels.shape[:2]) < _SMALLEST:
        return math.nan
    with np.errstate(all="ignore"):
        return float(_model().score(pixels))


@dataclass(frozen=True)
class BrisqueFilter(ImageFilter):
    """Drops images whose BRISQUE score is over `max_score`, judged at 1024 pixels if they are larger."""

    max_score: float
    name: ClassVar[str] = "brisque"
    high_is_bad: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require("brisque", "BRISQUE")
        require("cv2", "BRISQUE")

    @property
    def criterion(self) -> str:
        """See `Filter`."""
        return f"BRISQUE over {self.max_score:g}"

    def measure(self, picture: Picture) -> float:
        """See `brisque_score`."""
        return brisque_score(picture.shrunk(LONGEST_SIDE))

    def judge(self, measured: float) -> Verdict:
        """Score: BRISQUE; infinite for images without any structure."""
        if math.isnan(measured):
            return Verdict(False, math.inf, "BRISQUE finds no structure at all: flat or tiny")
        return Verdict(measured <= self.max_score, measured, f"BRISQUE {measured:.1f}, over {self.max_score:g}")
