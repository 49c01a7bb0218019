"""Reading everything in a data set directory and checking that it fits together."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tqdm

from dnnlib.util import UserError
from training.dataset_files import (
    DatasetInfo,
    content_hash,
    dataset_directory,
    find_files,
    find_levels,
    first_shape,
    load_labels,
    read_info,
)
from training.dataset_items import counted
from training.item_table import Marked
from training.pyramid import halve
from training.record_index import BrokenRecord
from training.tfrecord import RecordFile

_MOST_PROBLEMS = 20  # broken records of a level that are named


@dataclass
class Findings:
    """What is wrong with one set of a directory (the images proper, or the held-out ones).

    levels: record files by larger side, largest first. shapes: (C, H, W) of each. broken: {record: what is wrong with
    it, of the first level where it is}. problems: one line per problem, of broken records the first of each level.
    """

    levels: dict[int, RecordFile]
    shapes: dict[int, tuple[int, int, int]]
    broken: Marked
    problems: list[str]

    @property
    def total(self) -> int:
        """Records of the largest level, broken ones included."""
        return len(next(iter(self.levels.values())))


def verify(
    path: os.PathLike | str, say: Callable[[str], None] = print, max_problems: int = _MOST_PROBLEMS
) -> list[str]:
    """Checks the images and, if there are any, the held-out ones.

    Checked: checksums, decodability, shapes and number of the records of every level, that each level is the 2x2 mean
    of the one above (within the rounding of both), labels, `dataset.json`.

    Args:
        say: gets a line per level.
        max_problems: stop looking for broken records in a level after so many.
    Returns:
        One line per problem; empty if all is well.
    Raises:
        UserError: there is nothing that could be checked.
    """
    directory = dataset_directory(path)
    problems: list[str] = []
    info = None
    try:
        info = read_info(directory)
    except UserError as err:
        problems.append(str(err))
    held_out = bool(find_files(directory, ".tfrecords", validation=True))
    for validation in (False, True) if held_out else (False,):
        findings = examine(directory, validation, say, max_problems)
        problems += findings.problems
        problems += _file_problems(directory, findings, info, validation)
    if info is not None and info.num_validation and not held_out:
        problems.append(f"dataset.json: num_validation is {info.num_validation}, there are no files validation-*")
    return problems


def examine(directory: Path, validation: bool, say: Callable[[str], None], max_problems: int | None = None) -> Findings:
    """Reads all records of a set; damaged files are read as far as they can be.

    Args:
        max_problems: stop in a level after so many; None: never.
    """
    levels = find_levels(directory, validation, damaged=True)
    shapes = {side: first_shape(records, damaged=True) for side, records in levels.items()}
    largest = next(iter(levels.values()))
    findings = Findings(levels, shapes, Marked(len(largest)), [])
    for side, records in levels.items():
        channels, height, width = shapes[side]
        broken = 0
        above = levels.get(2 * side)
        if len(records) != len(largest):
            findings.problems.append(
                f"{records.path.name}: {len(records)} images, {largest.path.name} has {len(largest)}"
            )
            for index in range(len(records), len(largest)):
                findings.broken.add(index, f"missing in {records.path.name}")
        pixels = np.empty(shapes[side], np.uint8)
        for index in tqdm.trange(len(records), unit="img", desc=f"{width}x{height}"):
            reason = _record_problem(records, index, pixels, above)
            if reason:
                if broken < (max_problems or _MOST_PROBLEMS):
                    findings.problems.append(f"{records.path}: record {index} is broken: {reason}")
                if index < len(largest):
                    where = "" if records is largest else f"in {records.path.name}: "
                    findings.broken.add(index, where + reason)
                broken += 1
                if broken == max_problems:
                    findings.problems.append(f"{records.path}: {broken} broken records, the rest is not checked")
                    break
        say(f"{records.path.name}: {counted(len(records), 'image')} of {width}x{height}, {broken} broken")
    return findings


def _record_problem(records: RecordFile, index: int, pixels: np.ndarray, above: RecordFile | None) -> str:
    try:
        image = records.read_image(index, pixels)
    except BrokenRecord as err:
        return err.reason
    return _level_problem(image, above, index) if above is not None and index < len(above) else ""


def _level_problem(image: np.ndarray, above: RecordFile, index: int) -> str:
    try:
        larger = above.read_image(index)
    except UserError:
        return ""  # reported with its own level
    if larger.shape != (image.shape[0], 2 * image.shape[1], 2 * image.shape[2]):
        return ""
    # Both levels are rounded from unrounded ones, so they may be apart by half a value each.
    off = float(np.abs(halve(larger) - image).max())
    return "" if off <= 1 else f"differs by {off:g} from the 2x2 mean of the level above, expected at most 1"


def _file_problems(directory: Path, findings: Findings, info: DatasetInfo | None, validation: bool) -> list[str]:
    """Labels and `dataset.json` against the records."""
    total, side = findings.total, next(iter(findings.levels))
    try:
        labels = load_labels(directory, total, validation=validation)
    except UserError as err:
        return [str(err)]
    if info is None:
        return []
    labels = np.zeros((total, 0), np.float32) if labels is None else labels
    records = findings.levels[side]
    channels, height, width = findings.shapes[side]
    readable = None if findings.broken.mask.all() else int(np.argmin(findings.broken.mask))
    compact = info.encoding != "raw"
    if readable is not None:
        compact = records.encoding(readable) != "raw"
    facts = [
        ("resolution", info.resolution, side),
        ("height", info.height or info.resolution, height),
        ("width", info.width or info.resolution, width),
        ("channels", info.channels, channels),
        (
            "num_validation" if validation else "num_images",
            info.num_validation if validation else info.num_images,
            total,
        ),
        ("label_size", info.label_size, labels.shape[1]),
        # Files taken over as they are may lie among those of another compact encoding.
        (
            "encoding",
            info.encoding,
            info.encoding if compact == (info.encoding != "raw") else records.encoding(readable),
        ),
        ("levels", list(info.levels), list(findings.levels)),
    ]
    if not validation:
        facts.append(("content_hash", info.content_hash, content_hash(records, labels, total)))
    where = "the held-out files" if validation else "the files"
    problems = [f"dataset.json: {what} is {said}, {where} have {found}" for what, said, found in facts if said != found]
    if info.class_names and len(info.class_names) != labels.shape[1] and not validation:
        problems.append(f"dataset.json: {len(info.class_names)} class names for labels of {labels.shape[1]} numbers")
    return problems
