"""Sizes that can be stored, and those that are proposed in place of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnnlib.util import UserError
from training.base_shape import choose_base_shape
from training.image_shapes import LARGEST_BASE, SMALLEST, base_shape, check_size, level_sizes, nearest_sizes

sides = st.integers(1, 5000)


@given(sides, sides)
def test_what_is_proposed_can_be_stored_and_is_near(height, width):
    proposed = nearest_sizes(height, width)
    assert 1 <= len(proposed) <= 2 and proposed == tuple(sorted(proposed))
    for size in proposed:
        check_size(*size)
    if min(height, width) >= max(LARGEST_BASE * SMALLEST, max(height, width) * 2 / LARGEST_BASE):
        below, above = proposed[0], proposed[-1]
        for side, low, high in zip((height, width), below, above, strict=True):
            assert low <= side <= high
            if height != width:  # a step is a 16th of the longer side, or less than twice that
                assert high - low <= max(height, width) / LARGEST_BASE * 2
    if height == width and height > SMALLEST:
        assert {side & (side - 1) for size in proposed for side in size} == {0}  # powers of two
        assert proposed[-1][0] < 2 * height


@pytest.mark.parametrize(
    ("height", "width", "nearest"),
    [
        (1000, 1000, "512x512 and 1024x1024"),
        (700, 1000, "960x640 and 1024x704"),
        (3, 3, "4x4"),
        (0, 0, "4x4"),
        (100, 2, "8x96 and 8x104"),
        (5, 7, "6x4 and 8x6"),
        (15, 15, "8x8 and 16x16"),
    ],
)
def test_error_proposes_both_neighbours(height, width, nearest):
    with pytest.raises(UserError, match=f"the nearest: {nearest}$"):
        check_size(height, width)


@given(st.integers(4, 300), st.integers(4, 300))
def test_what_is_accepted_can_be_trained_on(height, width):
    try:
        check_size(height, width)
    except UserError:
        with pytest.raises(UserError):
            choose_base_shape(height, width)
    else:
        choose_base_shape(height, width)


def test_the_lowest_level_may_be_odd():
    assert level_sizes(10, 14)[-1] == (5, 7)
    check_size(5, 7, lowest=True)


def test_base_shape_gives_the_size_back():
    h, w, n = base_shape(384, 640)
    assert (h << n, w << n, h % 2 or w % 2) == (384, 640, 1)
