"""Runs filters over a collection of images."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tqdm

from dnnlib.util import UserError
from training.clean.judgements import BlobFile, Chosen, Judgements, Names
from training.clean.options import CleanOptions, make_filters
from training.clean.picture import Decode, decode_file, open_picture
from training.clean.verdicts import Filter, SetFilter, Verdict
from training.dataset_build import Failure, Item, ordered_map


@dataclass(frozen=True)
class _Unmeasured:
    """Stands for a measure that could not be taken."""

    reason: str


@dataclass(frozen=True)
class _Hopeless:
    """A filter that can measure no image at all."""

    reason: str


class _Waiting(Sequence[Any]):
    """What a filter of sets has measured, on the disk until all images are known.

    Attributes:
        indices: positions of the images among the items.
    """

    def __init__(self, one: SetFilter) -> None:
        self._filter = one
        self._blobs = BlobFile()
        self.indices = array("q")

    def add(self, index: int, measured: Any) -> None:
        """The measure of the image at a position that is higher than all before."""
        failed = isinstance(measured, _Unmeasured)
        self._blobs.append(b"?" + measured.reason.encode() if failed else b"=" + self._filter.pack(measured))
        self.indices.append(index)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        data = self._blobs[index]
        return self._filter.unpack(data[1:]) if data[:1] == b"=" else _Unmeasured(data[1:].decode())


def judge(
    items: Sequence[Item],
    filters: Sequence[Filter],
    workers: int | None = None,
    decode: Decode = decode_file,
    thorough: bool = True,
) -> Judgements:
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
    judgements = Judgements(items)
    alive = np.ones(len(items), bool)
    waiting = {place: _Waiting(one) for place, one in enumerate(filters) if one.needs_set}
    with closing(ordered_map(measure, items, workers)) as results:
        bar = tqdm.tqdm(results, total=len(items), unit="img", desc="judging")
        for index, result in enumerate(bar):
            if isinstance(result, _Hopeless):
                raise UserError(f"{items[index].name}: {result.reason}")
            verdicts: list[Verdict | None] = [None] * len(filters)
            if isinstance(result, Failure):
                judgements.append(verdicts, result.reason)
                alive[index] = False
                continue
            for place, measured in enumerate(result):
                if place not in waiting:
                    verdicts[place] = measured
                elif measured is not None:
                    waiting[place].add(index, measured)
            judgements.append(verdicts)
            alive[index] = all(one is None or one.keep for one in verdicts)
    names = Names(items)
    for place in list(waiting):
        held = waiting.pop(place)
        positions = np.flatnonzero(alive[held.indices])
        asked = np.asarray(held.indices, np.int64)[positions]
        found = _decide(filters[place], Chosen(names, asked), Chosen(held, positions))
        for index, verdict in zip(asked.tolist(), found, strict=True):
            twin = None if verdict.twin is None else int(asked[verdict.twin])
            judgements.set_verdict(index, place, verdict if twin is None else verdict._replace(twin=twin))
            alive[index] = verdict.keep
    return judgements


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
    measured = np.fromiter((not isinstance(value, _Unmeasured) for value in measures), bool, len(measures))
    positions = np.flatnonzero(measured)
    found = one.decide(Chosen(names, positions), Chosen(measures, positions))
    verdicts: list[Verdict] = [Verdict(True, math.nan)] * len(measures)
    for index in np.flatnonzero(~measured).tolist():
        verdicts[index] = Verdict(False, math.nan, measures[index].reason)
    for index, verdict in zip(positions.tolist(), found, strict=True):
        verdicts[index] = verdict if verdict.twin is None else verdict._replace(twin=int(positions[verdict.twin]))
    return verdicts
