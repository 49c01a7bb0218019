"""Scalars of a run: averaged between ticks, written to `stats.jsonl` and to TensorBoard.

No global state and no graph nodes: values are numbers that the loop has fetched. The graph may be finalised.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.util import UserError, atomic_write

STATS_FILE = "stats.jsonl"
_STEP_KEY = "nimg"


class _Moments:
    """Count, mean and sum of squared deviations in float64, by Chan's pairwise update (stable for long runs)."""

    def __init__(self) -> None:
        self.count, self.mean, self.m2 = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        count = values.size
        mean = float(values.mean())
        m2 = float(np.square(values - mean).sum())
        delta, total = mean - self.mean, self.count + count
        self.m2 += m2 + delta * delta * self.count * count / total
        self.mean += delta * count / total
        self.count = total

    @property
    def std(self) -> float:
        """Standard deviation of the population."""
        return math.sqrt(self.m2 / self.count) if self.count else 0.0


class StatsWriter:
    """Collects named scalars and writes one record per `flush`. A context manager; `close` ends the event file.

    `stats.jsonl` gets one JSON object per line: `nimg`, `timestamp` (seconds since 1970), and per name an object
    `{"num", "mean", "std"}`, or a plain number for what was given to `flush` directly. Non-finite numbers are null.
    A line that a crash left half-written is dropped when the file is opened; with `resume_nimg`, so are lines of later
    images, which the resumed run writes again.

    Args:
        run_dir: existing directory.
        resume_nimg: image counter that the run continues from; None keeps all lines.
        tensorboard: whether to write TensorBoard events too (step = nimg). The file is made on the first flush.
    Raises:
        UserError: `stats.jsonl` is damaged other than in its last line, or not writable.
    """

    def __init__(self, run_dir: os.PathLike | str, resume_nimg: int | None = None, tensorboard: bool = True) -> None:
        self.path = Path(run_dir) / STATS_FILE
        self._run_dir = Path(run_dir)
        self._moments: dict[str, _Moments] = {}
        self._tensorboard = tensorboard
        self._resume_nimg = resume_nimg
        self._events: Any = None
        _repair(self.path, resume_nimg)
        try:
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115
        except OSError as err:
            raise UserError(f"cannot write {self.path}: {err.strerror or err}") from err

    def __enter__(self) -> "StatsWriter":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def report(self, name: str, value: Any) -> None:
        """Adds a number, or every element of an array of any shape, to what `name` has collected since the last flush.

        An empty array adds nothing. Raises ValueError for what is not real numbers.
        """
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"report({name!r}): expected real numbers, found {array.dtype} of shape {array.shape}")
        if array.size:
            # An infinity must show as a mean that is not finite, not as a warning.
            with np.errstate(invalid="ignore", over="ignore"):
                self._moments.setdefault(name, _Moments()).add(array.astype(np.float64).ravel())

    def flush(self, nimg: int, extra: Mapping[str, float | int] | None = None) -> dict[str, float]:
        """Writes one record for image counter `nimg` and starts collecting anew.

        Args:
            nimg: images shown so far: the step in TensorBoard.
            extra: numbers to write as they are, e.g. `Progress/kimg`. A name may not also have been reported.
        Returns:
            name -> mean since the last flush, and the extra numbers.
        Raises:
            UserError: the record cannot be written.
        """
        extra = dict(extra or {})
        twice = sorted(set(extra) & set(self._moments))
        if twice:
            raise ValueError(f"flush: both reported and given as extra: {', '.join(twice)}")
        means = {name: m.mean for name, m in self._moments.items()} | {n: float(v) for n, v in extra.items()}
        record: dict[str, Any] = {_STEP_KEY: int(nimg), "timestamp": time.time()}
        for name, m in self._moments.items():
            record[name] = {"num": m.count, "mean": _finite(m.mean), "std": _finite(m.std)}
        record.update((name, _plain(value)) for name, value in extra.items())
        self._write(json.dumps(record, allow_nan=False) + "\n")
        if self._tensorboard:
            self._write_events(int(nimg), means)
        self._moments.clear()
        return means

    def close(self) -> None:
        """Closes both files. What was reported since the last flush is not written."""
        with contextlib.suppress(OSError):  # what could not be written has been an error of flush
            self._file.close()
        if self._events is not None:
            self._events.close()
            self._events = None

    def _write(self, line: str) -> None:
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as err:
            raise UserError(f"cannot write {self.path}: {err.strerror or err}") from err

    def _write_events(self, nimg: int, means: Mapping[str, float]) -> None:
        from dnnlib.tflib.tfutil import tf

        if self._events is None:
            self._events = tf.summary.FileWriter(str(self._run_dir))
            if self._resume_nimg is not None:
                # TensorBoard then hides events of later steps that the interrupted run has written.
                start = tf.SessionLog(status=tf.SessionLog.START)
                self._events.add_session_log(start, self._resume_nimg + 1)
        values = [tf.Summary.Value(tag=name, simple_value=value) for name, value in means.items()]
        self._events.add_summary(tf.Summary(value=values), nimg)
        self._events.flush()


def read_stats(run_dir: os.PathLike | str) -> list[dict[str, Any]]:
    """Records of `stats.jsonl`, oldest first; a half-written last line is passed over.

    Raises:
        UserError: the file is missing, or damaged before its last line.
    """
    path = Path(run_dir) / STATS_FILE
    try:
        return [record for _, record in _records(path)]
    except FileNotFoundError as err:
        raise UserError(f"{path}: no such file") from err


def _records(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    records = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get(_STEP_KEY), int):
                raise ValueError(f"expected an object with {_STEP_KEY!r}")
        except ValueError as err:
            if number < len(lines):
                raise UserError(f"{path}, line {number}: damaged ({err})") from err
            break  # the end of a whole file is an empty line, that of a torn one is half a record
        if number == len(lines):
            break  # a record without its newline: it cannot be told whether it is complete
        records.append((line, record))
    return records


def _repair(path: Path, resume_nimg: int | None) -> None:
    """Rewrites the file without a torn last line and without records after `resume_nimg`, if there are any."""
    if not path.exists():
        return
    kept = [line for line, rec in _records(path) if resume_nimg is None or rec[_STEP_KEY] <= resume_nimg]
    content = b"".join(line + b"\n" for line in kept)
    if content != path.read_bytes():
        with atomic_write(path) as file:
            file.write(content)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(value: Any) -> float | int | None:
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    return _finite(float(value))
