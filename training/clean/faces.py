"""Faces that look straight and upright into the camera, by the landmarks of the eyes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from training.clean.libraries import require
from training.clean.mtcnn_process import Face, detect_faces
from training.clean.picture import Picture
from training.clean.verdicts import ImageFilter, Verdict
from training.dataset_items import counted

LONGEST_SIDE = 640  # what the detector sees at most; the measures are ratios


class EyeMeasures(NamedTuple):
    """Where the eyes of a face are."""

    tilt: float  # difference of the heights of the eyes, in percent of the height of the face
    offset: float  # difference of the distances of the eyes from the centreline, in percent of their mean


def eye_measures(face: Face) -> EyeMeasures:
    """Tilt and offset of the eyes. The offset is infinite if the eyes are not beside one another, left to right."""
    _, _, width, height = face.box
    tilt = abs(face.left_eye[1] - face.right_eye[1]) / height * 100 if height > 0 else math.inf
    centre = face.box[0] + width / 2
    left, right = centre - face.left_eye[0], face.right_eye[0] - centre
    mean = (left + right) / 2
    return EyeMeasures(tilt, abs(left - right) / mean * 100 if mean > 0 else math.inf)


@dataclass(frozen=True)
class FaceRule:
    """Which faces an image must show."""

    min_confidence: float = 0.9  # of the detector, 0 to 1; less certain faces do not count
    min_faces: int = 1
    max_faces: int | None = None
    max_tilt: float = 10.0  # percent: the eyes of the largest face are less apart in height
    max_offset: float = 90.0  # percent: the eyes of the largest face are less off the centre

    def judge(self, faces: Sequence[Face]) -> Verdict:
        """Verdict about an image with these faces.

        Score: the larger of tilt and offset, each as a fraction of what is allowed (dropped from 1 on); infinite if
        the number of faces is wrong.
        """
        certain = [face for face in faces if face.confidence >= self.min_confidence]
        if len(certain) < self.min_faces:
            best = max((face.confidence for face in faces), default=None)
            hint = "" if best is None else f" (most certain: {best:.2f})"
            return Verdict(False, math.inf, f"{counted(len(certain), 'face')}, expected {self.min_faces} or more{hint}")
        if self.max_faces is not None and len(certain) > self.max_faces:
            return Verdict(False, math.inf, f"{counted(len(certain), 'face')}, expected {self.max_faces} at most")
        if not certain:
            return Verdict(True, float("nan"))
        eyes = eye_measures(max(certain, key=lambda face: face.box[2] * face.box[3]))
        score = max(eyes.tilt / self.max_tilt, eyes.offset / self.max_offset)
        if eyes.tilt >= self.max_tilt:
            return Verdict(False, score, f"eyes are not level: {eyes.tilt:.1f}% of the face apart in height")
        if eyes.offset >= self.max_offset:
            return Verdict(False, score, f"eyes are not centred on the face: {eyes.offset:.0f}% off")
        return Verdict(True, score)


@dataclass(frozen=True)
class FaceFilter(ImageFilter):
    """Drops images without a face that MTCNN is certain of, or whose largest face is tilted or turned aside."""

    rule: FaceRule
    name: ClassVar[str] = "faces"
    high_is_bad: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require("mtcnn", "face checks")

    @property
    def criterion(self) -> str:
        """See `Filter`."""
        rule = self.rule
        most = "" if rule.max_faces is None else f" or more than {rule.max_faces}"
        return (
            f"fewer than {rule.min_faces}{most} faces of confidence {rule.min_confidence:g}, or eyes "
            f"{rule.max_tilt:g}% of the face apart in height or {rule.max_offset:g}% off its centreline"
        )

    def measure(self, picture: Picture) -> list[Face]:
        """The faces, in pixels of the image that the detector saw."""
        return detect_faces(picture.shrunk(LONGEST_SIDE))

    def judge(self, measured: list[Face]) -> Verdict:
        """See `FaceRule.judge`."""
        return self.rule.judge(measured)
