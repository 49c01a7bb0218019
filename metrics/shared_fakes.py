"""Fakes that several metrics look at: made once, and looked at once by each feature network.

Fake i depends on the seed and on i alone, so a metric of fewer images looks at the first ones of a longer series. What
the networks make of them waits on disk, in files without a name that end with the process, until every metric has read
it: memory does not grow with the number of images.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

import numpy as np

from dnnlib.util import UserError, make_cache_dir_path
from metrics.registry import FEATURES, PERCEPTUAL, PROBABILITIES, MetricSpec

_READ_ROWS = 4096

#: What a series of images is made by: "images", or "paths" with the space that they run in and where steps are.
Series = tuple[str, ...]
IMAGES: Series = ("images",)
#: What is asked about the images of a series: (feature network, output), for paths (feature network, crop).
Question = tuple[str, str | bool]
#: Answers to questions [n, ...] for the next images of a series; a question may be missing once it has enough.
Answers = Mapping[Question, np.ndarray]


def series_of(spec: MetricSpec) -> tuple[Series, Question] | None:
    """What the metric looks at, and what it asks; None for metrics whose images no other one can use."""
    if spec.output in (FEATURES, PROBABILITIES):
        return IMAGES, (spec.feature_network, spec.output)
    if spec.output == PERCEPTUAL:
        return ("paths", spec.path.space, spec.path.ends), (spec.feature_network, spec.path.crop)
    return None


def plan_sharing(specs: Sequence[MetricSpec]) -> dict[Series, dict[Question, int]]:
    """Series that more than one of the metrics look at, with the number of answers to each question."""
    found: dict[Series, list[tuple[Question, int]]] = {}
    for spec in specs:
        looked = series_of(spec)
        if looked is not None:
            found.setdefault(looked[0], []).append((looked[1], spec.num_fake))
    plan: dict[Series, dict[Question, int]] = {}
    for series, asked in found.items():
        if len(asked) > 1:
            counts = plan.setdefault(series, {})
            for question, count in asked:
                counts[question] = max(count, counts.get(question, 0))
    return plan


def describe_sharing(specs: Sequence[MetricSpec]) -> list[str]:
    """One sentence for people about each series that is shared."""
    sentences = []
    for series, counts in plan_sharing(specs).items():
        names = [spec.name for spec in specs if (series_of(spec) or [None])[0] == series]
        networks: dict[str, list[str]] = {}
        for network, output in counts:
            crops = {True: "face crop", False: "whole images"}
            networks.setdefault(network, []).append(crops[output] if isinstance(output, bool) else str(output))
        looked = "; ".join(f"{network} ({', '.join(outputs)})" for network, outputs in networks.items())
        what = "fakes" if series == IMAGES else "pairs of fakes"
        sentences.append(
            f"shared by {', '.join(names)}: {max(counts.values())} {what}, made once and looked at once by {looked}; "
            "the time of the first includes it"
        )
    return sentences


class SharedFakes:
    """The shared answers of some metrics on one generator, which may not change meanwhile.

    plan: of `plan_sharing`; fill: answers for a series, in order, given how many each question needs; folder: where
    they wait, None is the folder `metrics` of the user's cache. A disk without room is reported on stderr and costs
    time only.
    """

    def __init__(
        self,
        plan: Mapping[Series, Mapping[Question, int]],
        fill: Callable[[Series, Mapping[Question, int]], Iterator[Answers]],
        folder: os.PathLike | str | None = None,
    ) -> None:
        self._plan, self._fill = {series: dict(counts) for series, counts in plan.items()}, fill
        self._folder = folder
        self._files: dict[tuple[Series, Question], _Rows] = {}

    def read(self, spec: MetricSpec) -> Iterator[np.ndarray] | None:
        """Answers to the metric's question, [n, ...] at a time; None if they are not shared.

        The first reader of a series waits until all of it is there. Raises what making the images raises.
        """
        looked = series_of(spec)
        if looked is None or looked[0] not in self._plan:
            return None
        if looked not in self._files:
            try:
                self._make(looked[0])
            except _NoRoom as err:
                print(f"warning: fakes are not shared but made for each metric: {err}", file=sys.stderr)
                del self._plan[looked[0]]
                return None
        return self._files[looked].read(spec.num_fake)

    def _make(self, series: Series) -> None:
        counts = self._plan[series]
        files: dict[Question, _Rows] = {}
        try:
            folder = make_cache_dir_path("metrics") if self._folder is None else os.fspath(self._folder)
            for question, count in counts.items():
                files[question] = _Rows(folder, count)
            for answers in self._fill(series, counts):
                for question, rows in answers.items():
                    files[question].append(rows)
        except BaseException:
            for file in files.values():
                file.close()
            raise
        self._files |= {(series, question): file for question, file in files.items()}

    def close(self) -> None:
        """Frees the disk."""
        for file in self._files.values():
            file.close()
        self._files, self._plan = {}, {}


class _NoRoom(Exception):
    """The disk takes no more."""


class _Rows:
    """The first `count` rows of a stream of arrays, in a file without a name."""

    def __init__(self, folder: str, count: int) -> None:
        self._count, self._written = count, 0
        self._kind: tuple[np.dtype, tuple[int, ...]] | None = None
        try:
            os.makedirs(folder, exist_ok=True)
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by `close`)
        except (OSError, UserError) as err:
            raise _NoRoom(str(err)) from err

    def append(self, rows: np.ndarray) -> None:
        """Adds rows [n, ...] as far as they are wanted."""
        rows = rows[: self._count - self._written]
        self._kind = self._kind or (rows.dtype, rows.shape[1:])
        try:
            self._file.write(np.ascontiguousarray(rows).tobytes())
            self._file.flush()
        except OSError as err:
            raise _NoRoom(str(err)) from err
        self._written += len(rows)

    def read(self, count: int) -> Iterator[np.ndarray]:
        """The first `count` rows, [n, ...] at a time."""
        if self._written < count:
            raise ValueError(f"{count} rows were asked for, {self._written} are there")
        dtype, shape = self._kind
        bytes_per_row = dtype.itemsize * int(np.prod(shape))
        for begin in range(0, count, _READ_ROWS):
            rows = min(_READ_ROWS, count - begin)
            self._file.seek(begin * bytes_per_row)
            yield np.frombuffer(self._file.read(rows * bytes_per_row), dtype).reshape(rows, *shape)

    def close(self) -> None:
        """Frees the disk."""
        self._file.close()
