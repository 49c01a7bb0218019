"""Grids: published sizes, exact pixels read back through another library call, choice of images."""

import tracemalloc

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dnnlib.util import UserError
from training.image_grid import grid_dimensions, save_image_grid, setup_snapshot_grid, square_grid


class FakeDataset:
    """Image i is filled with the value i."""

    def __init__(self, num_images, labels=None, size=4, channels=3):
        self.num_images, self.shape = num_images, (channels, size, size)
        self.labels = np.zeros((num_images, 0), np.float32) if labels is None else np.asarray(labels, np.float32)

    def read(self, indices):
        return np.broadcast_to(np.asarray(indices, np.uint8)[:, None, None, None], (len(indices), *self.shape)).copy()


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ("8k", 1024, (7, 4)), ("8k", 512, (15, 8)), ("8k", 256, (30, 16)), ("8k", 128, (32, 32)), ("8k", 32, (32, 32)),
        ("4k", 1024, (7, 4)), ("4k", 512, (7, 4)), ("4k", 256, (15, 8)), ("4k", 128, (30, 16)), ("4k", 8, (32, 32)),
        ("1080p", 1024, (3, 2)), ("1080p", 512, (3, 2)), ("1080p", 256, (7, 4)), ("1080p", 128, (15, 8)),
        ("1080p", 64, (30, 16)), ("1080p", 32, (32, 32)),
    ],
)  # fmt: skip
def test_published_grid_sizes(size, side, expected):
    assert grid_dimensions(size, side, side) == expected


def test_explicit_and_rectangular_sizes():
    assert grid_dimensions((5, 3), 64, 64) == (5, 3)
    assert grid_dimensions("8k", 512, 384) == (15, 11)


def test_unknown_size_is_refused():
    with pytest.raises(UserError, match=r"unknown grid size '8K': did you mean '8k'\? known: 1080p, 4k, 8k"):
        grid_dimensions("8K", 64, 64)


@given(st.integers(1, 5000))
def test_square_grid_is_small_and_wide(count):
    columns, rows = square_grid(count)
    assert columns * rows >= count > columns * (rows - 1)
    assert 0 <= columns - rows <= 1


# ---------------------------------------------------------------- pictures


