"""What a metric gives, with everything that the number depends on, and the files it is written to."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from dnnlib.util import UserError, file_sha256, format_time
from metrics.variants import DEFAULT_VARIANT, VARIANTS

FEW_IMAGES = 10_000  # below this many, the distance depends on their number more than many models differ


@dataclass(frozen=True)
class MetricResult:
    """A value and its conditions. Two values compare if all conditions but the network are equal.

    name: of the metric; values: name of each result -> value; num_real, num_fake: images looked at; feature_network,
    weights_sha256: what looked at them; resize: how they were brought to its size; image_shape: [C, H, W] before that;
    mirror: reals were mirrored at random; validation: they are the held-out images of the data set; truncation_psi:
    None for none; dataset, dataset_hash: the reals; dataset_filter: how they were resized when the data set was made,
    None if they were not, or nobody knows; seed: of the fakes; seconds: that it took; variant: whose conventions were
    followed (`metrics.variants`);
    higher_is_better: of the first value. num_real is 0 for metrics that look at fakes alone.
    """

    name: str
    values: dict[str, float]
    num_real: int
    num_fake: int
    feature_network: str
    weights_sha256: str
    resize: str
    image_shape: list[int]
    mirror: bool
    dataset: str
    dataset_hash: str
    seed: int
    seconds: float
    truncation_psi: float | None = None
    variant: str = DEFAULT_VARIANT
    higher_is_better: bool = False
    validation: bool = False
    dataset_filter: str | None = None

    @property
    def value(self) -> float:
        """The first result: the only one, for most metrics."""
        return next(iter(self.values.values()))

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {format_value(name, value)}" for name, value in self.values.items())
        reals = f", {self.num_real} reals" if self.num_real else ""
        return f"{numbers} ({self.num_fake} fakes{reals}, {format_time(self.seconds)})"

    def notes(self) -> list[str]:
        """Sentences that a person should read beside the value."""
        notes = []
        if self.num_fake < FEW_IMAGES:
            notes.append(f"{self.name} looks at {self.num_fake} fakes: compare it with itself only")
        elif 0 < self.num_real < FEW_IMAGES:
            notes.append(f"{self.name}: the data set has only {self.num_real} images, so values are not absolute")
        if self.validation and self.num_real:
            notes.append(f"{self.name} is measured against the held-out images of {self.dataset}")
        if self.variant != DEFAULT_VARIANT:
            notes.append(f"{self.name} by the conventions of {self.variant}: {VARIANTS[self.variant].meaning}")
        return notes


def _is_small(name: str) -> bool:
    return name.startswith(("kid", "kd"))


def format_value(name: str, value: float) -> str:
    """The value of a result of that name with its published decimals: 8 for kernel distances, else 4."""
    return f"{value:.8f}" if _is_small(name) else f"{value:.4f}"


def format_line(snapshot: str, result: MetricResult) -> str:
    """A line of `metric-<name>.txt` in the form of the published tool: snapshot, duration, results."""
    name = os.path.splitext(os.path.basename(snapshot))[0]
    if len(name) > 29:
        name = "..." + name[-26:]
    line = f"{name:<30} time {format_time(result.seconds):<12}"
    for key, value in result.values.items():
        line += f" {key} {format_value(key, value):<{12 if _is_small(key) else 10}}"
    return line.strip()


def write_result(run_dir: os.PathLike | str, snapshot_name: str, result: MetricResult) -> None:
    """Appends the result to `metric-<name>.txt` (one line for people) and `metric-<name>.jsonl` (the whole record).

    snapshot_name: file of the networks that were measured, or its name in `run_dir`; its checksum tells it from another
    of that name. Raises `UserError` if the folder cannot be written.
    """
    path = next((p for p in (snapshot_name, os.path.join(run_dir, snapshot_name)) if os.path.isfile(p)), None)
    record: dict[str, Any] = {
        "snapshot": os.path.basename(snapshot_name),
        "snapshot_sha256": None if path is None else snapshot_sha256(path),
        **dataclasses.asdict(result),
    }
    record["timestamp"] = round(time.time(), 3)
    stem = os.path.join(run_dir, f"metric-{result.name}")
    _append(f"{stem}.txt", format_line(snapshot_name, result))
    _append(f"{stem}.jsonl", json.dumps(record))


def snapshot_sha256(path: os.PathLike | str) -> str:
    """Checksum of a file of networks, read once for all metrics unless it was written again."""
    status = os.stat(path)
    return _sha256_of(os.path.abspath(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1000)
def _sha256_of(path: str, size: int, changed: int) -> str:
    return file_sha256(path)


class Recorded(NamedTuple):
    """snapshot: file name of what was measured; sha256: of that file, None if it was not recorded."""

    snapshot: str
    result: MetricResult
    sha256: str | None = None


def read_results(run_dir: os.PathLike | str, name: str) -> list[Recorded]:
    """Every record of a metric that `write_result` left in this folder.

    Lines that are no records (half of one, left by a killed process; fields of another version) are passed over.
    """
    path = os.path.join(run_dir, f"metric-{name}.jsonl")
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.readlines()
    except FileNotFoundError:
        return []
    except OSError as err:
        raise UserError(f"cannot read {path}: {err.strerror or err}") from err
    found = []
    names = {field.name for field in dataclasses.fields(MetricResult)}
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            record = json.loads(line)
            result = MetricResult(**{key: value for key, value in record.items() if key in names})
            found.append(Recorded(str(record["snapshot"]), result, record.get("snapshot_sha256")))
    return found


def _append(path: str, line: str) -> None:
    try:
        with open(path, "ab+") as file:
            # A process killed while writing may have left half a line, which must not swallow this one.
            cut_short = file.tell() > 0 and not _ends_with_newline(file)
            file.write((b"\n" if cut_short else b"") + line.encode() + b"\n")
    except OSError as err:
        raise UserError(f"cannot write {path}: {err.strerror or err}") from err


def _ends_with_newline(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
