"""Profiles are judged by their colours, not by their names."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.hostile_images import GREY, PICTURE, matrix_profile
from training.color_profiles import to_srgb
from training.dataset_items import Item, StoredFile
from training.image_files import ImageSpec, render_item

LINEAR = 1.0
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def curved(gamma: float, name: bytes) -> bytes:
    """A profile of that name, of 4 letters, with primaries of sRGB and a curve of its own."""
    number = [b"curv\0\0\0\0\0\0\0\1" + round(value * 256).to_bytes(2, "big") for value in (2.2, gamma)]
    return matrix_profile(False).replace(*number).replace(b"test\0", name + b"\0")


def with_profile(pixels: np.ndarray, profile: bytes) -> Image.Image:
    image = Image.fromarray(pixels)
    image.info["icc_profile"] = profile
    return image


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    """The curve of IEC 61966-2-1, [0, 1] to [0, 1]."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("gamma", [LINEAR, 1.8, 2.2])
@pytest.mark.parametrize("name", [b"sRGB", b"test"])
def test_other_curves_are_converted_whatever_the_name(gamma, name):
    image = with_profile(PICTURE, curved(gamma, name))
    expected = 255 * encode_srgb((PICTURE / 255.0) ** gamma)
    np.testing.assert_allclose(np.asarray(to_srgb(image), float), expected, atol=3)


@pytest.mark.parametrize("name", [b"sRGB", b"none"])
def test_srgb_is_kept_whatever_the_name(tmp_path, name):
    profile = SRGB.replace("sRGB".encode("utf-16-be"), name.decode().encode("utf-16-be"))
    assert (profile == SRGB) == (name == b"sRGB")
    image = with_profile(PICTURE, profile)
    assert to_srgb(image) is image
    for kind in ("jpeg", "png"):
        path = tmp_path / f"image.{kind}"
        Image.fromarray(PICTURE).save(path, icc_profile=profile)
        stored = render_item(Item("image", str(path)), ImageSpec(None, 3, take_over=kind))
        assert isinstance(stored, StoredFile) and stored.data == path.read_bytes()


def test_a_profile_of_colours_is_none_for_grey():
    image = with_profile(GREY, SRGB)
    assert to_srgb(image) is image
