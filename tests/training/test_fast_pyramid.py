"""Whole numbers give the bytes that floats give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.fast_pyramid import fast_pyramid
from training.image_shapes import level_sizes
from training.pyramid import pyramid


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([(4, 4), (8, 8), (64, 64), (128, 128), (12, 20), (96, 160), (16, 128), (10, 6)]),
    st.integers(1, 4), st.integers(0, 2**32 - 1), st.sampled_from([2, 4, 256]), st.booleans(),
)  # fmt: skip
def test_equals_the_float_pyramid(size, channels, seed, values, planes_last):
    shape = (*size, channels) if planes_last else (channels, *size)
    image = np.random.default_rng(seed).integers(0, values, shape).astype(np.uint8)
    image = image.transpose(2, 0, 1) if planes_last else image
    levels = fast_pyramid(image)
    assert tuple(level.shape[1:] for level in levels) == level_sizes(*size)
    for fast, slow in zip(levels, pyramid(image), strict=True):
        np.testing.assert_array_equal(fast, slow)


@pytest.mark.parametrize("value", [1, 254, 255])
def test_large_sums(value):
    image = np.random.default_rng(0).integers(value - 1, value + 1, (1, 1024, 1024)).astype(np.uint8)
    for fast, slow in zip(fast_pyramid(image), pyramid(image), strict=True):
        np.testing.assert_array_equal(fast, slow)


def test_floats_are_rounded_per_level():
    image = np.random.default_rng(0).uniform(0, 255, (3, 16, 16)).astype(np.float32)
    for fast, slow in zip(fast_pyramid(image), pyramid(image), strict=True):
        np.testing.assert_array_equal(fast, slow)
