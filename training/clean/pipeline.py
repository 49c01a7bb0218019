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
from training.blob_file import BlobFile
from training.clean.judgements import Chosen, Judgements, Names
from training.clean.options import CleanOptions, make_filters
from training.clean.picture import Decode, decode_file, open_picture
from training.clean.places import check_output
from training.clean.verdicts import Filter, SetFilter, Verdict
from training.dataset_build import Failure, Item, ordered_map
from training.dataset_items import counted
from training.item_table import Dropped, Reasons

_KEPT = Verdict(True, math.nan)


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

    def failed(self, index: int) -> bool:
        """Whether there is a reason in place of a measure."""
        return self._blobs[index][:1] == b"?"

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
        unmeasured = np.fromiter((held.failed(int(i)) for i in positions), bool, len(positions))
        for position in map(int, positions[unmeasured]):
            index = held.indices[position]
            judgements.set_verdict(index, place, Verdict(False, math.nan, held[position].reason))
            alive[index] = False
        positions = positions[~unmeasured]
        asked = np.asarray(held.indices, np.int64)[positions]
        for index in map(int, asked):
            judgements.set_verdict(index, place, _KEPT)
        for number, verdict in filters[place].decide(Chosen(names, asked), Chosen(held, positions)):
            index = int(asked[number])
            judgements.set_verdict(index, place, verdict._replace(twin=int(asked[verdict.twin])))
            alive[index] = False
    return judgements


def find_dropped(
    items: Sequence[Item],
    options: CleanOptions,
    workers: int | None = None,
    say: Callable[[str], None] = print,
    decode: Decode = decode_file,
    report: os.PathLike | str | None = None,
) -> Dropped:
    """The items that filters drop, with the reason: what a conversion leaves out.

    Files that cannot be decoded are not among them: whoever converts the images reports them.

    Args:
        report: page with the dropped and the kept images, written before anything is left out.
    Args and errors: see `judge` and `make_filters`. Without filters nothing is dropped, and no file is opened.
    """
    filters = make_filters(options)
    if not filters:
        return Dropped(array("q"), Reasons())
    check_output(report, ".html", ".htm")
    judgements = judge(items, filters, workers, decode, thorough=report is not None)
    counts = [0] * len(filters)
    dropped = Reasons()
    positions = array("q")
    for index, judgement in enumerate(judgements):
        if judgement.keep or judgement.unreadable:
            continue
        positions.append(index)
        dropped.append(judgement.item.name, judgement.reason)
        for place, verdict in enumerate(judgement.verdicts):
            counts[place] += verdict is not None and not verdict.keep
    for one, number in zip(filters, counts, strict=True):
        say(f"Filter {one.name} ({one.criterion}): drops {counted(number, 'image')}.")
    if report is not None:
        from training.clean.report import write_report  # which needs judgements

        write_report(report, "Images left out", judgements, filters, workers=workers, decode=decode)
        say(f"Wrote {report}")
    say(f"Cleaning keeps {len(items) - len(dropped)} of {counted(len(items), 'image')}.")
    return Dropped(positions, dropped)


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
        failed = isinstance(measured, _Unmeasured)
        results[place] = Verdict(False, math.nan, measured.reason) if failed else one.judge(measured)
        if not results[place].keep and not thorough:
            break
    return tuple(results)
