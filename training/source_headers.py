"""What the headers of image files tell before any is decoded: their sizes, and whether all are grey."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import tqdm

from dnnlib.util import UserError
from training.dataset_build import strict_error
from training.dataset_items import Item, printable
from training.image_files import ImageHeader, read_header
from training.image_shapes import check_size, nearest_sizes
from training.workers import Failure, ordered_map

_FIRST_LOOK = 64  # images looked at before processes are started
_NEAR_RATIO = 0.01  # relative difference of ratios that are taken for one: sides are whole numbers
_MOST_IMAGES = 0.95  # of all have the common ratio
_MOST_SIZES = 10_000  # different ones that are counted


@dataclass
class Look:
    """What the headers of many images say, in little memory."""

    num_images: int = 0
    bad: int = 0
    first_bad: tuple[str, str] | None = None
    grey: bool = True
    clear: bool = False  # some may be transparent
    small: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # (width, height)
    firsts: dict[tuple[int, int], str] = field(default_factory=dict)  # name of the first image of a size

    def add(self, name: str, header: ImageHeader | Failure, size: tuple[int, int] | None) -> None:
        """Takes an image into account."""
        if isinstance(header, Failure):
            self.bad += 1
            self.first_bad = self.first_bad or (name, header.reason)
            return
        key = (header.width, header.height)
        if key in self.firsts or len(self.firsts) < _MOST_SIZES:
            self.sizes[key] += 1
            self.firsts.setdefault(key, name)
        self.num_images += 1
        self.grey = self.grey and header.grey
        self.clear = self.clear or header.clear
        self.small += size is not None and (header.height < size[0] or header.width < size[1])


def read_headers(items: Sequence[Item], workers: int | None) -> Iterator[tuple[Item, ImageHeader | Failure]]:
    """Every item with its header; the first ones without starting processes, because they may be all that is needed."""
    head = [items[i] for i in range(min(len(items), _FIRST_LOOK))]
    rest = _Tail(items, len(head))
    bar = tqdm.tqdm(total=len(items), unit="img", desc="looking")
    with bar, closing(ordered_map(read_header, rest, workers)) as others:
        results = itertools.chain(ordered_map(read_header, head, 1), others)
        for item, header in zip(itertools.chain(head, rest), results, strict=True):
            bar.update()
            yield item, header


class _Tail(Sequence[Item]):
    """A sequence without its first items."""

    def __init__(self, items: Sequence[Item], start: int) -> None:
        self._items, self._start = items, start

    def __len__(self) -> int:
        return len(self._items) - self._start

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._items[self._start + index]


def look_at(
    items: Sequence[Item], size: tuple[int, int] | None, workers: int | None, strict: bool, whole: bool = False
) -> Look:
    """Headers, as far as they are needed: all to find the size, and until the first coloured one for the channels.

    Args:
        size: (height, width) that images are fitted to, None: theirs.
        workers: processes, None: one per core.
        strict: the first unreadable one is an error, a `UserError`.
        whole: all of them in any case.
    """
    look = Look()
    with closing(read_headers(items, workers)) as headers:
        for item, header in headers:
            look.add(item.name, header, size)
            if isinstance(header, Failure) and strict:
                raise strict_error(*look.first_bad)
            if size is not None and not look.grey and not whole:
                break
    return look


def common_ratio(look: Look) -> tuple[int, int] | None:
    """The usual (width, height), if nearly all images have its ratio; None: they have not."""
    if not look.sizes:
        return None
    (usual, _), *_ = look.sizes.most_common(1)
    ratio = usual[0] / usual[1]
    near = sum(count for (w, h), count in look.sizes.items() if abs(w / h / ratio - 1) <= _NEAR_RATIO)
    return usual if near >= _MOST_IMAGES * look.num_images else None


def common_size(look: Look) -> tuple[int, int]:
    """(height, width) of the images, if all have the same and it can be stored.

    Raises:
        UserError: they have not; names the first odd file.
    """
    (usual, count), *_ = look.sizes.most_common(1)
    width, height = usual
    *smaller, side = (size[0] for size in nearest_sizes(min(width, height), min(width, height)))
    larger = f", --resolution {side} enlarges them" if smaller else ""
    side = smaller[0] if smaller else side
    advice = f"--resolution {side} crops and resizes all images to {side}x{side}{larger}"
    try:
        check_size(height, width)
    except UserError as err:
        raise UserError(
            f"{printable(look.firsts[usual])} is {width}x{height}, expected sides that are a power of two, or a few "
            f"times one; {advice}"
        ) from err
    odd = next((size for size in look.firsts if size != usual), None)
    if odd is not None:
        raise UserError(
            f"{printable(look.firsts[odd])} is {odd[0]}x{odd[1]}, but {count} of {look.num_images} images are "
            f"{width}x{height}; {advice}"
        )
    return height, width
