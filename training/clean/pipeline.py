"""Runs filters over a collection of images."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import tqdm

from dnnlib.util import UserError
from training.clean.options import CleanOptions, make_filters
from training.clean.picture import Decode, decode_file, open_picture
from training.clean.verdicts import Filter, Verdict
from training.dataset_build import Failure, Item, ordered_map


class Judgement(NamedTuple):
    """What all filters think of one image."""

    item: Item
    verdicts: tuple[Verdict | None, ...]  # one per filter; None: not asked, an earlier filter dropped the image
    unreadable: str = ""  # why the file cannot be decoded

    @property
    def keep(self) -> bool:
        """Whether no filter drops it."""
        return not self.unreadable and all(verdict is None or verdict.keep for verdict in self.verdicts)

    @property
    def reason(self) -> str:
        """Why it is dropped: all reasons, the first filter's first."""
        reasons = [verdict.reason for verdict in self.verdicts if verdict is not None and not verdict.keep]
        return self.unreadable or "; ".join(reasons)


@dataclass(frozen=True)
class _Unmeasured:
    """Stands for a measure that could not be taken."""

    reason: str


@dataclass(frozen=True)
class _Hopeless:
    """A filter that can measure no image at all."""

    reason: str


def judge(
    items: Sequence[Item],
    filters: Sequence[Filter],
    workers: int | None = None,
    decode: Decode = decode_file,
    thorough: bool = True,
) -> list[Judgement]:
    """What the filters think of every item, in order. Shows a progress bar; changes no file.

    Filters that compare images see those that all filters before them keep. Files that cannot be decoded are
    unreadable, not an error. An image that a filter cannot measure is dropped by it, with that reason.

    Args:
        workers: processes, None: one per core.
        decode: item -> uint8 [C, H, W], C = 1 or 3; can be pickled.
        thorough: every filter that looks at single images judges each image, so that all scores are known; else
            an image is done with at the first filter that drops it.
    Raises:
        UserError: a process died, or a filter lacks something.
    """
    measure = partial(_measure, filters=tuple(filters), decode=decode, thorough=thorough)
    verdicts: list[list[Verdict | None]] = [[None] * len(filters) for _ in items]
    unreadable: dict[int, str] = {}
    alive = [True] * len(items)
    # Only what filters of sets have measured must be held until all images are known.
    held: dict[int, dict[int, Any]] = {place: {} for place, one in enumerate(filters) if one.needs_set}
    with closing(ordered_map(measure, items, workers)) as results:
        bar = tqdm.tqdm(results, total=len(items), unit="img", desc="judging")
        for index, result in enumerate(bar):
            if isinstance(result, Failure):
                unreadable[index], alive[index] = result.reason, False
                continue
            if isinstance(result, _Hopeless):
                raise UserError(f"{items[index].name}: {result.reason}")
            for place, measured in enumerate(result):
                if place in held and measured is not None:
                    held[place][index] = measured
                else:
                    verdicts[index][place] = measured
            alive[index] = all(one is None or one.keep for one in verdicts[index])
    for place, measures in held.items():
        asked = [index for index in measures if alive[index]]
        found = _decide(filters[place], [items[i].name for i in asked], [measures[i] for i in asked])
        measures.clear()
        for index, verdict in zip(asked, found, strict=True):
            twin = None if verdict.twin is None else asked[verdict.twin]
            verdicts[index][place] = verdict._replace(twin=twin)
            alive[index] = verdict.keep
    return [
        Judgement(item, tuple(row), unreadable.get(index, ""))
        for index, (item, row) in enumerate(zip(items, verdicts, strict=True))
    ]


def find_dropped(
    items: Sequence[Item],
    options: CleanOptions,
    workers: int | None = None,
    say: Callable[[str], None] = print,
    decode: Decode = decode_file,
    report: os.PathLike | str | None = None,
) -> dict[int, str]:
    """Positions of the items that filters drop, with the reason: what a conversion leaves out.

    Files that cannot be decoded are not among them: whoever converts the images reports them.

    Args:
        report: page with the dropped and the kept images, written before anything is left out.
    Args and errors: see `judge` and `make_filters`. Without filters nothing is dropped, and no file is opened.
    """
    filters = make_filters(options)
    if not filters:
        return {}
    judgements = judge(items, filters, workers, decode, thorough=report is not None)
    dropped = {
        index: judgement.reason
        for index, judgement in enumerate(judgements)
        if not judgement.keep and not judgement.unreadable
    }
    for place, one in enumerate(filters):
        verdicts = (judgements[index].verdicts[place] for index in dropped)
        say(f"Filter {one.name} ({one.criterion}): drops {sum(v is not None and not v.keep for v in verdicts)} images.")
    if report is not None:
        from training.clean.report import write_report  # which needs judgements

        write_report(report, "Images left out", judgements, filters, workers=workers, decode=decode)
        say(f"Wrote {report}")
    say(f"Cleaning keeps {len(items) - len(dropped)} of {len(items)} images.")
    return dropped


def _measure(item: Item, filters: tuple[Filter, ...], decode: Decode, thorough: bool) -> tuple[Any, ...] | _Hopeless:
    """Verdicts of the filters of single images, measures of those of sets; None where nobody needs it."""
    picture = open_picture(item, decode)
    results: list[Any] = [None] * len(filters)
    for place, one in enumerate(filters):
        try:
            measured = one.measure(picture)
        except (BrokenProcessPool, ImportError, UserError) as err:
            return _Hopeless(f"filter {one.name} does not work: {err or type(err).__name__}")
        except Exception as err:  # libraries raise anything on odd images; the reason is reported
            text = " ".join(str(err).split())[:200]
            measured = _Unmeasured(f"filter {one.name} cannot judge it: {type(err).__name__}: {text}")
        if one.needs_set:
            results[place] = measured
            continue
        (results[place],) = _decide(one, [item.name], [measured])
        if not results[place].keep and not thorough:
            break
    return tuple(results)


def _decide(one: Filter, names: Sequence[str], measures: Sequence[Any]) -> list[Verdict]:
    """`one.decide`, which sees only the images that it could measure; the others are dropped."""
    measured = [index for index, value in enumerate(measures) if not isinstance(value, _Unmeasured)]
    found = one.decide([names[index] for index in measured], [measures[index] for index in measured])
    verdicts: list[Verdict] = [
        Verdict(False, math.nan, value.reason) if isinstance(value, _Unmeasured) else Verdict(True, math.nan)
        for value in measures
    ]
    for index, verdict in zip(measured, found, strict=True):
        verdicts[index] = verdict if verdict.twin is None else verdict._replace(twin=measured[verdict.twin])
    return verdicts
