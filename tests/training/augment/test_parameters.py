"""Distributions of the parameters, and how often operations are applied."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from dnnlib.tflib.rng import StatelessRandom
from dnnlib.tflib.tfutil import create_session, tf
from training.augment.parameters import draw_parameters
from training.config_augment import OPERATIONS

N = 40000
EVERYTHING = dict.fromkeys(OPERATIONS, 1.0)


def draw(p, operations=EVERYTHING, seed=1):
    with tf.Graph().as_default(), create_session() as session:
        rng = StatelessRandom(tf.constant([seed, 0], tf.int64))
        return session.run(vars(draw_parameters(N, p, operations, rng)))


@pytest.fixture(scope="module")
def half():
    return draw(0.5)


@pytest.fixture(scope="module")
def always():
    return draw(1.0)


# Parameter -> its distribution where it is applied (ADA paper, appendix B).
DISTRIBUTIONS = {
    "log2_scale": scipy.stats.norm(0, 0.2), "log2_aniso": scipy.stats.norm(0, 0.2),
    "rotate_pre": scipy.stats.uniform(-np.pi, 2 * np.pi), "rotate_post": scipy.stats.uniform(-np.pi, 2 * np.pi),
    "brightness": scipy.stats.norm(0, 0.2), "log2_contrast": scipy.stats.norm(0, 0.5),
    "hue": scipy.stats.uniform(-np.pi, 2 * np.pi), "log2_saturation": scipy.stats.norm(0, 1),
    "noise_sigma": scipy.stats.halfnorm(0, 0.1), "xfrac": scipy.stats.norm(0, 0.125),
    "xint": scipy.stats.uniform(-0.125, 0.25), "log2_bands": scipy.stats.norm(0, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distribution(always, name):
    for column in always[name].reshape(N, -1).T:
        assert scipy.stats.kstest(column, DISTRIBUTIONS[name].cdf).pvalue > 1e-3


def test_whole_numbers(always):
    for name, count in (("flip", 2), ("lumaflip", 2), ("quarter_turns", 4)):
        values, counts = np.unique(always[name], return_counts=True)
        assert values.tolist() == list(range(count))
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
    centre, size = always["cutout"][:, :2], always["cutout"][:, 2]
    assert scipy.stats.kstest(centre.ravel(), scipy.stats.uniform(0, 1).cdf).pvalue > 1e-3
    assert (size == 0.5).all()


def rate(values):
    return np.mean(values.reshape(N, -1).any(axis=1))


def test_how_often(half):
    """Each operation with probability p; both rotations together with p, each with 1 - sqrt(1 - p)."""
    tolerance = 4 * np.sqrt(0.25 / N)
    for name in ("log2_scale", "log2_aniso", "xfrac", "xint", "brightness", "log2_contrast", "hue", "log2_saturation"):
        assert abs(rate(half[name]) - 0.5) < tolerance, name
    for name in ("flip", "lumaflip"):
        assert abs(rate(half[name]) - 0.25) < tolerance, name
    assert abs(rate(half["quarter_turns"]) - 0.375) < tolerance
    assert abs(rate(half["noise_sigma"]) - 0.5) < tolerance
    assert abs(rate(half["cutout"][:, 2]) - 0.5) < tolerance
    for band in range(4):
        assert abs(rate(half["log2_bands"][:, band]) - 0.5) < tolerance
    before, after = half["rotate_pre"] != 0, half["rotate_post"] != 0
    assert abs(np.mean(before) - (1 - np.sqrt(0.5))) < tolerance
    assert abs(np.mean(before | after) - 0.5) < tolerance
    # x and y of a shift are gated together, different operations independently.
    assert ((half["xfrac"][:, 0] != 0) == (half["xfrac"][:, 1] != 0)).all()
    scale, aniso = half["log2_scale"] != 0, half["log2_aniso"] != 0
    assert abs(np.mean(scale & aniso) - 0.25) < tolerance


def test_multipliers_change_the_probability():
    found = draw(0.5, {"scale": 0.5, "hue": 1.6, "rotate": 4.0})
    tolerance = 4 * np.sqrt(0.25 / N)
    assert abs(rate(found["log2_scale"]) - 0.25) < tolerance
    assert abs(rate(found["hue"]) - 0.8) < tolerance
    assert rate(found["rotate_pre"]) == 1.0
    assert not found["brightness"].any() and not found["cutout"][:, 2].any()
