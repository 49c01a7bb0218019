"""The verdicts of all filters as columns of numbers, from one pass over them: at most 5 bytes per image and filter."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable

import numpy as np

from training.clean.judgements import Judgements
from training.clean.verdicts import Filter

_NOT_ASKED, _KEPT, _DROPPED = 0, 1, 2


class Columns:
    """What became of every image, by position.

    Attributes:
        keep, unreadable: bool [N].
    """

    def __init__(self, judgements: Judgements, num_filters: int) -> None:
        count = len(judgements)
        self.unreadable = np.zeros(count, bool)
        self._state = np.zeros((num_filters, count), np.uint8)
        # Single precision sorts and sums up as well as people can tell, in half the memory.
        self._scores = np.full((num_filters, count), np.nan, np.float32)
        for index, (verdicts, unreadable) in enumerate(judgements.all_verdicts()):
            self.unreadable[index] = bool(unreadable)
            for place, verdict in enumerate(verdicts):
                if verdict is not None:
                    self._state[place, index] = _KEPT if verdict.keep else _DROPPED
                    self._scores[place, index] = verdict.score
        self.keep = ~self.unreadable & ~(self._state == _DROPPED).any(axis=0)

    def dropped_by(self, place: int) -> np.ndarray:
        """Positions of the images that the filter at `place` drops: int64 [n]."""
        return np.flatnonzero(self._state[place] == _DROPPED)

    def kept_with_score(self, place: int) -> np.ndarray:
        """Positions of the images that it keeps, and has measured: int64 [n]."""
        return np.flatnonzero((self._state[place] == _KEPT) & ~np.isnan(self._scores[place]))

    def finite_scores(self, place: int) -> np.ndarray:
        """Its scores of all images that have one: float32 [n]."""
        return self._scores[place][np.isfinite(self._scores[place])]

    def worst_first(self, place: int, of: Filter, positions: Iterable[int], most: int) -> list[int]:
        """The first `most` positions by its scores; unmeasured images that it drops lead, other ones come last."""
        state, scores = self._state[place], self._scores[place]

        def key(index: int) -> tuple[float, int]:
            score = float(scores[index])
            if math.isnan(score):
                return (-math.inf if state[index] == _DROPPED else math.inf), index
            return -of.badness(score), index

        return heapq.nsmallest(most, map(int, positions), key)
