"""The seam between filters and the rest: what a filter sees, and what it answers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from training.clean.picture import Picture


class Verdict(NamedTuple):
    """What a filter thinks of one image."""

    keep: bool
    score: float  # in the filter's own unit; NaN: there is none
    reason: str = ""  # why it is dropped, for people
    twin: int | None = None  # position of the image that is kept in its place


class Filter(ABC):
    """Measures images one by one in worker processes, then decides about them.

    A filter is pickled often: it holds options, no models and no data.
    """

    name: ClassVar[str]  # unique; a column of the table
    high_is_bad: ClassVar[bool]  # the worst images have the highest scores, else the lowest
    needs_set: ClassVar[bool] = False  # verdicts depend on the other images

    @property
    @abstractmethod
    def criterion(self) -> str:
        """What is dropped, with the threshold, for people."""

    @abstractmethod
    def measure(self, picture: Picture) -> Any:
        """What the decision needs to know about an image: small, and can be pickled."""

    def badness(self, score: float) -> float:
        """The higher, the nearer to being dropped: for sorting. No score is best of all."""
        if math.isnan(score):
            return -math.inf
        return score if self.high_is_bad else -score


class ImageFilter(Filter):
    """A filter that judges every image by itself."""

    @abstractmethod
    def judge(self, measured: Any) -> Verdict:
        """Verdict about the image that was measured."""


class SetFilter(Filter):
    """A filter that compares images with one another. What it has measured waits on the disk for the last image."""

    needs_set = True

    @abstractmethod
    def decide(self, names: Sequence[str], measures: Sequence[Any]) -> Iterator[tuple[int, Verdict]]:
        """(position, verdict) of those that are dropped, in any order, one by one: they may be a million.

        Args:
            names, measures: of images that no earlier filter dropped.
        """

    @abstractmethod
    def pack(self, measured: Any) -> bytes:
        """What `measure` returned, as bytes."""

    @abstractmethod
    def unpack(self, data: bytes) -> Any:
        """The inverse of `pack`."""
