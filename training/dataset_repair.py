"""A new data set of what is whole in a damaged one."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnnlib.util import UserError
from training.dataset_files import (
    INFO_NAME,
    SKIPPED_NAME,
    VALIDATION_PREFIX,
    DatasetInfo,
    check_name,
    content_hash,
    dataset_directory,
    find_files,
    load_labels,
    read_info,
)
from training.dataset_labels import write_labels
from training.dataset_verify import Findings, examine
from training.image_shapes import level_number
from training.item_table import Reasons
from training.tfrecord import RecordFile
from training.work_directory import appears_whole


@dataclass(frozen=True)
class Repair:
    """What became of a data set. dropped: (file and record, why) of each image that is not in the new one."""

    path: Path
    num_images: int
    num_validation: int
    dropped: Reasons


def repair(path: os.PathLike | str, new_path: os.PathLike | str, say: Callable[[str], None] = print) -> Repair:
    """Writes a new data set without the records that are broken in any level; the old one stays as it is.

    The other records and their labels are taken over byte for byte and in order, held-out ones included;
    `dataset.json` is new, and `skipped.csv` lists what was dropped behind what was skipped before.

    Raises:
        UserError: see `check_name`; `new_path` exists and is not empty, or cannot be written; nothing is whole, or
            nobody can tell which labels belong to which records.
    """
    directory = dataset_directory(path)
    target = Path(os.path.realpath(new_path))
    check_name(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} exists already; give the name of a new directory")
    with appears_whole(target) as temp:
        result = _write(directory, temp, target, say)
    return result


def _write(directory: Path, temp: Path, target: Path, say: Callable[[str], None]) -> Repair:
    info = read_info(directory)
    dropped = Reasons()
    counts = {False: 0, True: 0}
    largest: Findings | None = None
    digest, label_size = "", 0
    for validation in (False, True) if find_files(directory, ".tfrecords", validation=True) else (False,):
        findings = examine(directory, validation, say)
        labels = _labels(directory, findings, validation)
        keep = np.flatnonzero(~findings.broken.mask)
        if not len(keep) and not validation:
            raise UserError(f"{directory}: all {findings.total} records are broken, nothing is left to write")
        first = next(iter(findings.levels.values())).path.name
        for index, reason in findings.broken.items():
            dropped.append(f"{first}: record {index}", reason)
        counts[validation] = len(keep)
        if not len(keep):
            continue
        prefix = (VALIDATION_PREFIX if validation else "") + target.name
        files = _copy_records(findings, keep, temp, prefix)
        if labels is not None:
            with open(temp / f"{prefix}-rxx.labels", "xb") as out:
                write_labels(out, labels, keep)
        if not validation:
            largest = findings
            kept = load_labels(temp, len(keep))
            kept = np.zeros((len(keep), 0), np.float32) if kept is None else kept
            records = RecordFile(files[0])
            digest, label_size = content_hash(records, kept, len(keep)), kept.shape[1]
            encoding = records.encoding()
            records.close()
    side = next(iter(largest.levels))
    channels, height, width = largest.shapes[side]
    base = info or DatasetInfo(side, channels, 0, label_size, "", encoding=encoding)
    new = dataclasses.replace(
        base,
        resolution=side,
        channels=channels,
        height=height,
        width=width,
        num_images=counts[False],
        num_validation=counts[True],
        label_size=label_size,
        class_names=base.class_names if len(base.class_names) == label_size else (),
        levels=tuple(largest.levels),
        content_hash=digest,
        source={**base.source, "repaired_from": str(directory), "num_dropped": len(dropped)},
    )
    (temp / INFO_NAME).write_text(new.to_json(), "utf-8")
    _write_skipped(directory, temp, dropped)
    return Repair(target, counts[False], counts[True], dropped)


def _labels(directory: Path, findings: Findings, validation: bool) -> np.ndarray | None:
    """Labels of the records that were found, or None; there may be more in the file if records are lost at the end."""
    paths = find_files(directory, ".labels", validation)
    if not paths:
        return None
    try:
        count = len(np.load(paths[0], mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError, TypeError) as err:
        raise UserError(f"cannot read labels {paths[0]}: {err}") from err
    labels = load_labels(directory, count, validation=validation)
    if count == findings.total or (count > findings.total and not _lost_inside(findings)):
        return labels[: findings.total]
    raise UserError(
        f"{paths[0]}: {count} labels, but {findings.total} records were found, so that nobody can tell which labels "
        "belong to which; build the data set again"
    )


def _lost_inside(findings: Findings) -> bool:
    """Whether a stretch of the file, not only its end, holds no records that can be found."""
    records = next(iter(findings.levels.values()))
    gaps = records.gaps
    return any(index not in gaps for index in range(min(gaps, default=0), len(records))) and bool(gaps)


def _copy_records(findings: Findings, keep: np.ndarray, folder: Path, prefix: str) -> list[Path]:
    """Files of all levels with the records `keep`, largest first."""
    paths = []
    for side, records in findings.levels.items():
        path = folder / f"{prefix}-r{level_number(*findings.shapes[side][1:]):02d}.tfrecords"
        with open(path, "xb", buffering=1 << 20) as out:
            for index in map(int, keep):
                out.write(records.read_record(index))
            out.flush()
            os.fsync(out.fileno())
        paths.append(path)
    return paths


def _write_skipped(directory: Path, folder: Path, dropped: Reasons) -> None:
    before = directory / SKIPPED_NAME
    if not before.is_file() and not len(dropped):
        return
    with open(folder / SKIPPED_NAME, "x", newline="", encoding="utf-8", errors="backslashreplace") as out:
        writer = csv.writer(out)
        writer.writerow(["file", "reason"])
        if before.is_file():
            with open(before, newline="", encoding="utf-8", errors="replace") as file:
                writer.writerows(itertools.islice(csv.reader(file), 1, None))
        writer.writerows(dropped)
