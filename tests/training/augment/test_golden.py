"""The pipeline against the published one, on the random numbers that it drew."""

from __future__ import annotations

import numpy as np
import pytest

from dnnlib.tflib.tfutil import create_session, tf
from tests.training.augment.golden_cases import images_of, list_cases, parameters_of
from training.augment.parameters import Parameters
from training.augment.pipeline import apply_parameters

IMPLS = ("compiled", "ref")


class RecordedNoise:
    """Gives the noise image of a case."""

    def __init__(self, noise):
        self.noise = noise

    def normal(self, name, shape):
        assert name == "noise_image"
        return tf.constant(self.noise)


@pytest.mark.parametrize("impl", IMPLS)
def test_images_and_gradients(golden, impl, monkeypatch):
    monkeypatch.setenv("SG2_OPS", impl)
    data = golden("ada_augment.npz")
    cases = list_cases(data)
    assert len(cases) == 16
    if impl == "ref":  # what the implementations share needs no second look
        cases = [case for case in cases if case["prefix"].split("_")[1] in ("blit", "geom", "bgc")][::2]
        assert len(cases) == 3
    dy = {False: data["in/dy"], True: np.random.RandomState(9).randn(4, 1, 32, 32).astype(np.float32)}
    dx = {False: data["in/dx"], True: np.random.RandomState(10).randn(4, 1, 32, 32).astype(np.float32)}
    with tf.Graph().as_default(), create_session() as session:
        fetches = []
        for case in cases:
            images = tf.constant(images_of(data, case))
            parameters = Parameters(**{k: tf.constant(v) for k, v in parameters_of(data, case).items()})
            noise = RecordedNoise(data.get(f"{case['prefix']}draw/noise_image"))
            out = apply_parameters(images, parameters, case["args"], noise)
            fetches.append([out, tf.gradients(out, images, tf.constant(dy[case["gray"]]))[0]])
        found = session.run(fetches)
    for case, (out, grad) in zip(cases, found, strict=True):
        wanted = data[case["prefix"] + "images_out"]
        assert np.abs(out - wanted).max() < 3e-5 * max(np.abs(wanted).max(), 1), case["prefix"]
        change = data.get(case["prefix"] + "jvp_exact")
        if change is None:
            wanted = data[case["prefix"] + "grad_official"]
            assert np.abs(grad - wanted).max() < 3e-5 * max(np.abs(wanted).max(), 1), case["prefix"]
        else:  # the published gradient of warps is approximate: compare along a direction with the exact change
            slope, exact = np.sum(grad * dx[case["gray"]], dtype=np.float64), np.sum(dy[case["gray"]] * change)
            assert abs(slope - exact) < 1e-4 * np.sqrt(np.sum(change**2) * np.sum(dy[case["gray"]] ** 2)), case[
                "prefix"
            ]
