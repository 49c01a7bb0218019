"""training.misc against closed forms."""

import numpy as np
import pytest
from PIL import Image

from dnnlib.util import UserError
from training import misc


def test_adjust_dynamic_range_is_linear():
    pixels = np.array([0, 51, 255], np.uint8)
    moved = misc.adjust_dynamic_range(data=pixels, drange_in=[0, 255], drange_out=[-1.0, 1.0])
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, [-1, -0.6, 1], atol=1e-6)
    np.testing.assert_allclose(misc.adjust_dynamic_range(moved, [-1, 1], [0, 255]), pixels, atol=1e-4)
    with pytest.raises(UserError, match="drange_in is empty"):
        misc.adjust_dynamic_range(pixels, [1, 1], [0, 1])


@pytest.mark.parametrize("channels", [(), (3,)])
def test_create_image_grid(channels):
    images = np.arange(1, 6).reshape(5, *[1] * len(channels), 1, 1) * np.ones([5, *channels, 2, 3], np.int64)
    grid = misc.create_image_grid(images)
    plane = np.kron([[1, 2, 3], [4, 5, 0]], np.ones([2, 3], np.int64))
    np.testing.assert_array_equal(grid, np.broadcast_to(plane, [*channels, 4, 9]))
    assert misc.create_image_grid(images, (1, 5)).shape == (*channels, 10, 3)
    with pytest.raises(UserError, match="5 images do not fit 2 columns x 2 rows"):
        misc.create_image_grid(images, (2, 2))


def test_pictures_take_their_range(tmp_path):
    images = np.linspace(0, 1, 2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
    misc.save_image_grid(images, tmp_path / "a.png")
    misc.save_image_grid(images * 2 - 1, tmp_path / "b.png", drange=[-1, 1], grid_size=(2, 1))
    expected = np.rint(np.concatenate(list(images.transpose(0, 2, 3, 1)), axis=1) * 255)
    for name in "ab":
        np.testing.assert_allclose(np.asarray(Image.open(tmp_path / f"{name}.png"), int), expected, atol=1)
    np.testing.assert_allclose(np.asarray(misc.convert_to_pil_image(images[0]), int), expected[:, :4], atol=1)
    assert misc.convert_to_pil_image(images[0, 0]).mode == "L"
    misc.save_image_grid(np.ones([1, 1, 2, 2], np.uint8), tmp_path / "c.png", drange=[0, 1])
    assert np.asarray(Image.open(tmp_path / "c.png")).min() == 255
    with pytest.raises(UserError, match="expected"):
        misc.convert_to_pil_image(images)
