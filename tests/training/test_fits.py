"""Crops and fits: exact sizes, and content exactly where it has to be, for any size of image and target."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dnnlib.util import UserError
from training.fits import FILTERS, FITS, crop_box, fit_image, pad_box, result_size

sides = st.integers(1, 90)
targets = st.sampled_from([(4, 4), (8, 8), (16, 16), (64, 64), (12, 20), (48, 80), (20, 12), (16, 8), (8, 64)])
fits = st.sampled_from(FITS)
filters = st.sampled_from(list(FILTERS))


def coordinates(height: int, width: int) -> Image.Image:
    """A picture whose red is the column and whose green is the row; blue is 255, as it is in no padding used here."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.dstack([x, y, 0 * x + 255]).astype(np.uint8))


@settings(deadline=None, max_examples=150)
@given(sides, sides, targets, fits, filters, st.sampled_from(["L", "RGB", "RGBA"]))
def test_result_is_of_the_size_asked_for(height, width, target, fit, resample, mode):
    if fit == "crop-wide" and target[1] < target[0]:
        with pytest.raises(UserError, match="expected width x height with width >= height"):
            result_size(*target, fit)
        return
    try:
        expected = result_size(*target, fit)
    except UserError as err:
        assert fit == "crop-wide" and "the square around it" in str(err)
        return
    image = fit_image(coordinates(height, width).convert(mode), *target, fit, resample)
    assert (image.height, image.width) == expected and image.mode == mode


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 2000), st.integers(1, 2000))
def test_crop_box_is_the_largest_central_one(width, height, tw, th):
    left, top, right, bottom = crop_box((width, height), (tw, th))
    w, h = right - left, bottom - top
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert w == width or h == height  # cannot be larger
    # Of the aspect asked for, to half a pixel of the side that was cut.
    assert abs(w - h * tw / th) <= 0.5 + 1e-9 or abs(h - w * th / tw) <= 0.5 + 1e-9 or min(w, h) == 1
    assert (width - right) - left in (0, 1) and (height - bottom) - top in (0, 1)  # in the middle


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 2000), st.integers(1, 2000))
def test_pad_box_holds_all_of_the_image(width, height, tw, th):
    left, top, right, bottom = pad_box((width, height), (tw, th))
    w, h = right - left, bottom - top
    assert 0 <= left < right <= tw and 0 <= top < bottom <= th
    assert w == tw or h == th
    assert abs(w - h * width / height) <= 0.5 + 1e-9 or abs(h - w * height / width) <= 0.5 + 1e-9 or min(w, h) == 1
    assert (tw - right) - left in (0, 1) and (th - bottom) - top in (0, 1)


@settings(deadline=None, max_examples=100)
@given(st.integers(4, 200), st.integers(4, 200), targets)
def test_center_crop_shows_the_window(height, width, target):
    """Without resizing, pixel by pixel: the target is as large as the window."""
    left, top, right, bottom = crop_box((width, height), target[::-1])
    image = fit_image(coordinates(height, width), bottom - top, right - left)
    pixels = np.asarray(image)
    again = crop_box((width, height), (right - left, bottom - top))
    assert pixels[0, 0, :2].tolist() == [again[0], again[1]]
    assert pixels[-1, -1, :2].tolist() == [again[2] - 1, again[3] - 1]


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 5), st.integers(8, 40), st.integers(8, 40), targets)
def test_center_crop_averages_the_window(factor, height, width, target):
    """With the box filter and a whole factor every pixel is the mean of its block of the window."""
    height, width = max(height, target[0] * factor), target[1] * factor
    picture = coordinates(height, width)
    left, top, right, bottom = crop_box(picture.size, target[::-1])
    assert (right - left, bottom - top) == (target[1] * factor, target[0] * factor)
    window = np.asarray(picture).astype(float)[top:bottom, left:right]
    expected = window.reshape(target[0], factor, target[1], factor, 3).mean((1, 3))
    off = np.abs(np.asarray(fit_image(picture, *target, "center-crop", "box")) - expected)
    assert off.max() <= 1  # rounding, twice: Pillow resizes rows and columns one after the other


@settings(deadline=None, max_examples=100)
@given(sides, sides, targets, filters)
def test_crops_are_what_pillow_makes_of_the_window(height, width, target, resample):
    picture = coordinates(height, width)
    window = picture.crop(crop_box(picture.size, target[::-1]))
    expected = window.resize(target[::-1], FILTERS[resample])
    np.testing.assert_array_equal(fit_image(picture, *target, "center-crop", resample), expected)
    np.testing.assert_array_equal(
        fit_image(picture, *target, "stretch", resample), picture.resize(target[::-1], FILTERS[resample])
    )


@settings(deadline=None, max_examples=100)
@given(sides, sides, targets)
def test_padding_is_background_and_the_rest_is_the_image(height, width, target):
    picture = coordinates(height, width)
    left, top, right, bottom = pad_box(picture.size, target[::-1])
    pixels = np.asarray(fit_image(picture, *target, "pad", "bicubic", (1, 2, 3))).copy()
    inside = picture.resize((right - left, bottom - top), FILTERS["bicubic"])
    np.testing.assert_array_equal(pixels[top:bottom, left:right], inside)
    pixels[top:bottom, left:right] = (1, 2, 3)
    assert (pixels == (1, 2, 3)).all()
    clear = np.asarray(fit_image(picture.convert("RGBA"), *target, "pad", "bicubic", (1, 2, 3)))
    assert (clear[..., 3] == 255).sum() == (right - left) * (bottom - top)
    assert (clear[..., 3] == 0).sum() == clear[..., 3].size - (right - left) * (bottom - top)


@settings(deadline=None, max_examples=60)
@given(sides, sides, st.sampled_from([(48, 64), (32, 64), (64, 64), (10, 16), (24, 32)]), st.sampled_from(["L", "RGB"]))
def test_crop_wide_is_a_crop_between_black_bars(height, width, target, mode):
    picture = coordinates(height, width).convert(mode)
    pixels = np.asarray(fit_image(picture, *target, "crop-wide", "lanczos", (9, 9, 9)))
    bar = (target[1] - target[0]) // 2
    np.testing.assert_array_equal(pixels[bar : bar + target[0]], fit_image(picture, *target))
    assert not pixels[:bar].any() and not pixels[bar + target[0] :].any()


def test_nothing_to_do_is_not_done():
    picture = coordinates(16, 16)
    assert all(fit_image(picture, 16, 16, fit) is picture for fit in FITS)


def test_published_size_of_wide_images():
    assert result_size(384, 512, "crop-wide") == (512, 512)
    with pytest.raises(UserError, match="crop-wide with 384x512"):
        result_size(512, 384, "crop-wide")
