"""Numbers of attribution against scikit-learn and by trying every threshold."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score

from training.projection.attribution import attribute, plot_attribution

# Few values, so that many are equal.
distances = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=12)


@given(distances, distances)
def test_against_scikit_learn_and_every_threshold(generated, real):
    found = attribute(np.array(generated), np.array(real))
    truth = [0] * len(generated) + [1] * len(real)
    assert found.auc == pytest.approx(roc_auc_score(truth, generated + real))

    def share_told_right(threshold):
        return (np.mean(np.array(generated) < threshold) + np.mean(np.array(real) >= threshold)) / 2

    assert found.accuracy == pytest.approx(share_told_right(found.threshold))
    assert found.accuracy == pytest.approx(max(share_told_right(t) for t in np.arange(-0.5, 8)))


def test_groups_apart():
    found = attribute(np.array([0.1, 0.2]), np.array([0.4, 0.5]))
    assert found == (1.0, pytest.approx(0.3), 1.0)


def test_histogram_is_a_picture():
    generated, real = np.array([0.1, 0.2]), np.array([0.4, 0.5])
    png = plot_attribution(generated, real, attribute(generated, real), "pixels", "a network")
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3).astype(int)
    blue = (picture[:, 2] - picture[:, 0] > 60).sum()
    orange = (picture[:, 0] - picture[:, 2] > 60).sum()
    assert blue > 1000
    assert orange > 1000


def test_all_distances_zero():
    zero = np.zeros(2)
    assert attribute(zero, zero).auc == 0.5
    assert plot_attribution(zero, zero, attribute(zero, zero), "pixels", "a network")
