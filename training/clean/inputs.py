"""The collections that cleaning commands work on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from dnnlib.util import UserError
from training.dataset_build import Item
from training.dataset_sources import list_image_files


def collect(folders: Sequence[os.PathLike | str]) -> tuple[list[Item], list[tuple[str, str]]]:
    """Image files below all folders, and (name, reason) of the other files.

    Names are relative to the folder; those of several folders start with the folder as it was given.

    Raises:
        UserError: a folder is not there or twice, or there are no images.
    """
    places = [os.path.realpath(folder) for folder in folders]
    if len(set(places)) < len(places):
        raise UserError(f"a folder is given twice: {', '.join(str(folder) for folder in folders)}")
    items: list[Item] = []
    others: list[tuple[str, str]] = []
    for folder in folders:
        found, rest = list_image_files(folder)
        prefix = "" if len(folders) == 1 else os.fspath(folder).rstrip("/") + "/"
        items += [replace(item, name=prefix + item.name) for item in found]
        others += [(prefix + name, reason) for name, reason in rest]
    if not items:
        raise UserError(f"no images in {', '.join(str(folder) for folder in folders)} ({len(others)} other files)")
    return items, others
