"""Path scores of images: a linear generator has known ones."""

from __future__ import annotations

import numpy as np
import pytest

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.analysis.path_images import PathGraph, PathScores, choose_examples, plot_paths
from metrics.analysis.samples import MOST_SEED
from metrics.noise import latents_of
from tests.metrics.analysis_fakes import LinearSynthesis, Pixels, generator

SHAPE = (3, 4, 4)
EPSILON = 0.1  # the score of a linear generator does not depend on it, and float32 is exact enough


def make(strength=0.0, seed=0, perceptual=False, shape=SHAPE, bias=0.0):
    matrix = np.random.RandomState(0).randn(6, int(np.prod(shape))) * 0.2
    fake = generator(LinearSynthesis(matrix, shape, strength, bias), shape)
    return matrix, PathGraph(fake, Pixels(perceptual), seed, EPSILON)


@pytest.mark.parametrize("perceptual", [False, True])
def test_linear_generator(session, perceptual):
    matrix, graph = make(strength=1.0, seed=5, perceptual=perceptual)
    scores = graph.scores(40, batch=16)
    w = latents_of(5, np.arange(40), 6).astype(np.float64)
    other = latents_of(5 + MOST_SEED + 1, np.arange(40), 6).astype(np.float64)
    # Both images have the same noise, so that only the way in w counts.
    expected = np.square((other - w) @ matrix * 127.5).sum(axis=1) / (100 if perceptual else 1)
    np.testing.assert_allclose(scores.values, expected, rtol=1e-3)
    assert scores.distance == f"{'perceptual distance' if perceptual else 'squared distance of features'} (pixels)"
    np.testing.assert_allclose(graph.scores(40, batch=7).values, scores.values, rtol=1e-3)


def test_gray_images_count_three_times_and_large_ones_are_averaged(session):
    matrix, graph = make(shape=(1, 4, 4))
    w, other = (latents_of(s, np.arange(5), 6).astype(np.float64) for s in (0, MOST_SEED + 1))
    moved = (other - w) @ matrix * 127.5
    np.testing.assert_allclose(graph.scores(5).values, 3 * np.square(moved).sum(axis=1), rtol=1e-3)
    matrix, graph = make(shape=(3, 512, 512))
    moved = ((other - w) @ matrix * 127.5).reshape(5, 3, 256, 2, 256, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(graph.scores(5).values, np.square(moved).sum(axis=(1, 2, 3)), rtol=1e-3)


def test_images_are_those_that_were_scored(session):
    matrix, graph = make()
    images = graph.images([9, 2])
    w = latents_of(0, np.array([9, 2]), 6)
    expected = np.clip(np.floor((w @ matrix) * 127.5 + 128), 0, 255).reshape(2, *SHAPE)
    assert images.dtype == np.uint8 and np.abs(images - expected).max() <= 1
    _, noisy = make(strength=1.0)
    assert (noisy.images([3]) == noisy.images([1, 3])[1]).all()


def test_diverged(session):
    _, graph = make(bias=np.nan)
    with pytest.raises(UserError, match="diverged"):
        graph.scores(3)


def test_diverged_where_the_feature_network_hides_it(session):
    """A ReLU may make a number of what is none."""

    class Clipped(Pixels):
        def features(self, images):
            return super().features(tf.where(tf.math.is_finite(images), images, tf.zeros_like(images)))

    matrix = np.eye(6, int(np.prod(SHAPE)))
    fake = generator(LinearSynthesis(matrix, SHAPE, 0.0, np.nan), SHAPE)
    with pytest.raises(UserError, match="the network made images with values that are not finite .pairs 0 to 2."):
        PathGraph(fake, Clipped()).scores(3)


def test_ends_and_trimmed_mean():
    scores = PathScores(np.random.RandomState(0).permutation(1001).astype(float), "d")
    assert sorted(scores.values[scores.below(10)]) == list(range(101))
    assert sorted(scores.values[scores.above(90)]) == list(range(900, 1001))
    assert scores.trimmed_mean == np.arange(10, 991).mean()
    low, high = choose_examples(scores, 20, seed=1)
    assert len(set(low)) == len(set(high)) == 20
    assert scores.values[low].max() <= 100 and scores.values[high].min() >= 900
    assert (choose_examples(scores, 20, seed=1)[0] == low).all()
    assert (choose_examples(scores, 20, seed=2)[0] != low).any()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_plot(channels):
    images = np.zeros((5, channels, 8, 8), np.uint8)
    for values in (np.arange(50.0), np.zeros(50)):
        assert plot_paths(PathScores(values, "d"), images, images[:1], "t").startswith(b"\x89PNG")
