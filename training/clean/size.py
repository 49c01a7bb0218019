"""Images that are too small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from training.clean.picture import Picture
from training.clean.verdicts import ImageFilter, Verdict


@dataclass(frozen=True)
class SizeFilter(ImageFilter):
    """Drops images whose shorter side is under `min_side` pixels."""

    min_side: int
    name: ClassVar[str] = "size"
    high_is_bad: ClassVar[bool] = False

    @property
    def criterion(self) -> str:
        """See `Filter`."""
        return f"shorter side under {self.min_side} pixels"

    def measure(self, picture: Picture) -> tuple[int, int]:
        """(width, height) in pixels."""
        return picture.width, picture.height

    def judge(self, measured: tuple[int, int]) -> Verdict:
        """Score: the shorter side in pixels."""
        width, height = measured
        side = min(width, height)
        return Verdict(side >= self.min_side, side, f"{width}x{height}, shorter side under {self.min_side} pixels")


@dataclass(frozen=True)
class PixelsFilter(ImageFilter):
    """Drops images of fewer than `min_pixels` pixels."""

    min_pixels: int
    name: ClassVar[str] = "pixels"
    high_is_bad: ClassVar[bool] = False

    @property
    def criterion(self) -> str:
        """See `Filter`."""
        return f"fewer than {self.min_pixels} pixels"

    def measure(self, picture: Picture) -> tuple[int, int]:
        """(width, height) in pixels."""
        return picture.width, picture.height

    def judge(self, measured: tuple[int, int]) -> Verdict:
        """Score: number of pixels."""
        width, height = measured
        count = width * height
        return Verdict(count >= self.min_pixels, count, f"{width}x{height} = {count}, under {self.min_pixels} pixels")
