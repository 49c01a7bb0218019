"""Camera RAW files are told from TIFF files whose pixels look like a mark of them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.hostile_images import tiff
from training.camera_raw import is_camera_raw


@pytest.mark.parametrize("start", [(67, 82, 90, 67), (67, 82, 2, 0)])
def test_pixels_that_look_like_the_mark_of_canon(start):
    """Any TIFF whose first pixel has red 67 and green 82 was taken for a RAW file."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels.reshape(-1)[:4] = start
    file = io.BytesIO(tiff(pixels))
    assert file.getvalue()[8:12] == bytes(start)
    image = Image.open(file)
    np.testing.assert_array_equal(np.asarray(image), pixels)
    assert not is_camera_raw(image, file)


def test_the_mark_of_canon():
    file = io.BytesIO(tiff(np.zeros((8, 8, 3), np.uint8), before=b"CR\2\0" + bytes(4)))
    assert is_camera_raw(Image.open(file), file)
