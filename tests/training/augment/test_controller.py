"""Adjustment of p: the published sequence, limits, and where it settles on a simulated signal."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.augment.controller import adjust_p, overfitting_rv


def test_published_sequence(golden):
    """Three adjustments of the published code after 4 minibatches of 32, for every signal in the file."""
    data = json.loads(str(golden("ada_augment.npz")["tune_rt_json"]))
    assert len(data["rt_and_final_strength"]) == 3
    for rt, expected in data["rt_and_final_strength"]:
        p = data["initial"]
        for _ in range(data["calls"]):
            p = adjust_p(p, rt, PUBLISHED_IMAGES, data["target"], data["tune_kimg"], 1.0)
        assert p == pytest.approx(expected, abs=1e-9)


# 0.001536 * 500000 / 3, what the file's changes come to.
PUBLISHED_IMAGES = 256


def test_speed():
    """From 0 to 1 in tune_kimg thousand images, in steps of any size."""
    for images in (64, 1000, 12500):
        p, shown = 0.0, 0
        while p < 1 - 1e-9:
            p, shown = adjust_p(p, 0.9, images, 0.6, 500, 1.0), shown + images
        assert shown == pytest.approx(500_000, abs=images)


@given(
    p=st.floats(0, 0.85),
    measured=st.floats(-1, 1),
    images=st.floats(1, 1e6),
    target=st.floats(-1, 1),
    tune=st.floats(1, 1e4),
)
def test_stays_within_limits_and_goes_the_right_way(p, measured, images, target, tune):
    new = adjust_p(p, measured, images, target, tune, 0.85)
    assert 0 <= new <= 0.85
    assert np.sign(new - p) in (0, np.sign(measured - target))


def test_not_a_number_changes_nothing():
    assert adjust_p(0.3, math.nan, 64, 0.6, 500, 0.85) == 0.3
    assert adjust_p(0.3, math.inf, 64, 0.6, 500, 0.85) == 0.3


def test_settles_where_the_signal_meets_the_target():
    """Overfitting that grows with time and falls with p: p follows until r_t is at the target, within one step."""
    rng = np.random.default_rng(0)
    p, images, history = 0.0, 128, []
    for step in range(6000):
        overfit = 1 - math.exp(-step / 500)
        rt = float(np.mean(rng.random(images) < 0.5 + 0.5 * np.clip(1.1 * overfit - p, -1, 1)) * 2 - 1)
        p = adjust_p(p, rt, images, 0.6, 500 * 128 / 1000, 0.85)
        history.append(p)
    assert np.mean(history[-1000:]) == pytest.approx(1.1 - 0.6, abs=0.02)
    assert np.ptp(history[-1000:]) < 0.2


def test_rv_is_0_for_training_images_and_1_for_fakes():
    assert overfitting_rv(2.0, -1.0, 2.0) == 0
    assert overfitting_rv(2.0, -1.0, -1.0) == 1
    assert overfitting_rv(2.0, -1.0, 0.5) == 0.5


@pytest.mark.parametrize(("fake", "valid", "p"), [(1.0, 0.5, 0.35), (1.5, 0.5, 0.35), (1.5, 1.25, 0.15)])
def test_rv_is_a_sign_where_fakes_are_not_told_from_reals(fake, valid, p):
    measured = overfitting_rv(1.0, fake, valid)
    assert math.isfinite(measured) and adjust_p(0.25, measured, 1000, 0.5, 10, 1) == pytest.approx(p)
