"""The verdicts as a table, clean.csv."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence

from dnnlib.util import atomic_write
from training.clean.judgements import Judgement
from training.clean.report import format_score
from training.clean.verdicts import Filter


def write_table(path: os.PathLike | str, judgements: Sequence[Judgement], filters: Sequence[Filter]) -> None:
    """Writes name, verdict (keep, drop or unreadable), reason and a score per filter of every image, in order."""
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
        writer = csv.writer(text)
        writer.writerow(["name", "verdict", "reason", *(one.name for one in filters)])
        for judgement in judgements:
            verdict = "keep" if judgement.keep else "unreadable" if judgement.unreadable else "drop"
            scores = ["" if one is None else format_score(one.score) for one in judgement.verdicts]
            writer.writerow([judgement.item.name, verdict, judgement.reason, *scores])
        text.detach()  # flushes
