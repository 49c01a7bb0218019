"""Rectified Gaussian latents: what the mapping network sees, and that drawing from N(0, 1) goes on everywhere."""

import numpy as np
import pytest

from dnnlib.tflib import tfutil
from dnnlib.tflib.network import Network
from training.config_networks import G_kwargs, GeneratorConfig

Z = np.random.RandomState(0).randn(5, 6).astype(np.float32)


@pytest.mark.parametrize("labels", [0, 3])
def test_negative_components_are_zero(session, labels):
    """The label is not rectified: it is no part of z."""
    shape = dict(latent_size=6, dlatent_size=6, mapping_layers=2, mapping_fmaps=6, label_size=labels)
    plain, rectified = (
        Network(name, func_name="G_mapping", **shape, **options)
        for name, options in (("plain", {}), ("rectified", {"rectify_latents": True}))
    )
    tfutil.run([v.assign(plain.vars[n]) for n, v in rectified.vars.items()])
    y = np.eye(3, dtype=np.float32)[np.arange(5) % 3] if labels else None
    found = rectified.run(Z, y)
    np.testing.assert_array_equal(found, plain.run(np.maximum(Z, 0), y))
    assert np.abs(found - plain.run(Z, y)).max() > 0.01


def test_a_latent_without_positive_components_is_mapped(session):
    mapping = Network("m", func_name="G_mapping", latent_size=6, mapping_layers=1, rectify_latents=True)
    assert np.isfinite(mapping.run(-np.abs(Z), None)).all()


def test_the_option_reaches_the_generator(session):
    config = GeneratorConfig(latent_size=6, dlatent_size=6, mapping_layers=1, mapping_fmaps=6, rectify_latents=True)
    kwargs = G_kwargs(config) | dict(fmap_base=32, fmap_max=4, resolution=8, num_channels=3, label_size=0)
    G = Network("G", func_name="G_main", **kwargs)  # noqa: N806
    one, other = (G.run(z, None, randomize_noise=False) for z in (Z, np.maximum(Z, 0)))
    np.testing.assert_array_equal(one, other)
    assert G.clone("Gs").components.mapping.static_kwargs["rectify_latents"]
