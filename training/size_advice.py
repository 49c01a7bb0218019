"""Advice on the encoding before a conversion: what a lossless copy of lossy files costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from training.archives import read_item
from training.dataset_build import encode_item
from training.dataset_items import Item, StoredFile
from training.encodings import LOSSY, Encoding, signature
from training.workers import Failure, ordered_map

Render = Callable[[Item], np.ndarray | StoredFile]

_MUCH = 1.2  # times the source's bytes


def advise_encoding(
    sample: Mapping[int, int],
    items: Sequence[Item],
    render_for: Callable[[str], Render],
    encoding: Encoding,
    shape: tuple[int, int, int],
    say: Callable[[str], None],
) -> None:
    """Says so if lossy files become much larger by a lossless encoding, and by how much jpeg would be smaller.

    Args:
        sample: {position among the items: bytes of its records} of some of them.
        items: see `build`.
        render_for: name of an encoding -> what makes images for it, and takes over files that fit.
        shape: (C, H, W) of the result.
    """
    if encoding.name == "raw" or not encoding.lossless or shape[0] == 4:
        return
    work = partial(_sizes, render=render_for("jpeg"), shape=shape)
    before = lossless = lossy = 0
    for index, size in sample.items():
        (sizes,) = ordered_map(work, [items[index]], 1)
        if not isinstance(sizes, Failure) and sizes is not None:
            before, lossless, lossy = before + sizes[0], lossless + size, lossy + sizes[1]
    if before and lossless > _MUCH * before:
        say(
            f"--encoding {encoding.name} makes these files {lossless / before:.1f} times as large: they have been "
            f"compressed with loss. With --encoding jpeg it is {lossy / before:.1f} times."
        )


def _sizes(item: Item, render: Render, shape: tuple[int, int, int]) -> tuple[int, int] | None:
    """Bytes of a lossy file, and of its record in jpeg; None for other files."""
    data = read_item(item)
    if signature(data) not in LOSSY:
        return None
    return len(data), sum(map(len, encode_item(item, render, Encoding("jpeg"), shape)))
