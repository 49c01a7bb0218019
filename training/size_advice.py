"""Advice on the encoding before a conversion: what a lossless copy of lossy files costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from training.archives import read_item
from training.dataset_build import encode_item
from training.dataset_items import Item, StoredFile
from training.encodings import LOSSY, Encoding, signature
from training.workers import Failure, ordered_map

_SAMPLE = 8  # images that are tried
_MUCH = 1.2  # times the source's bytes


def advise_encoding(
    items: Sequence[Item],
    render: Callable[[Item], np.ndarray | StoredFile],
    encoding: Encoding,
    shape: tuple[int, int, int],
    say: Callable[[str], None],
) -> None:
    """Says so if lossy files become much larger by a lossless encoding, and by how much jpeg would be smaller.

    Args:
        items, render: see `build`; a few of the items are read.
        shape: (C, H, W) of the result.
    """
    if encoding.name == "raw" or not encoding.lossless or shape[0] == 4:
        return
    before = lossless = lossy = 0
    for index in np.unique(np.linspace(0, len(items) - 1, _SAMPLE).astype(int)).tolist():
        (sizes,) = ordered_map(_Sizes(render, encoding, shape), [items[index]], 1)
        if not isinstance(sizes, Failure) and sizes is not None:
            before, lossless, lossy = before + sizes[0], lossless + sizes[1], lossy + sizes[2]
    if before and lossless > _MUCH * before:
        say(
            f"--encoding {encoding.name} makes these files {lossless / before:.1f} times as large: they have been "
            f"compressed with loss. With --encoding jpeg it is {lossy / before:.1f} times."
        )


class _Sizes:
    """Bytes of a lossy file, of its records, and of those in jpeg; None for other files."""

    def __init__(self, render: Callable[[Item], np.ndarray | StoredFile], encoding: Encoding, shape: tuple) -> None:
        self._render, self._encoding, self._shape = render, encoding, shape

    def __call__(self, item: Item) -> tuple[int, int, int] | None:
        data = read_item(item)
        if signature(data) not in LOSSY:
            return None
        records = [encode_item(item, self._render, kind, self._shape) for kind in (self._encoding, Encoding("jpeg"))]
        return len(data), *(sum(map(len, one)) for one in records)
