"""The collections that cleaning commands work on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dnnlib.util import UserError
from training.source_listing import Listing, list_sources

_NO_DEVICE = (1 << 64) - 1


def collect(
    inputs: Sequence[os.PathLike | str], scratch: Path, say: Callable[[str], None] = print, files_only: bool = False
) -> Listing:
    """All images in folders, archives and lists, as conversion finds them, and the other files with reasons.

    Args:
        inputs: see `list_sources`, which also tells the names.
        scratch: folder for decompressed archives, to be kept as long as the images are used.
        files_only: refuse archives, and take a file once only, because something is to be done to the files.
    Raises:
        UserError: an input is not there, twice, or in another one; there are no images, or see `files_only`.
    """
    places = [os.path.realpath(given) for given in inputs]
    names = ", ".join(os.fspath(given) for given in inputs)
    if len(set(places)) < len(places):
        raise UserError(f"an input is given twice: {names}")
    for given, place in zip(inputs, places, strict=True):
        around = [other for other, outer in zip(inputs, places, strict=True) if Path(outer) in Path(place).parents]
        if around and os.path.isdir(place):
            raise UserError(f"{given} lies in {around[0]}, and its images would be there twice; give {around[0]} alone")
    listing = list_sources(inputs, scratch, say)
    if not len(listing.items):
        raise UserError(f"no images in {names} ({len(listing.others)} other files)")
    if files_only:
        archived = next((item for item in listing.items if item.part is not None), None)
        if archived is not None:
            raise UserError(
                f"--apply with {archived.path}: images in an archive are no files to list or move; unpack it, or give "
                f"the same filters to create_from_images, which leaves out what they drop"
            )
        _look_at_files_once(listing)
    return listing


def _look_at_files_once(listing: Listing) -> None:
    """Moves further names of a file (links, or names on a list) to the others: else one name of it might be dropped and
    moved away with what is kept under another. A name that is no link itself is preferred."""
    items = listing.items
    files = np.zeros(len(items), [("device", "u8"), ("number", "u8"), ("link", "?")])
    for index, item in enumerate(items):
        try:
            status = os.stat(item.path)
            files[index] = status.st_dev, status.st_ino, os.path.islink(item.path)
        except OSError:  # whoever reads it tells why; as many different ones as there are
            files[index] = _NO_DEVICE, index, False
    order = np.lexsort((files["link"], files["number"], files["device"]))  # stable
    again = np.zeros(len(items), bool)
    first = -1
    for index in map(int, order):
        if first >= 0 and all(files[key][index] == files[key][first] for key in ("device", "number")):
            again[index] = True
            listing.others.append(items[index].name, f"the same file as {items[first].name}")
        else:
            first = index
    if again.any():
        listing.items = items.select(np.flatnonzero(~again))
