"""Contributions of resolutions: constructed ones, and those of real networks, which add up to the image."""

from __future__ import annotations

import numpy as np
import pytest

from dnnlib.tflib import tfutil
from dnnlib.tflib.network import Network
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.analysis.contributions import (
    Contributions,
    bring_to_size,
    find_torgb,
    measure_contributions,
    plot_contributions,
)
from metrics.analysis.samples import Samples
from metrics.noise import latents_of
from tests.metrics.analysis_fakes import SkipSynthesis, generator

NETWORK = dict(
    num_channels=3, resolution=16, fmap_base=64, fmap_max=8, latent_size=8, dlatent_size=8, mapping_layers=2,
    mapping_fmaps=8,
)  # fmt: skip


def test_constructed_contributions(session):
    rng = np.random.RandomState(0)
    patterns = {r: scale * rng.randn(3, r, r) for r, scale in ((4, 1.0), (8, 5.0), (16, 2.0))}
    fake = generator(SkipSynthesis(patterns), (3, 16, 16))
    found = measure_contributions(fake, count=70, seed=3, batch=32)
    w = latents_of(3, np.arange(70), 3).astype(np.float64)
    expected = [(w[:, i, None, None, None] * patterns[r]).std() for i, r in enumerate(patterns)]
    np.testing.assert_allclose(found.of_layers, expected, rtol=1e-5)
    np.testing.assert_allclose(found.in_image, expected, rtol=1e-5)  # a box repeats pixels: nothing changes
    assert found.resolutions == [4, 8, 16]
    np.testing.assert_allclose(found.shares("image"), expected / np.sum(expected), rtol=1e-5)
    assert found.shares("layer").sum() == pytest.approx(1)
    again = measure_contributions(fake, count=70, seed=3, batch=7)
    np.testing.assert_allclose(again.in_image, found.in_image, rtol=1e-5)


@pytest.mark.parametrize(
    "extra", [{}, {"resample_kernel": [1, 2, 1]}, {"num_fp16_res": 2}, {"num_channels": 4, "base_shape": [2, 3]}]
)
def test_what_is_found_adds_up_to_the_image(session, extra):
    Gs = Network("Gs", func_name="G_main", **NETWORK | extra)
    changed = [v for n, v in Gs.vars.items() if n.endswith(("noise_strength", "/bias"))]
    tfutil.set_vars({v: np.full(v.shape.as_list(), 0.7, np.float32) for v in changed})
    samples = Samples(Gs, seed=0)
    images, outputs = find_torgb(Gs.components.synthesis, samples.dlatents, samples.rng)
    channels, height, width = images.shape.as_list()[1:]
    assert list(outputs) == [4, 8, 16] and outputs[8].shape.as_list()[1:] == [channels, height // 2, width // 2]
    kernel = extra.get("resample_kernel", [1, 3, 3, 1])
    total = tf.add_n([bring_to_size(t, height, kernel) for t in outputs.values()])
    image, added = tfutil.run([images, total], samples.feed(np.arange(3)))
    assert image.std() > 0.1
    np.testing.assert_allclose(added, image, atol=1e-5)
    assert np.isfinite(measure_contributions(Gs, count=5).in_image).all()


@pytest.mark.parametrize("architecture", ["orig", "resnet"])
def test_other_architectures_are_refused(session, architecture):
    Gs = Network("Gs", func_name="G_main", architecture=architecture, **NETWORK)
    with pytest.raises(UserError, match=f"architecture '{architecture}', whose image comes from its last layer"):
        measure_contributions(Gs, count=2)


def test_a_graph_of_another_kind_is_refused(session):
    fake = generator(SkipSynthesis({4: np.ones((3, 4, 4)), 8: np.ones((3, 8, 8))}), (3, 8, 8))
    fake.components.synthesis.patterns.pop(4)
    with pytest.raises(UserError, match="built in another way"):
        measure_contributions(fake, count=2)


def test_diverged(session):
    fake = generator(SkipSynthesis({4: np.ones((3, 4, 4)), 8: np.full((3, 8, 8), np.nan)}), (3, 8, 8))
    with pytest.raises(UserError, match="diverged"):
        measure_contributions(fake, count=2)


@pytest.mark.parametrize("kimgs", [[5.0], [0.0, 5.0, 10.0]])
def test_plot(kimgs):
    found = [Contributions([4, 8], np.array([1.0, 3.0]), np.array([0.0, 0.0])) for _ in kimgs]
    assert plot_contributions(kimgs, found, "layer", "t").startswith(b"\x89PNG")
    assert np.isnan(found[0].shares("image")).all()  # nothing has no shares
