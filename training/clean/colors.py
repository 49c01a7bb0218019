"""Images of too few colours, and images without colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from training.clean.picture import Picture
from training.clean.verdicts import ImageFilter, Verdict

MIN_CHROMA = 12.0  # of 255: JPEG gives grey photographs a little colour, which stays well below
_CHROMA_PERCENTILE = 99


def count_colors(pixels: np.ndarray) -> int:
    """Number of different colours of uint8 [H, W, 3]."""
    wide = pixels.reshape(-1, 3).astype(np.int32)
    seen = np.zeros(1 << 24, bool)
    seen[(wide[:, 0] << 16) | (wide[:, 1] << 8) | wide[:, 2]] = True
    return int(np.count_nonzero(seen))


def chroma(pixels: np.ndarray) -> float:
    """How colourful the most colourful hundredth of uint8 [H, W, 3] is: largest minus smallest channel, 0 to 255."""
    difference = pixels.max(axis=2) - pixels.min(axis=2)
    return float(np.percentile(difference, _CHROMA_PERCENTILE))


@dataclass(frozen=True)
class ColorsFilter(ImageFilter):
    """Drops images with fewer than `min_colors` different colours: line art, screenshots, most grey images."""

    min_colors: int
    name: ClassVar[str] = "colors"
    high_is_bad: ClassVar[bool] = False

    @property
    def criterion(self) -> str:
        """See `Filter`."""
        return f"fewer than {self.min_colors} different colours"

    def measure(self, picture: Picture) -> int:
        """Number of different colours."""
        return count_colors(picture.pixels)

    def judge(self, measured: int) -> Verdict:
        """Score: number of different colours."""
        return Verdict(measured >= self.min_colors, measured, f"{measured} colours, under {self.min_colors}")


@dataclass(frozen=True)
class MonochromeFilter(ImageFilter):
    """Drops grey images. Those in shades of one colour, such as sepia, are not grey and stay."""

    min_chroma: float = MIN_CHROMA
    name: ClassVar[str] = "chroma"
    high_is_bad: ClassVar[bool] = False

    @property
    def criterion(self) -> str:
        """See `Filter`."""
        return f"monochrome: channels of 99% of the pixels differ by less than {self.min_chroma:g} of 255"

    def measure(self, picture: Picture) -> float:
        """See `chroma`."""
        return chroma(picture.pixels)

    def judge(self, measured: float) -> Verdict:
        """Score: `chroma`, 0 to 255."""
        reason = f"monochrome: channels differ by {measured:.1f}, under {self.min_chroma:g}"
        return Verdict(measured >= self.min_chroma, measured, reason)
