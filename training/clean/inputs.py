"""The collections that cleaning commands work on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from dnnlib.util import UserError
from training.source_listing import Listing, list_sources


def collect(
    inputs: Sequence[os.PathLike | str], scratch: Path, say: Callable[[str], None] = print, files_only: bool = False
) -> Listing:
    """All images in folders, archives and lists, as conversion finds them, and the other files with reasons.

    Args:
        inputs: see `list_sources`, which also tells the names.
        scratch: folder for decompressed archives, to be kept as long as the images are used.
        files_only: refuse archives, because something is to be done to the files of the images.
    Raises:
        UserError: an input is not there or twice, there are no images, or see `files_only`.
    """
    places = [os.path.realpath(given) for given in inputs]
    names = ", ".join(os.fspath(given) for given in inputs)
    if len(set(places)) < len(places):
        raise UserError(f"an input is given twice: {names}")
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
    return listing
