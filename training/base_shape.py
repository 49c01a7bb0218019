"""Rectangular networks: the shape of the first block, and the sizes that follow from it by doubling.

A published network starts at 4x4 and doubles n times: resolution 4 * 2^n. Here the first block may be any small
rectangle h x w, and images are h * 2^n x w * 2^n. `resolution` stays what it is in a square network, 4 * 2^n, and with
it stay the number of layers, the feature maps and the names of all variables ("8x8/Conv1" is the second block whatever
its shape), so that the weights of a square network fit a rectangular one. What depends on the shape: the constant, the
noise buffers, and the input of the discriminator's last dense layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dnnlib.util import UserError

SQUARE = (4, 4)  # the published base shape
_LARGEST = 16  # sides of a base shape
_MOST_DOUBLINGS = 9  # 4x4 to 2048x2048


def check_base_shape(base_shape: Sequence[int] | None, where: str) -> tuple[int, int]:
    """(height, width) of the first block; None is 4x4. Raises `UserError` unless both are from 1 to 16."""
    if base_shape is None:
        return SQUARE
    sides = list(base_shape)
    if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= _LARGEST for side in sides):
        raise UserError(f"{where}: base shape {sides}, expected [height, width], both from 1 to {_LARGEST}")
    return sides[0], sides[1]


def level_shape(base_shape: tuple[int, int], level: int) -> tuple[int, int]:
    """(height, width) of the block that is 2^level square in a square network; level 2 is the first."""
    return base_shape[0] << (level - 2), base_shape[1] << (level - 2)


def image_size(resolution: int, base_shape: Sequence[int] | None = None) -> tuple[int, int]:
    """(height, width) of the images of a network with these static arguments."""
    return level_shape(check_base_shape(base_shape, "network"), resolution.bit_length() - 1)


def choose_base_shape(height: int, width: int, where: str = "images") -> tuple[int, int]:
    """The base shape for images of a size: of all that lead to it by doubling, the one whose area is nearest to 4x4.

    128x192 gives 4x6, 384x640 gives 3x5, 96x96 gives 3x3; of two equally near the larger is taken. Both sides of the
    image are doubled at least once. Raises `UserError` if there is none.
    """
    choices = []
    while height % 2 == 0 and width % 2 == 0 and len(choices) < 16:
        height, width = height // 2, width // 2
        choices.append((height, width))
    fitting = [c for n, c in enumerate(choices, 1) if max(c) <= _LARGEST and n <= _MOST_DOUBLINGS]
    if not fitting:
        size = (choices[0][0] * 2, choices[0][1] * 2) if choices else (height, width)
        raise UserError(
            f"{where} of {size[1]}x{size[0]}: expected a shape of at most {_LARGEST}x{_LARGEST} doubled one to "
            f"{_MOST_DOUBLINGS} times, such as 640x384 = 5x3 * 128; make such images with dataset_tool.py "
            "create_from_images ... --resolution WIDTHxHEIGHT"
        )
    return min(fitting, key=lambda shape: (abs(math.log2(shape[0] * shape[1] / 16)), -shape[0]))


def shape_kwargs(height: int, width: int, base_shape: Sequence[int] | None = None) -> dict[str, object]:
    """Static arguments `resolution` and, unless it is 4x4, `base_shape` of networks for images of a size.

    base_shape: (height, width) of the first block, None: `choose_base_shape`. Raises `UserError` if doubling it does
    not lead to the images.
    """
    base = check_base_shape(base_shape or choose_base_shape(height, width), "data.base_shape")
    n = max((height // base[0]).bit_length() - 1, 0)
    if (base[0] << n, base[1] << n) != (height, width) or not 1 <= n <= _MOST_DOUBLINGS:
        height0, width0 = choose_base_shape(height, width)
        raise UserError(
            f"data.base_shape: {base[0]}x{base[1]} (height x width) does not double to images of {height}x{width}; "
            f"use [{height0},{width0}]"
        )
    return {"resolution": 4 << n} | ({} if base == SQUARE else {"base_shape": list(base)})
