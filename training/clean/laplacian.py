"""Blur by the variance of the Laplacian: fast, but it depends on the subject as much as on the focus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from training.clean.picture import Picture
from training.clean.verdicts import ImageFilter, Verdict


def laplacian_variance(grey: np.ndarray) -> float:
    """Variance of the Laplacian (4 neighbours, mirrored border) of uint8 [H, W]: the sharper, the higher."""
    from scipy import ndimage  # here: a third of the time in which every command and every worker process starts

    return float(ndimage.laplace(grey.astype(np.float32), mode="mirror").var(dtype=np.float64))


@dataclass(frozen=True)
class LaplacianFilter(ImageFilter):
    """Drops images whose Laplacian has a variance under `min_variance`."""

    min_variance: float
    name: ClassVar[str] = "laplacian"
    high_is_bad: ClassVar[bool] = False

    @property
    def criterion(self) -> str:
        """See `Filter`."""
        return f"variance of the Laplacian under {self.min_variance:g}"

    def measure(self, picture: Picture) -> float:
        """See `laplacian_variance`."""
        return laplacian_variance(picture.grey)

    def judge(self, measured: float) -> Verdict:
        """Score: variance of the Laplacian, of grey levels from 0 to 255."""
        reason = f"variance of the Laplacian {measured:.4g}, under {self.min_variance:g}"
        return Verdict(measured >= self.min_variance, measured, reason)