def read_png(path):
    """Pixels uint8 [H, W] or [H, W, C], decoded by matplotlib."""
    return np.rint(matplotlib.image.imread(path) * 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_cells_stand_row_by_row(tmp_path, channels):
    images = np.random.RandomState(0).randint(0, 256, (6, channels, 3, 5)).astype(np.uint8)
    save_image_grid(images, tmp_path / "a.png", (3, 2))
    pixels = read_png(tmp_path / "a.png").reshape(6, 15, channels)
    for index, image in enumerate(images):
        y, x = index // 3 * 3, index % 3 * 5
        np.testing.assert_array_equal(pixels[y : y + 3, x : x + 5], image.transpose(1, 2, 0))


def test_grey_with_alpha(tmp_path):
    images = np.stack([np.full((2, 2), 7), np.full((2, 2), 200)])[None].astype(np.uint8)
    save_image_grid(images, tmp_path / "a.png")
    picture = Image.open(tmp_path / "a.png")
    assert picture.mode == "LA"
    assert picture.getpixel((0, 0)) == (7, 200)


@pytest.mark.parametrize(
    ("value", "pixel"),
    [(-1, 0), (1, 255), (0, 128), (-5, 0), (5, 255), (np.nan, 0), (np.inf, 255), (-np.inf, 0), (-0.996, 1), (0.5, 191)],
)
def test_floats_are_scaled_clipped_and_rounded(tmp_path, value, pixel):
    # rint((x + 1) * 127.5): 0 -> rint(127.5) = 128 (half to even), 0.5 -> rint(191.25) = 191.
    save_image_grid(np.full((1, 1, 2, 2), value, np.float32), tmp_path / "a.png")
    assert read_png(tmp_path / "a.png")[0, 0] == pixel


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 255))
def test_uint8_survives_the_way_to_floats_and_back(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "same.png"
    save_image_grid(np.full((1, 1, 1, 1), value * (2 / 255) - 1, np.float32), path)
    assert read_png(path)[0, 0] == value


def test_other_ranges(tmp_path):
    save_image_grid(np.array([0.0, 1.0]).reshape(1, 1, 1, 2), tmp_path / "a.png", drange=(0, 1))
    assert read_png(tmp_path / "a.png")[0].tolist() == [0, 255]


def test_missing_images_leave_black_cells(tmp_path):
    save_image_grid(np.full((1, 1, 1, 1), 255, np.uint8), tmp_path / "a.png", (2, 1))
    assert read_png(tmp_path / "a.png").tolist() == [[255, 0]]


def test_jpeg_lays_alpha_on_white(tmp_path):
    images = np.zeros((1, 4, 8, 8), np.uint8)
    save_image_grid(images, tmp_path / "a.jpg")
    picture = Image.open(tmp_path / "a.jpg")
    assert (picture.format, picture.mode, picture.getpixel((3, 3))) == ("JPEG", "RGB", (255, 255, 255))


def test_jpeg_is_close(tmp_path):
    save_image_grid(np.full((1, 3, 16, 16), 100, np.uint8), tmp_path / "a.jpg")
    assert np.abs(np.asarray(Image.open(tmp_path / "a.jpg")).astype(int) - 100).max() <= 2


@pytest.mark.parametrize(
    ("shape", "name", "text"),
    [
        ((1, 3, 4, 4), "a.gif", "unknown picture format '.gif', expected one of .png, .jpg, .jpeg"),
        ((1, 5, 4, 4), "a.png", r"found images of shape \[1, 5, 4, 4\], expected \[n, 1 to 4 channels, H, W\]"),
        ((0, 3, 4, 4), "a.png", r"found images of shape \[0, 3, 4, 4\]"),
        ((4, 4), "a.png", r"found images of shape \[4, 4\]"),
        ((3, 3, 4, 4), "a.png", "3 images do not fit 2 columns x 1 rows"),
    ],
)
def test_bad_pictures_are_refused_and_nothing_is_written(tmp_path, shape, name, text):
    with pytest.raises(UserError, match=text):
        save_image_grid(np.zeros(shape, np.uint8), tmp_path / name, (2, 1))
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- choice of images


def test_the_same_seed_chooses_the_same_grid():
    data = FakeDataset(100)
    first, again, other = (setup_snapshot_grid(data, (4, 3), 16, seed) for seed in (1, 1, 2))
    for a, b, c in zip(first[1:], again[1:], other[1:], strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.size == 0 or not np.array_equal(a, c)
    assert first.size == (4, 3)
    assert (first.reals.shape, first.labels.shape, first.latents.shape) == ((12, 3, 4, 4), (12, 0), (12, 16))
    assert (first.reals.dtype, first.latents.dtype) == (np.uint8, np.float32)


def test_latents_are_normal():
    latents = setup_snapshot_grid(FakeDataset(10), (32, 32), 64, 5).latents
    assert abs(latents.mean()) < 0.02
    assert abs(latents.std() - 1) < 0.02


def test_no_image_twice_while_there_are_enough():
    values = setup_snapshot_grid(FakeDataset(12), (4, 3), 2, 0).reals[:, 0, 0, 0]
    assert sorted(values) == list(range(12))
    values = setup_snapshot_grid(FakeDataset(5), (4, 3), 2, 0).reals[:, 0, 0, 0]
    assert np.bincount(values).min() >= 2


def test_one_class_per_row():
    classes = np.arange(30) % 3
    labels = np.eye(4)[np.where(classes == 2, 3, classes)]  # class 2 has no images
    grid = setup_snapshot_grid(FakeDataset(30, labels), (5, 4), 2, 0)
    rows = grid.labels.argmax(axis=1).reshape(4, 5)
    assert rows.tolist() == [[0] * 5, [1] * 5, [3] * 5, [0] * 5]
    np.testing.assert_array_equal(grid.labels, labels[grid.reals[:, 0, 0, 0]])


def test_continuous_labels_go_with_their_images():
    labels = np.random.RandomState(0).rand(30, 2)
    grid = setup_snapshot_grid(FakeDataset(30, labels), (5, 4), 2, 0)
    np.testing.assert_array_equal(grid.labels, labels.astype(np.float32)[grid.reals[:, 0, 0, 0]])
    assert len(set(grid.reals[:, 0, 0, 0])) == 20


def test_labels_of_a_great_many_images_are_looked_at_in_parts():
    labels = np.zeros((400_000, 50), np.float32)  # 80 MB
    labels[np.arange(len(labels)), np.arange(len(labels)) % 50] = 1
    dataset = FakeDataset(100, size=2)
    dataset.num_images, dataset.labels = len(labels), labels
    tracemalloc.start()
    try:
        grid = setup_snapshot_grid(dataset, (3, 50), 2, 0)
        assert tracemalloc.get_traced_memory()[1] < 24e6
    finally:
        tracemalloc.stop()
    assert grid.labels.argmax(axis=1).tolist() == [row for row in range(50) for _ in range(3)]
