"""Sizes of images: a base shape times a power of two, and the levels of the pyramid below them."""

from __future__ import annotations

import re

from dnnlib.util import UserError

SMALLEST = 4  # no side of a level is shorter
LARGEST_BASE = 16  # sides of the base shape: what is left when both sides have been halved as often as possible


def base_shape(height: int, width: int) -> tuple[int, int, int]:
    """(h0, w0, n) with height = h0 * 2^n, width = w0 * 2^n, n as large as possible: 384x640 -> (3, 5, 7)."""
    n = 0
    while height % 2 == 0 and width % 2 == 0:
        height, width, n = height // 2, width // 2, n + 1
    return height, width, n


def check_size(height: int, width: int, where: str = "resolution", lowest: bool = False) -> None:
    """Whether images of this size can be stored and trained on: networks double a small shape at least once.

    Args:
        lowest: the size may be that of the lowest level of larger images, and odd.
    Raises:
        UserError: too small, an odd side, or the base shape has a side above `LARGEST_BASE`; names the nearest sizes
            that do.
    """
    if min(height, width) >= SMALLEST:
        *base, doublings = base_shape(height, width)
        if max(base) <= LARGEST_BASE and (doublings or lowest):
            return
    near = " and ".join("{1}x{0}".format(*size) for size in nearest_sizes(height, width))
    expected = (
        "a power of two" if height == width else "a small shape times a power of two, such as 640x384 = 5x3 * 128"
    )
    raise UserError(
        f"{where} {width}x{height}: expected {expected}, both sides at least {SMALLEST}; the nearest: {near}"
    )


def nearest_sizes(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """The sizes (height, width) below and above one that cannot be stored; one of them alone where both are equal.

    Of squares these are powers of two, of rectangles multiples of the smallest power of two that will do.
    """
    longest = max(height, width, 1)
    if height == width:
        unit = 1 << (longest.bit_length() - 1)  # at most the side, and more than half of it
    else:
        unit = 2
        while -(-longest // unit) > LARGEST_BASE:
            unit *= 2
    sides = [[max(SMALLEST, side // unit * unit, unit) for side in (height, width)]]
    sides.append([max(SMALLEST, -(-max(side, 1) // unit) * unit) for side in (height, width)])
    return tuple(dict.fromkeys((tall, wide) for tall, wide in sides))


def level_sizes(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """(height, width) of all levels, from the full size down: each is half of the one before."""
    sizes = [(height, width)]
    while height % 2 == 0 and width % 2 == 0 and min(height, width) // 2 >= SMALLEST:
        height, width = height // 2, width // 2
        sizes.append((height, width))
    return tuple(sizes)


def level_number(height: int, width: int) -> int:
    """The number in the name of a level's file: log2 of the larger side, rounded up. 10 for 1024x1024, as published."""
    return (max(height, width) - 1).bit_length()


def parse_size(text: str, where: str = "--resolution") -> tuple[int, int]:
    """`256` or `640x384` (width x height) as (height, width).

    Raises:
        UserError: not of that form, or see `check_size`.
    """
    match = re.fullmatch(r"\s*(\d{1,6})(?:\s*[xX×]\s*(\d{1,6}))?\s*", text)
    if match is None:
        raise UserError(f"{where}: found {text!r}, expected a side such as 256, or width x height such as 640x384")
    width, height = int(match[1]), int(match[2] or match[1])
    check_size(height, width, where)
    return height, width
