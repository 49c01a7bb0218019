"""Training with options of the networks: every loss has finite gradients, spectral norms move once per minibatch."""

import numpy as np
import pytest

from dnnlib.tflib import tfutil
from dnnlib.tflib.network import Network
from tests.tiny import tiny_config
from training.config_io import apply_set
from training.config_networks import D_kwargs, G_kwargs
from training.steps import MinibatchSettings, TrainingGraph

CONSISTENCY = {"G_main": ("Loss/G/zcr",), "D_main": ("Loss/D/bcr_real", "Loss/D/bcr_fake", "Loss/D/zcr")}


@pytest.fixture
def training(session):
    """A graph with every option on, 8x12 pixels."""
    config = apply_set(
        tiny_config(), "G.noconst=yes", "G.spectral_norm=*/ToRGB", "G.attention_resolution=8", "D.spectral_norm=yes",
        "D.attention_resolution=4", "D.mbstd_group_size=none", "schedule.batch=4", "schedule.batch_gpu=4",
        "G.rectify_latents=yes", "bcr_real=1", "bcr_shift=0.25", "zcr_gen=0.1", "zcr_dis=0.1",
    )  # fmt: skip
    shape = dict(num_channels=3, resolution=8, base_shape=[4, 6], label_size=0)
    G = Network("G", func_name="G_main", **shape, **G_kwargs(config.G))
    D = Network("D", func_name="D_stylegan2", **shape, **D_kwargs(config.D))
    return TrainingGraph(G, D, G.clone("Gs"), config, 4, False, (0.0, 0.99), (0.0, 0.99))


def one_iteration(w, u):
    """Power iteration in float64."""
    matrix = w.reshape(-1, w.shape[-1]).astype(np.float64)
    v = u @ matrix.T
    v /= np.linalg.norm(v)
    u = v @ matrix
    return u / np.linalg.norm(u)


def test_a_minibatch_with_every_option(training):
    settings = MinibatchSettings(0.01, 0.01, 10.0, 0.5, 1)
    reals = np.random.RandomState(0).randint(0, 256, [4, 3, 8, 12]).astype(np.uint8)
    labels = np.zeros([4, 0], np.float32)
    G, D, Gs = training.G, training.D, training.Gs
    gates = {"G": "G_synthesis/8x8/Attention/gamma", "D": "4x4/Attention/gamma"}
    state = {"G": "G_synthesis/8x8/ToRGB/weight_sn", "D": "4x4/Conv/weight_sn"}
    before = {name: net.get_var(state[name]) for name, net in (("G", G), ("D", D))}
    for name in training.phases:
        values = training.run_phase(name, 0, settings, reals, labels, labels)
        assert all(np.isfinite(value) for value in values.values())
        if name.endswith("main"):
            assert all(values[tag] > 0 for tag in CONSISTENCY[name])
        assert values[f"Gradients/{name}"] > 0
    for name, net in (("G", G), ("D", D)):
        assert net.get_var(gates[name]) != 0, "attention must learn to open"
        assert np.array_equal(net.get_var(state[name]), before[name]), "losses must not move the state"
    training.run_phase("ema", 0, settings, reals, labels, labels)
    for name, net in (("G", G), ("D", D)):
        w = net.get_var(state[name].removesuffix("_sn"))
        np.testing.assert_allclose(net.get_var(state[name]), one_iteration(w, before[name]), atol=1e-5)
    assert np.array_equal(Gs.get_var(state["G"]), before["G"])
    assert np.isfinite(Gs.run(np.zeros([1, 8], np.float32), None)).all()
    assert not int(tfutil.run(training.G_opt.skipped)) and not int(tfutil.run(training.D_opt.skipped))
