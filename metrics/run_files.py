"""What a run directory holds, for reports: read as far as it can be, with a list of what could not be read."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dnnlib.submission.options import OPTIONS_FILE, read_options
from dnnlib.tflib.autosummary import STATS_FILE
from dnnlib.util import UserError
from metrics.snapshots import snapshot_kimg

_STATE = re.compile(r"training-state-(\d+)\.npz")
_FAKES = re.compile(r"fakes(_init|\d+)\.(png|jpe?g)")
_METRIC = re.compile(r"metric-(.+)\.jsonl")
_CONDITIONS = (
    "feature_network", "weights_sha256", "resize", "num_fake", "num_real", "mirror", "truncation_psi",
    "variant", "dataset", "dataset_hash", "validation", "image_shape", "seed",
)  # fmt: skip
_MOST_PROBLEMS = 5  # of one file that are told one by one


class Point(NamedTuple):
    """A statistic at one time: thousands of images shown, mean (NaN: was not finite), standard deviation or NaN."""

    kimg: float
    mean: float
    std: float


class Measurement(NamedTuple):
    """One value of a metric. kimg: of the snapshot, None if its name does not tell."""

    snapshot: str
    kimg: float | None
    value: float


@dataclass
class MeasuredSeries:
    """Values of one result of a metric, measured under equal conditions, in the order of kimg.

    metric: name of the metric; name: of the result; conditions: fields of `MetricResult` that a value depends on.
    """

    metric: str
    name: str
    conditions: dict[str, Any]
    points: list[Measurement]

    @property
    def title(self) -> str:
        """The name of the result, and which images it was measured against if not those of the training."""
        return f"{self.name} (held out)" if self.conditions.get("validation") else self.name

    @property
    def best(self) -> Measurement | None:
        """The best finite value, the earliest of equals; None if there is none, if several are all the same, or if
        there is no better and worse."""
        direction = better_is(self.name)
        finite = [point for point in self.points if math.isfinite(point.value)]
        if not finite or direction == 0 or all_same(point.value for point in finite):
            return None
        return max(finite, key=lambda point: direction * point.value)


@dataclass
class RunFiles:
    """Contents of a run directory.

    problems: one sentence for everything that is missing or damaged; stats: tag -> points; measured: metrics;
    options: {path: value} or None; grids: fakes, oldest first; analyses: pictures of run_analysis.py.
    """

    directory: Path
    problems: list[str] = field(default_factory=list)
    stats: dict[str, list[Point]] = field(default_factory=dict)
    measured: list[MeasuredSeries] = field(default_factory=list)
    options: dict[str, Any] | None = None
    reals: Path | None = None
    grids: list[Path] = field(default_factory=list)
    snapshots: list[Path] = field(default_factory=list)
    states: list[Path] = field(default_factory=list)
    analyses: list[Path] = field(default_factory=list)

    @property
    def kimg(self) -> float:
        """Thousands of images shown, as far as the files tell; 0 if they do not."""
        from_stats = [points[-1].kimg for points in self.stats.values() if points]
        return max([*from_stats, *(snapshot_kimg(path.name) or 0 for path in self.snapshots)], default=0.0)


def all_same(values: Iterable[float]) -> bool:
    """Whether there are several and none is better than another."""
    several = list(values)
    return len(several) > 1 and len(set(several)) == 1


def better_is(name: str) -> int:
    """1 if a higher value of this result is better, -1 if a lower one is, 0 if neither: a deviation; diversity, which
    warns where it falls, but is highest for the noise that an untrained generator makes."""
    if name.endswith("_std") or name.startswith("diversity"):
        return 0
    return 1 if re.match(r"(is|pr)\d+k", name) or name.endswith(("_precision", "_recall")) else -1


def flatten(options: dict[str, Any]) -> dict[str, Any]:
    """Options by path: `{"G": {"fmap_base": 1}}` becomes `{"G.fmap_base": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{leaf}": item for leaf, item in value.items()}
        else:
            flat[key] = value
    return flat


def read_run(run_dir: os.PathLike | str) -> RunFiles:
    """Everything in a run directory that can be read.

    Raises:
        UserError: there is no such directory, or it holds other things and nothing of a run.
    """
    run = RunFiles(Path(run_dir))
    try:
        names = sorted(os.listdir(run.directory))
    except OSError as err:
        raise UserError(f"cannot read the run directory {run_dir}: {err.strerror or err}") from err
    for name in names:
        path = run.directory / name
        if snapshot_kimg(name) is not None:
            run.snapshots.append(path)
        elif _STATE.fullmatch(name):
            run.states.append(path)
        elif _FAKES.fullmatch(name):
            run.grids.append(path)
        elif re.fullmatch(r"reals\.(png|jpe?g)", name):
            run.reals = path
        elif name.startswith("analysis-") and name.endswith(".png") and f"{name[:-4]}.json" in names:
            run.analyses.append(path)
    run.grids.sort(key=_grid_order)
    run.snapshots.sort(key=lambda path: snapshot_kimg(path.name))
    run.states.sort(key=lambda path: int(_STATE.fullmatch(path.name)[1]))
    _read_stats(run)
    for name in names:
        if match := _METRIC.fullmatch(name):
            run.measured += _read_metric(run, name, match[1])
    try:
        run.options = flatten(read_options(run.directory))
    except UserError as err:
        missing = not (run.directory / OPTIONS_FILE).exists()
        run.problems.append(f"{OPTIONS_FILE} is missing: no configuration" if missing else str(err))
    parts = (run.options, run.stats, run.measured, run.reals, run.grids, run.snapshots, run.states, run.analyses)
    kept = {OPTIONS_FILE, STATS_FILE, "log.txt"}  # of a run, even where they are damaged
    if names and not any(parts) and not kept.intersection(names) and not any(map(_METRIC.fullmatch, names)):
        raise UserError(f"{run_dir} is no run directory: nothing in it is of a training (found {names[0]})")
    for what, found in (("reals", run.reals), ("fakes*", run.grids), ("network-snapshot-*.pkl", run.snapshots)):
        if not found:
            run.problems.append(f"{what}{'.png' if '.' not in what else ''} is missing")
    return run


def _grid_order(path: Path) -> int:
    number = _FAKES.fullmatch(path.name)[1]  # type: ignore[index]
    return -1 if number == "_init" else int(number)


def _read_lines(run: RunFiles, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of the lines that are whole; the others become problems."""
    try:
        lines = (run.directory / name).read_bytes().split(b"\n")
    except FileNotFoundError:
        run.problems.append(f"{name} is missing")
        return
    except OSError as err:
        run.problems.append(f"{name} cannot be read: {err.strerror or err}")
        return
    damaged = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            yield number, record
        else:
            damaged.append(number)
    if damaged:
        shown = ", ".join(map(str, damaged[:_MOST_PROBLEMS])) + (" ..." if len(damaged) > _MOST_PROBLEMS else "")
        run.problems.append(f"{name}: {len(damaged)} of {len(lines)} lines are damaged and left out (line {shown})")


def _number(value: Any) -> float:
    """A number of JSON as float, NaN for null and all else."""
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(np.float64(value)) if plain and abs(value) < 1e300 else math.nan


def _read_stats(run: RunFiles) -> None:
    unplaced = 0
    for _, record in _read_lines(run, STATS_FILE):
        kimg = _number(record.pop("nimg", None)) / 1000
        record.pop("timestamp", None)
        if not math.isfinite(kimg):
            unplaced += 1
            continue
        for tag, value in record.items():
            if isinstance(value, dict):
                point = Point(kimg, _number(value.get("mean")), _number(value.get("std")))
            else:
                point = Point(kimg, _number(value), math.nan)
            run.stats.setdefault(tag, []).append(point)
    if unplaced:
        run.problems.append(f"{STATS_FILE}: {unplaced} records do not say at how many images, and are left out")
    for points in run.stats.values():
        points.sort(key=lambda point: point.kimg)


def _read_metric(run: RunFiles, file_name: str, metric: str) -> list[MeasuredSeries]:
    """Series of a file `metric-NAME.jsonl`: one for each result and set of conditions. Later records win."""
    found: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Measurement]]] = {}
    strange = 0
    for _, record in _read_lines(run, file_name):
        values = record.get("values")
        if not isinstance(values, dict) or not isinstance(record.get("snapshot"), str):
            strange += 1
            continue
        conditions = {key: record.get(key) for key in _CONDITIONS} | {"validation": bool(record.get("validation"))}
        snapshot = record["snapshot"]
        for name, value in values.items():
            fresh = ({**conditions, "dataset_filter": None}, {})
            shown, points = found.setdefault((name, json.dumps(conditions)), fresh)
            # The hash tells data sets apart; how one was made is only for people, and older records do not say.
            shown["dataset_filter"] = record.get("dataset_filter") or shown["dataset_filter"]
            points[snapshot] = Measurement(snapshot, snapshot_kimg(snapshot), _number(value))
    if strange:
        run.problems.append(f"{file_name}: {strange} records lack a snapshot or values, and are left out")
    series = []
    for (name, _), (conditions, points) in found.items():
        ordered = sorted(points.values(), key=lambda p: (p.kimg is None, p.kimg or 0, p.snapshot))
        series.append(MeasuredSeries(metric, name, conditions, ordered))
    return series
