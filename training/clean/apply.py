"""What is done about the images that filters drop: a list of the others, or moving them aside. Nothing is deleted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from dnnlib.util import UserError, atomic_write
from training.dataset_build import Item


def write_list(path: os.PathLike | str, kept: Sequence[Item]) -> list[str]:
    """Writes the absolute paths of the files that are kept, one a line, in order, in the file system's encoding.

    Returns:
        Names of those that cannot be listed, because their path holds a line break.
    """
    lines, left_out = [], []
    for item in kept:
        line = os.fsencode(os.path.abspath(item.path))
        if b"\n" in line or b"\r" in line:
            left_out.append(item.name)
        else:
            lines.append(line + b"\n")
    with atomic_write(path) as file:
        file.writelines(lines)
    return left_out


def check_aside(folder: os.PathLike | str, inputs: Sequence[os.PathLike | str]) -> None:
    """Checks that files moved to `folder` are away from where they came from.

    Raises:
        UserError: it is, or lies in, one of the inputs, or is a file.
    """
    target = Path(os.path.realpath(folder))
    if target.exists() and not target.is_dir():
        raise UserError(f"{folder} is a file, expected a folder to move dropped images to")
    for given in inputs:
        source = Path(os.path.realpath(given))
        if target == source or source in target.parents:
            raise UserError(f"{folder} lies in {given}, where the next run would find the images again")


def move_aside(folder: os.PathLike | str, dropped: Sequence[Item]) -> list[tuple[str, str]]:
    """Moves files to `folder`, under their names; one that is there already gets a number instead of being replaced.

    Returns:
        (name, reason) of files that could not be moved.
    """
    failed = []
    for item in dropped:
        try:
            target = _free_path(Path(folder, *(part for part in item.name.split("/") if part not in ("", ".", ".."))))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(item.path, target)
        except OSError as err:
            failed.append((item.name, f"cannot be moved: {err.strerror or err}"))
    return failed


def _free_path(path: Path) -> Path:
    candidate, number = path, 1
    while os.path.lexists(candidate):
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return candidate
