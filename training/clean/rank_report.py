"""The ranking as a table and as a page to look at."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Sequence

from dnnlib.util import atomic_write
from training.clean.html import Card, document, gallery, heading, notes
from training.clean.picture import Decode, decode_file
from training.clean.rank import Rank
from training.clean.report import format_score
from training.clean.thumbnails import thumbnails
from training.dataset_build import Item
from training.dataset_items import counted


def write_rank_table(path: os.PathLike | str, items: Sequence[Item], ranks: Sequence[Rank]) -> None:
    """Writes rank (from 1), name, score and deviation, worst first."""
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
        writer = csv.writer(text)
        writer.writerow(["rank", "name", "score", "deviation"])
        for number, one in enumerate(ranks, 1):
            writer.writerow([number, items[one.index].name, f"{one.score:.6g}", f"{one.deviation:.3g}"])
        text.detach()  # flushes


def write_rank_report(
    path: os.PathLike | str,
    title: str,
    items: Sequence[Item],
    ranks: Sequence[Rank],
    worst: int,
    bad: Sequence[tuple[str, str]],
    most_shown: int,
    workers: int | None = None,
    decode: Decode = decode_file,
) -> None:
    """Writes the page: the images that would be dropped, those that follow, and the best.

    Args:
        title: of the page.
        worst: how many would be dropped.
        bad: (name, reason) of images without a score.
        most_shown: images per gallery.
        workers, decode: see `pipeline.judge`.
    """
    dropped, kept = ranks[:worst][:most_shown], ranks[worst:]
    next_ones, best = kept[:most_shown], kept[most_shown:][::-1][:most_shown]
    pictures = thumbnails(items, [one.index for one in (*dropped, *next_ones, *best)], workers, decode)

    def cards(some: Sequence[Rank]) -> list[Card]:
        return [
            Card(
                items[one.index].name,
                (pictures.get(one.index),),
                f"{format_score(one.score)} ± {format_score(one.deviation)}",
            )
            for one in some
        ]

    parts = [
        heading(f"{counted(len(ranks), 'image')} by the discriminator's score, {len(bad)} without a score"),
        gallery(f"Would drop {worst}, worst first", cards(dropped), "dropped"),
        gallery(f"Kept {len(kept)}, worst first", cards(next_ones), "kept"),
        gallery("The best of the others, best first", cards(best), "kept"),
        notes(
            f"Without a score: {len(bad)}",
            [f"{name}: {reason}" for name, reason in itertools.islice(bad, 10 * most_shown)],
        ),
    ]
    with atomic_write(path, "w") as file:
        file.write(document(title, parts))
