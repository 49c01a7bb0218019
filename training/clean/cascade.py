"""Objects found by a cascade of OpenCV, such as faces of drawings by lbpcascade_animeface, and crops around them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np

from dnnlib.util import UserError
from training.clean.libraries import require
from training.clean.picture import Picture
from training.clean.verdicts import ImageFilter, Verdict

_SCALE_STEP = 1.1  # between the sizes at which the cascade looks


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Cascade:
    """A cascade file and how it is used."""

    path: str
    min_neighbors: int = 5  # detections at about the same place that make one object: the more, the stricter
    min_side: int = 50  # pixels; smaller objects are not looked for

    def __post_init__(self) -> None:
        require("cv2", "cascades")
        if not os.path.isfile(self.path):
            raise UserError(f"{self.path}: no such file, expected a cascade of OpenCV (.xml)")
        _load(self.path)

    def find(self, grey: np.ndarray) -> list[Box]:
        """Objects in uint8 [H, W], the largest first; contrast is equalised before."""
        import cv2

        found = _load(self.path).detectMultiScale(
            cv2.equalizeHist(grey),
            scaleFactor=_SCALE_STEP,
            minNeighbors=self.min_neighbors,
            minSize=(self.min_side, self.min_side),
        )
        boxes = [Box(*(int(value) for value in box)) for box in found]
        return sorted(boxes, key=lambda box: (-box.width * box.height, box))


@cache
def _load(path: str) -> Any:
    import cv2

    cv2.setNumThreads(1)  # one process per core already
    try:
        return _checked(cv2.CascadeClassifier(path), path)
    except (cv2.error, SystemError) as err:
        raise UserError(f"{path} is no cascade of OpenCV: {' '.join(str(err).split())[:200]}") from err


def _checked(cascade: Any, path: str) -> Any:
    if cascade.empty():
        raise UserError(f"{path} is no cascade of OpenCV, expected an .xml file with one")
    return cascade


def crop_box(box: Box, scale: float, width: int, height: int) -> Box:
    """The square `scale` times as large as the longer side of `box`, around its centre, inside an image.

    Where it would stick out of the image it is shifted, and where it is larger than the image it shrinks.
    """
    side = min(round(max(box.width, box.height) * scale), width, height)
    left = round(box.left + box.width / 2 - side / 2)
    top = round(box.top + box.height / 2 - side / 2)
    return Box(min(max(left, 0), width - side), min(max(top, 0), height - side), side, side)


@dataclass(frozen=True)
class CascadeFilter(ImageFilter):
    """Drops images in which a cascade finds nothing."""

    cascade: Cascade
    name: ClassVar[str] = "cascade"
    high_is_bad: ClassVar[bool] = False

    @property
    def criterion(self) -> str:
        """See `Filter`."""
        side = self.cascade.min_side
        return f"nothing of {side}x{side} pixels or more found by {os.path.basename(self.cascade.path)}"

    def measure(self, picture: Picture) -> Sequence[Box]:
        """The objects."""
        return self.cascade.find(picture.grey)

    def judge(self, measured: Sequence[Box]) -> Verdict:
        """Score: side of the largest object in pixels, 0 if there is none."""
        score = max(measured[0].width, measured[0].height) if measured else 0
        return Verdict(bool(measured), score, f"{os.path.basename(self.cascade.path)} finds nothing")
