"""Zooming into images: which part is shown, with which detail, and that it depends on (seed, position) alone."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from PIL import Image

from dnnlib.tflib.rng import StatelessRandom
from dnnlib.tflib.tfutil import create_session, tf
from dnnlib.util import UserError
from training.augment.zoom import ZoomedDataset, cut, zoom_factor, zoom_fakes, zoomed
from training.config_augment import AugmentConfig
from training.dataset import TFRecordDataset
from training.dataset_writer import DatasetWriter
from training.prefetcher import Prefetcher
from training.sampling import uniform_numbers


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """24 images of 32x32, ramps with fine detail."""
    path = tmp_path_factory.mktemp("data") / "ramps"
    rng = np.random.RandomState(0)
    with DatasetWriter(path, (3, 32, 32), label_size=2) as writer:
        for index in range(24):
            writer.add(rng.randint(0, 256, [3, 32, 32]).astype(np.uint8), np.eye(2, dtype=np.float32)[index % 2])
    return path


def open_pair(directory, resolution, **options):
    dataset = TFRecordDataset(directory, resolution=resolution, seed=3, mirror_augment=True)
    return dataset, zoomed(dataset, AugmentConfig(**options))


def read(dataset, positions):
    images = np.empty([len(positions), *dataset.shape], np.uint8)
    labels = np.empty([len(positions), dataset.label_size], np.float32)
    dataset.get_into(np.asarray(positions), images, labels)
    return images, labels


def test_without_zoom_the_data_set_is_read_as_it_is(directory):
    dataset, same = open_pair(directory, 8)
    assert same is dataset


def test_parts_come_from_the_finer_images(directory):
    """Twice as large: a quarter of the image, pixel for pixel where it falls on pixels, without loss of detail."""
    image = np.random.RandomState(1).randint(0, 256, [3, 32, 32]).astype(np.uint8)
    assert np.array_equal(cut(image, 0.5, 0.0, 1.0, (16, 16)), image[:, 16:, :16])
    assert np.array_equal(cut(image, 0.5, 0.5, 0.25, (16, 16)), image[:, 4:20, 8:24])
    whole = Image.fromarray(image.transpose(1, 2, 0)).resize((8, 8), Image.Resampling.LANCZOS)
    assert np.array_equal(cut(image, 1.0, 0.3, 0.3, (8, 8)), np.asarray(whole).transpose(2, 0, 1))
    for channels in (1, 2, 4, 5):
        many = np.random.RandomState(2).randint(0, 256, [channels, 32, 16]).astype(np.uint8)
        assert np.array_equal(cut(many, 0.5, 1.0, 0.0, (16, 8)), many[:, :16, 8:])


def test_zoomed_images_are_parts_and_the_others_are_untouched(directory):
    dataset, zoomed_in = open_pair(directory, 8, zoom_prob=0.5, zoom_range=(2.0, 2.0))
    assert isinstance(zoomed_in, ZoomedDataset)
    positions = np.arange(7, 107)
    plain, plain_labels = dataset.get(positions)
    images, labels = read(zoomed_in, positions)
    assert np.array_equal(labels, plain_labels)
    changed = (images != plain).any(axis=(1, 2, 3))
    assert 30 < changed.sum() < 70
    finer = TFRecordDataset(directory, seed=3, mirror_augment=True).get(positions)[0]
    numbers = uniform_numbers(3, 0x7A6F6F6D, positions, 4)
    assert np.array_equal(changed, numbers[:, 0] < 0.5)
    for i in np.flatnonzero(changed):
        assert np.array_equal(images[i], cut(finer[i], 0.5, *numbers[i, 2:], (8, 8)))


def test_what_is_shown_depends_on_the_position_alone(directory):
    _, zoomed_in = open_pair(directory, 8, zoom_prob=0.7, zoom_range=(1.0, 4.0))
    whole = read(zoomed_in, np.arange(60))[0]
    parts = [read(zoomed_in, np.arange(first, first + 12))[0] for first in range(0, 60, 12)]
    assert np.array_equal(whole, np.concatenate(parts))
    with Prefetcher(zoomed_in, start=24, batch=12) as prefetcher:
        assert np.array_equal(prefetcher.next()[0], whole[24:36])


def test_parts_are_of_the_images_that_are_used(directory):
    """Of 24 images 6 are used; what is shown larger is one of these, too."""
    dataset = TFRecordDataset(directory, resolution=8, seed=3, max_images=6)
    zoomed_in = zoomed(dataset, AugmentConfig(zoom_prob=1.0, zoom_range=(1.0, 1.0 + 1e-9)))
    shown = read(zoomed_in, np.arange(36))[0]
    used, _ = TFRecordDataset(directory, seed=3, max_images=6).get(np.arange(36))
    whole = np.stack([cut(image, 1.0, 0.0, 0.0, (8, 8)) for image in used])
    assert len(np.unique(used, axis=0)) == 6
    assert np.array_equal(shown, whole)


def test_more_detail_than_there_is_is_refused(directory):
    with pytest.raises(UserError, match=r"augment.zoom_range: found \[1.0, 2.0\], expected factors up to 1: images of"):
        open_pair(directory, 32, zoom_prob=0.5)
    with pytest.raises(UserError, match="factors up to 2"):
        open_pair(directory, 16, zoom_prob=0.5, zoom_range=(1.0, 3.0))
    open_pair(directory, 16, zoom_prob=0.5, zoom_range=(1.0, 2.0))


def test_uniform_numbers():
    numbers = uniform_numbers(5, 1, np.arange(5000), 4)
    assert numbers.shape == (5000, 4)
    assert scipy.stats.kstest(numbers.ravel(), scipy.stats.uniform(0, 1).cdf).pvalue > 1e-3
    assert np.array_equal(numbers[100:110], uniform_numbers(5, 1, np.arange(100, 110), 4))
    assert not np.array_equal(numbers[:10], uniform_numbers(5, 2, np.arange(10), 4))
    assert np.abs(np.corrcoef(numbers.T) - np.eye(4)).max() < 0.06


def test_factors_are_log_uniform():
    factors = zoom_factor(np.linspace(0, 1, 5), (1.0, 4.0))
    np.testing.assert_allclose(factors, [1, 2**0.5, 2, 2**1.5, 4])


def test_fakes_are_enlarged_as_often(monkeypatch):
    """A part of the fake, enlarged: with the same distribution of factor and place as for reals."""
    n, config = 400, AugmentConfig(zoom_prob=0.5, zoom_range=(2.0, 2.0))
    rows, columns = np.mgrid[:16, :16] / 15 * 2 - 1
    images = np.tile(np.stack([rows, columns])[np.newaxis].astype(np.float32), [n, 1, 1, 1])
    with tf.Graph().as_default(), create_session() as session:
        rng = StatelessRandom(tf.constant([1, 2], tf.int64))
        x = tf.constant(images)
        y = zoom_fakes(x, config, rng)
        found, grad = session.run([y, tf.gradients(y, x)[0]])
    assert np.isfinite(grad).all()
    same = (found == images).all(axis=(1, 2, 3))
    assert 160 < same.sum() < 240
    middle = found[~same][:, :, 4:12, 4:12]
    # Ramps are half as steep, and the middles of the parts spread over the half around the centre.
    np.testing.assert_allclose(np.diff(middle[:, 0], axis=1), 1 / 15, atol=0.02)
    np.testing.assert_allclose(np.diff(middle[:, 1], axis=2), 1 / 15, atol=0.02)
    centres = middle.mean(axis=(2, 3))
    assert scipy.stats.kstest(centres.ravel(), scipy.stats.uniform(-16 / 30, 32 / 30).cdf).pvalue > 1e-3
