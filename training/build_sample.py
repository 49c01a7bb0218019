"""How much room a data set will take: a few of its images are encoded before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dnnlib.submission.disk import format_bytes, free_bytes
from dnnlib.util import UserError
from training.dataset_items import Item, counted
from training.dataset_target import expected_bytes
from training.encodings import Encoding
from training.workers import Failure, ordered_map

Encoded = Sequence[bytes] | Failure  # the records of an item

_SAMPLE = 16  # images
_SAMPLE_BYTES = 32 << 20  # of their records that wait in memory to be written


def encode_sample(
    items: Sequence[Item], work: Callable[[Item], Sequence[bytes]], encoding: Encoding
) -> tuple[dict[int, int], dict[int, Encoded]]:
    """({position: bytes of the records} of a few items that are whole, {position: what has become of the item}).

    The second holds no more than fits well into memory. Both are empty for raw: there all items take the same room.
    """
    sizes: dict[int, int] = {}
    ready: dict[int, Encoded] = {}
    if encoding.name == "raw":
        return sizes, ready
    places = np.unique(np.linspace(0, len(items) - 1, _SAMPLE).astype(int)).tolist()
    for place, records in zip(places, ordered_map(work, [items[place] for place in places], 1), strict=True):
        if not isinstance(records, Failure):
            sizes[place] = sum(map(len, records))
        if sum(sizes.values()) <= _SAMPLE_BYTES:
            ready[place] = records
    return sizes, ready


def size_on_disk(
    sample: Mapping[int, int], encoding: Encoding, shape: tuple[int, int, int], label_size: int, count: int
) -> int | None:
    """Bytes that so many images of shape (C, H, W) take; None if it is unknown, because the whole sample is bad."""
    if encoding.name == "raw":
        return expected_bytes(shape, count, label_size)
    if not sample:
        return None
    return int(count * (sum(sample.values()) / len(sample) + 4 * label_size))


def check_room(target: Path, needed: int | None, about: bool, wanted: int, say: Callable[[str], None]) -> None:
    """Says how much room so many images take and how much there is.

    Args:
        target: the data set to be.
        needed: bytes, None: unknown. about: they are an estimate.
    Raises:
        UserError: there is too little.
    """
    free = free_bytes(target.parent)
    what = f"Writing up to {counted(wanted, 'image')}"
    if needed is None:
        say(
            f"{what}: none of those tried as a sample can be converted, so their size on disk is unknown "
            f"({format_bytes(free)} free)."
        )
        return
    size = f"about {format_bytes(needed)}" if about else format_bytes(needed)
    say(f"{what}: {size} on disk ({format_bytes(free)} free).")
    if needed > free:
        raise UserError(f"{target.parent}: {format_bytes(needed)} needed, {format_bytes(free)} free; try --max-images")
