"""DiffAugment against NumPy on the same numbers; ranges of what it does."""

from __future__ import annotations

import numpy as np
import pytest

from dnnlib.tflib.rng import StatelessRandom
from dnnlib.tflib.tfutil import create_session, tf
from training.augment.diffaugment import apply_policies


class Numbers:
    """Uniform numbers by name."""

    def __init__(self, **values):
        self.values = values

    def uniform(self, name, shape):
        return tf.constant(self.values[name.removeprefix("diffaugment_")], tf.float32)


def run(images, policies, rng):
    with tf.Graph().as_default(), create_session() as session:
        return session.run(apply_policies(tf.constant(images), policies, rng))


@pytest.fixture
def images():
    return np.random.RandomState(0).uniform(-1, 1, [5, 3, 16, 24]).astype(np.float32)


def test_color(images):
    u = np.random.RandomState(1).uniform(size=[3, 5])
    found = run(images, ("color",), Numbers(color=u))
    for image, result, (b, s, c) in zip(images.astype(np.float64), found, u.T, strict=True):
        image = image + (b - 0.5)
        grey = image.mean(axis=0)
        image = grey + (image - grey) * 2 * s
        image = image.mean() + (image - image.mean()) * (0.5 + c)
        np.testing.assert_allclose(result, image, atol=1e-6)


def test_color_of_other_channels():
    u = np.random.RandomState(1).uniform(size=[3, 2])
    rgba = np.random.RandomState(0).uniform(-1, 1, [2, 4, 8, 8]).astype(np.float32)
    found = run(rgba, ("color",), Numbers(color=u))
    assert np.array_equal(found[:, 3], rgba[:, 3])
    np.testing.assert_allclose(found[:, :3], run(rgba[:, :3], ("color",), Numbers(color=u)), atol=1e-6)
    grey = rgba[:, :1]
    found = run(grey, ("color",), Numbers(color=u))
    bright = grey + (u[0] - 0.5).reshape(2, 1, 1, 1)
    mean = bright.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(found, mean + (bright - mean) * (0.5 + u[2]).reshape(2, 1, 1, 1), atol=1e-6)


def test_translation_by_at_most_an_eighth(images):
    # Lowest, highest and middle numbers: whole shifts from -1/8 to 1/8 of the size, 2 rows and 3 columns here.
    u = np.array([[0, 0.999, 0.5, 0.999, 0.0], [0.999, 0, 0.5, 0.5, 0.5]])
    found = run(images, ("translation",), Numbers(translation=u))
    for image, result, (dy, dx) in zip(images, found, [(-2, 3), (2, -3), (0, 0), (2, 0), (-2, 0)], strict=True):
        wanted = np.zeros_like(image)
        rows, columns = np.mgrid[:16, :24]
        inside = (rows - dy >= 0) & (rows - dy < 16) & (columns - dx >= 0) & (columns - dx < 24)
        wanted[:, inside] = image[:, (rows - dy)[inside], (columns - dx)[inside]]
        assert np.array_equal(result, wanted)


def test_cutout_of_half_the_size(images):
    u = np.random.RandomState(2).uniform(size=[2, 5])
    u[:, 0] = 0.5  # in the middle: whole
    found = run(images, ("cutout",), Numbers(cutout=u))
    gone = (found == 0).all(axis=1)
    assert gone[0].sum() == 8 * 12
    for i, (image, result) in enumerate(zip(images, found, strict=True)):
        rows, columns = np.flatnonzero(gone[i].any(axis=1)), np.flatnonzero(gone[i].any(axis=0))
        # A rectangle of 8x12 pixels, cut where it reaches beyond the image.
        assert gone[i][np.ix_(rows, columns)].all() and np.ptp(rows) + 1 == len(rows) <= 8
        assert np.ptp(columns) + 1 == len(columns) <= 12
        assert len(rows) == 8 or rows[0] == 0 or rows[-1] == 15
        assert len(columns) == 12 or columns[0] == 0 or columns[-1] == 23
        assert np.array_equal(result[:, ~gone[i]], image[:, ~gone[i]])


def test_all_shifts_and_places_are_equally_likely():
    """Frequencies of 17 shifts of a 64-pixel row and of the first pixel that is cut."""
    n = 17 * 400
    ramp = np.tile(np.arange(1, 65, dtype=np.float32), [n, 1, 8, 1])
    with tf.Graph().as_default(), create_session() as session:
        rng = StatelessRandom(tf.constant([1, 2], tf.int64))
        moved = session.run(apply_policies(tf.constant(ramp), ("translation",), rng))
    shift = 32 - moved[:, 0, 4, 31]
    counts = np.bincount(shift.astype(int) + 8, minlength=17)
    assert len(counts) == 17 and np.abs(counts - 400).max() < 5 * np.sqrt(400)


@pytest.mark.parametrize("size", [6, 8, 16, 32])
def test_places_of_the_rectangle_are_symmetric(size):
    """All centres occur, the first pixel is cut as often as the last, and no rectangle misses the image."""
    n = size + 1 - (size // 2) % 2  # as many places as there are, each once
    u = np.tile((np.arange(n) + 0.5) / n, [2, 1])
    found = run(np.ones([n, 3, size, size], np.float32), ("cutout",), Numbers(cutout=u))
    gone = (found == 0).all(axis=1).any(axis=2)
    assert len(np.unique(gone, axis=0)) == n
    assert np.array_equal(gone.sum(axis=0), gone.sum(axis=0)[::-1])
    assert gone.any(axis=1).all() and gone.sum(axis=1).max() == size // 2


def test_gradient_is_exact(images):
    """Every policy is affine in the image: the change along a direction is that of the gradient."""
    direction, weights = np.random.RandomState(3).randn(2, *images.shape).astype(np.float32)
    policies = ("color", "translation", "cutout")
    with tf.Graph().as_default(), create_session() as session:
        x = tf.placeholder(tf.float32, images.shape)
        y = apply_policies(x, policies, StatelessRandom(tf.constant([4, 5], tf.int64)))
        grad = tf.gradients(y, x, tf.constant(weights))[0]
        before, slope = session.run([y, grad], {x: images})
        after = session.run(y, {x: images + direction})
    change = np.sum((after - before) * weights, dtype=np.float64)
    assert np.sum(slope * direction, dtype=np.float64) == pytest.approx(change, rel=1e-4)


def test_no_policy_is_the_identity(images):
    assert np.array_equal(run(images, (), None), images)
