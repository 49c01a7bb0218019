"""What filters would drop, as a page to look at: one static HTML file without scripts, worst images first."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dnnlib.util import atomic_write
from training.clean.columns import Columns
from training.clean.html import Card, document, gallery, heading, notes, table
from training.clean.judgements import Judgements
from training.clean.picture import Decode, decode_file
from training.clean.thumbnails import thumbnails
from training.clean.verdicts import Filter
from training.dataset_items import counted

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
    return _counts(Columns(judgements, len(filters)), filters)


def _counts(columns: Columns, filters: Sequence[Filter]) -> Counts:
    kept, unreadable = int(columns.keep.sum()), int(columns.unreadable.sum())
    by_filter = {one.name: len(columns.dropped_by(place)) for place, one in enumerate(filters)}
    return Counts(kept, len(columns.keep) - kept - unreadable, unreadable, by_filter)


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
    columns = Columns(judgements, len(filters))
    galleries: list[tuple[int, list[int], list[int]]] = []  # place of the filter, dropped, kept
    for place, one in enumerate(filters):
        worst = columns.worst_first(place, one, columns.dropped_by(place), most_shown)
        nearest = columns.worst_first(place, one, columns.kept_with_score(place), most_shown)
        galleries.append((place, worst, nearest))
    everything_kept = np.flatnonzero(columns.keep)
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

    counts = _counts(columns, filters)
    parts = [_summary(columns, filters, counts)]
    for place, dropped, kept in galleries:
        one = filters[place]
        parts += [heading(f"{one.name}: {one.criterion}")]
        parts += [gallery(f"Would drop {counts.by_filter[one.name]}, worst first", cards(dropped, place), "dropped")]
        if kept:
            parts += [gallery("Kept, nearest to being dropped first", cards(kept, place), "kept")]
    parts += [gallery(f"Left when all filters are applied: {counts.kept}", cards(sample, None), "kept")]
    bad = [judgements[index] for index in np.flatnonzero(columns.unreadable)[: 10 * most_shown].tolist()]
    lines = [f"{judgement.item.name}: {judgement.unreadable}" for judgement in bad]
    parts += [notes(f"Unreadable: {counts.unreadable}", lines)]
    with atomic_write(path, "w") as file:
        file.write(document(title, parts))


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


def _summary(columns: Columns, filters: Sequence[Filter], counts: Counts) -> str:
    rows = []
    for place, one in enumerate(filters):
        finite = columns.finite_scores(place)
        quantiles = (
            [format_score(float(q)) for q in np.percentile(finite, (0, 5, 50, 95, 100))] if len(finite) else [""] * 5
        )
        rows.append([one.name, one.criterion, str(counts.by_filter[one.name]), *quantiles])
    total = f"{counted(len(columns.keep), 'image')}: {counts.kept} kept, {counts.dropped} would be dropped"
    titles = ["filter", "drops", "images", "lowest score", "5%", "median", "95%", "highest"]
    return heading(f"{total}, {counts.unreadable} unreadable") + table(titles, rows)
