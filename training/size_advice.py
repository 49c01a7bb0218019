"""Advice on the encoding before a conversion: what a lossless copy of lossy files costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from training.archives import read_item
from training.dataset_build import encode_item
from training.dataset_items import Item, StoredFile
from training.encodings import LOSSY, Encoding, signature
from training.workers import Failure, ordered_map

Render = Callable[[Item], np.ndarray | StoredFile]

_SAMPLE = 8  # images that are tried
_MUCH = 1.2  # times the source's bytes


def advise_encoding(
    items: Sequence[Item],
    render_for: Callable[[str], Render],
    encoding: Encoding,
    shape: tuple[int, int, int],
    say: Callable[[str], None],
) -> None:
    """Says so if lossy files become much larger by a lossless encoding, and by how much jpeg would be smaller.

    Args:
        items: see `build`; a few of them are read.
        render_for: name of an encoding -> what makes images for it, and takes over files that fit.
        shape: (C, H, W) of the result.
    """
    if encoding.name == "raw" or not encoding.lossless or shape[0] == 4:
        return
    work = partial(_sizes, render_for=render_for, encoding=encoding, shape=shape)
    before = lossless = lossy = 0
    for index in np.unique(np.linspace(0, len(items) - 1, _SAMPLE).astype(int)).tolist():
        (sizes,) = ordered_map(work, [items[index]], 1)
        if not isinstance(sizes, Failure) and sizes is not None:
            before, lossless, lossy = before + sizes[0], lossless + sizes[1], lossy + sizes[2]
    if before and lossless > _MUCH * before:
        say(
            f"--encoding {encoding.name} makes these files {lossless / before:.1f} times as large: they have been "
            f"compressed with loss. With --encoding jpeg it is {lossy / before:.1f} times."
        )


def _sizes(
    item: Item, render_for: Callable[[str], Render], encoding: Encoding, shape: tuple[int, int, int]
) -> tuple[int, int, int] | None:
    """Bytes of a lossy file, of its records, and of those in jpeg; None for other files."""
    data = read_item(item)
    if signature(data) not in LOSSY:
        return None
    both = [encode_item(item, render_for(kind.name), kind, shape) for kind in (encoding, Encoding("jpeg"))]
    return len(data), sum(map(len, both[0])), sum(map(len, both[1]))
