"""What filters would drop, as a page to look at: one static HTML file without scripts, worst images first."""

from __future__ import annotations

import heapq
import itertools
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dnnlib.util import atomic_write
from training.clean.html import Card, document, gallery, heading, notes, table
from training.clean.judgements import Judgement, Judgements
from training.clean.picture import Decode, decode_file
from training.clean.thumbnails import thumbnails
from training.clean.verdicts import Filter

MOST_SHOWN = 100  # images per gallery, unless asked otherwise


@dataclass(frozen=True)
class Counts:
    """What became of a collection."""

    kept: int
    dropped: int  # by filters
    unreadable: int
    by_filter: Mapping[str, int]  # an image can be dropped by several


def count(judgements: Judgements, filters: Sequence[Filter]) -> Counts:
    """How many images are kept, dropped and unreadable, and how many each filter drops."""
    kept = sum(one.keep for one in judgements)
    unreadable = sum(bool(one.unreadable) for one in judgements)
    by_filter = {one.name: len(dropped_by(judgements, place)) for place, one in enumerate(filters)}
    return Counts(kept, len(judgements) - kept - unreadable, unreadable, by_filter)


def dropped_by(judgements: Judgements, place: int) -> np.ndarray:
    """Positions of the images that the filter at `place` drops."""
    return _where(judgements, partial(_is_dropped, place=place))


def worst_first(judgements: Judgements, place: int, of: Filter, positions: Iterable[int], most: int) -> list[int]:
    """The first `most` positions by the scores of the filter at `place`; unmeasured images that it drops lead."""

    def key(index: int) -> tuple[float, int]:
        verdict = judgements[index].verdicts[place]
        if verdict is None or math.isnan(verdict.score):
            return (math.inf if verdict is None or verdict.keep else -math.inf), index
        return -of.badness(verdict.score), index

    return heapq.nsmallest(most, map(int, positions), key)


def format_score(score: float) -> str:
    """A score for people and tables: up to five digits, nothing for none."""
    return "" if math.isnan(score) else f"{score:.5g}" if abs(score) < 1e5 else f"{score:.0f}"


def write_report(
    path: os.PathLike | str,
    title: str,
    judgements: Judgements,
    filters: Sequence[Filter],
    most_shown: int = MOST_SHOWN,
    workers: int | None = None,
    decode: Decode = decode_file,
) -> None:
    """Writes the page: counts, then for each filter the images it drops and those it only just keeps.

    Args:
        title: of the page.
        most_shown: images per gallery; the others are only counted.
        workers, decode: see `judge`.
    """
    galleries: list[tuple[int, list[int], list[int]]] = []  # place of the filter, dropped, kept
    for place, one in enumerate(filters):
        dropped = dropped_by(judgements, place)
        scored = _where(judgements, partial(_is_kept_with_score, place=place))
        worst = worst_first(judgements, place, one, dropped, most_shown)
        galleries.append((place, worst, worst_first(judgements, place, one, scored, most_shown)))
    everything_kept = _where(judgements, lambda judgement: judgement.keep)
    # Evenly over the collection, so that it shows what is left rather than how it begins.
    picks = np.linspace(0, len(everything_kept) - 1, min(most_shown, len(everything_kept))).round().astype(int)
    sample = everything_kept[picks].tolist()
    shown = [*sample, *(index for _, dropped, kept in galleries for index in (*dropped, *kept))]
    twins = [verdict.twin for index in shown for verdict in judgements[index].verdicts if verdict is not None]
    pictures = thumbnails(
        judgements.items,
        [*shown, *(twin for twin in twins if twin is not None)],
        workers,
        decode,
    )

    def cards(positions: Sequence[int], place: int | None) -> list[Card]:
        return [_card(judgements, index, place, pictures) for index in positions]

    counts = count(judgements, filters)
    parts = [_summary(judgements, filters, counts)]
    for place, dropped, kept in galleries:
        one = filters[place]
        parts += [heading(f"{one.name}: {one.criterion}")]
        parts += [gallery(f"Would drop {counts.by_filter[one.name]}, worst first", cards(dropped, place), "dropped")]
        if kept:
            parts += [gallery("Kept, nearest to being dropped first", cards(kept, place), "kept")]
    parts += [gallery(f"Left when all filters are applied: {counts.kept}", cards(sample, None), "kept")]
    bad = (f"{judgement.item.name}: {judgement.unreadable}" for judgement in judgements if judgement.unreadable)
    parts += [notes(f"Unreadable: {counts.unreadable}", list(itertools.islice(bad, 10 * most_shown)))]
    with atomic_write(path, "w") as file:
        file.write(document(title, parts))


def _where(judgements: Judgements, test: Callable[[Judgement], bool]) -> np.ndarray:
    """int64 [n], positions of the judgements that pass a test."""
    return np.flatnonzero(np.fromiter(map(test, judgements), bool, len(judgements)))


def _is_kept_with_score(judgement: Judgement, place: int) -> bool:
    verdict = judgement.verdicts[place]
    return verdict is not None and verdict.keep and not math.isnan(verdict.score)


def _is_dropped(judgement: Judgement, place: int) -> bool:
    verdict = judgement.verdicts[place]
    return verdict is not None and not verdict.keep


def _score(judgement: Judgement, place: int) -> float:
    verdict = judgement.verdicts[place]
    return math.nan if verdict is None else verdict.score


def _card(judgements: Judgements, index: int, place: int | None, pictures: Mapping[int, str]) -> Card:
    judgement = judgements[index]
    if place is None:
        return Card(judgement.item.name, (pictures.get(index),))
    verdict = judgement.verdicts[place]
    shown = (pictures.get(index),)
    if verdict is None:
        return Card(judgement.item.name, shown)
    if verdict.twin is not None:
        shown += (pictures.get(verdict.twin),)
    return Card(judgement.item.name, shown, format_score(verdict.score), "" if verdict.keep else verdict.reason)


def _summary(judgements: Judgements, filters: Sequence[Filter], counts: Counts) -> str:
    rows = []
    for place, one in enumerate(filters):
        scores = np.fromiter((_score(judgement, place) for judgement in judgements), np.float64, len(judgements))
        finite = scores[np.isfinite(scores)]
        quantiles = (
            [format_score(float(q)) for q in np.percentile(finite, (0, 5, 50, 95, 100))] if len(finite) else [""] * 5
        )
        rows.append([one.name, one.criterion, str(counts.by_filter[one.name]), *quantiles])
    total = f"{len(judgements)} images: {counts.kept} kept, {counts.dropped} would be dropped"
    columns = ["filter", "drops", "images", "lowest score", "5%", "median", "95%", "highest"]
    return heading(f"{total}, {counts.unreadable} unreadable") + table(columns, rows)
