"""Conversion to bytes, colour and size, against numpy, Pillow and TensorFlow's own ops."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.images import all_finite, resize_triangle, to_bytes_and_finite, to_rgb, triangle_matrix

SIZES = [(32, 128), (64, 128), (100, 128), (128, 128), (256, 224), (300, 224), (1024, 224), (1, 5), (5, 1), (7, 3)]


def test_bytes_are_those_of_a_saved_picture(session):
    images = np.array([-2, -1, -0.999, -0.004, -1 / 255, 0, 0.0039, 0.5, 0.996, 1, 3], np.float32)
    images = np.concatenate([images, np.random.RandomState(0).uniform(-1.2, 1.2, 989).astype(np.float32)])
    images = images.reshape(10, 1, 10, 10)
    found, finite = session.run(to_bytes_and_finite(tf.constant(images)))
    expected = np.clip(np.floor(images * np.float32(127.5) + np.float32(128)), 0, 255)
    assert found.dtype == np.uint8 and found.shape == images.shape and finite
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_seen(session, bad):
    images = np.zeros((2, 3, 4, 4), np.float32)
    images[1, 2, 3, 3] = bad
    assert not session.run(to_bytes_and_finite(tf.constant(images))[1])


def test_the_largest_numbers_are_finite(session):
    largest = np.finfo(np.float32).max
    images = np.array([largest, -largest, 0, 1e-45], np.float32).reshape(1, 1, 2, 2)
    assert session.run(all_finite(tf.constant(images)))


def test_no_transposition_of_other_numbers_than_images(session):
    """Of images as generators make them on CPUs; that of booleans makes TensorFlow print an error that is none."""
    pixels = tf.placeholder(tf.float32, [None, 8, 8, 3])
    fetches = to_bytes_and_finite(tf.transpose(tf.tanh(pixels), [0, 3, 1, 2]))
    graphs = tf.RunMetadata()
    options = tf.RunOptions(output_partition_graphs=True)
    feed = {pixels: np.zeros((2, 8, 8, 3), np.float32)}
    session.run(fetches, feed, options=options, run_metadata=graphs)
    moved = [tf.as_dtype(n.attr["T"].type) for g in graphs.partition_graphs for n in g.node if "Transpose" in n.op]
    assert moved and set(moved) == {tf.float32}


def test_gray_is_repeated_and_rgb_kept(session):
    images = np.random.RandomState(0).randint(0, 256, (2, 3, 4, 5), np.uint8)
    np.testing.assert_array_equal(session.run(to_rgb(tf.constant(images))), images)
    gray = session.run(to_rgb(tf.constant(images[:, :1])))
    np.testing.assert_array_equal(gray, images[:, [0, 0, 0]])
    assert gray.dtype == np.float32


def test_rgba_is_laid_on_white(session):
    images = np.random.RandomState(0).randint(0, 256, (2, 4, 8, 8), np.uint8)
    found = session.run(to_rgb(tf.constant(images)))
    for image, result in zip(images, found, strict=True):
        white = Image.new("RGBA", (8, 8), "white")
        composed = Image.alpha_composite(white, Image.fromarray(image.transpose(1, 2, 0)))
        expected = np.asarray(composed.convert("RGB"), np.float32).transpose(2, 0, 1)
        assert np.abs(result - expected).max() <= 1  # Pillow rounds in between
        np.testing.assert_array_equal(result, np.round(result))
    clear = images.copy()
    clear[:, 3] = 0
    assert (session.run(to_rgb(tf.constant(clear))) == 255).all()
    clear[:, 3] = 255
    np.testing.assert_array_equal(session.run(to_rgb(tf.constant(clear))), images[:, :3])


def test_other_numbers_of_channels_are_refused(session):
    with pytest.raises(UserError, match=r"1 \(grayscale\), 3 \(RGB\) or 4 \(RGBA\) channels, found 2"):
        to_rgb(tf.zeros([1, 2, 4, 4], tf.uint8))


@pytest.mark.parametrize(("size_in", "size_out"), SIZES)
def test_triangle_filter_is_pillows(session, size_in, size_out):
    row = np.random.RandomState(1).uniform(0, 255, (1, size_in)).astype(np.float32)
    expected = np.asarray(Image.fromarray(row).resize((size_out, 1), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(row @ triangle_matrix(size_in, size_out).T, expected, atol=1e-3)
    np.testing.assert_allclose(triangle_matrix(size_in, size_out).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(32, 32, 128), (64, 48, 128), (300, 256, 224), (1024, 5, 224), (128, 128, 128)]
)
def test_resize_is_tensorflows_antialiased_one(session, height, width, size):
    images = np.random.RandomState(2).uniform(0, 255, (2, 3, height, width)).astype(np.float32)
    expected = tf.raw_ops.ScaleAndTranslate(
        images=tf.transpose(tf.constant(images), [0, 2, 3, 1]),
        size=[size, size],
        scale=[size / height, size / width],
        translation=[0.0, 0.0],
        kernel_type="triangle",
        antialias=True,
    )
    found, expected = session.run([resize_triangle(tf.constant(images), size), tf.transpose(expected, [0, 3, 1, 2])])
    np.testing.assert_allclose(found, expected, atol=2e-2)  # TensorFlow finds positions in float32
