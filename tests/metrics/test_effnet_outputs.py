"""Class probabilities and perceptual embedding of EfficientNet-lite0."""

from __future__ import annotations

import numpy as np
import pytest

from dnnlib.snapshot.torch_reader import read_checkpoint
from dnnlib.tflib.tfutil import tf
from metrics.effnet import EffnetLite0, _normalize, default_weights_path
from metrics.features import load_feature_network
from metrics.weights import WeightSource


@pytest.fixture(scope="module")
def network():
    return EffnetLite0()


@pytest.fixture
def images():
    """A gradient, the same with a little noise, and noise."""
    rng = np.random.RandomState(0)
    x = np.linspace(0, 255, 64) * np.ones((3, 64, 1))
    near = x + rng.normal(0, 4, x.shape)
    return np.clip(np.stack([x, near, rng.uniform(0, 255, x.shape)]), 0, 255).astype(np.float32)


def test_probabilities(session, network, images):
    found, features = session.run([network.probabilities(tf.constant(images)), network.features(tf.constant(images))])
    state = read_checkpoint(default_weights_path())
    logits = features.astype(np.float64) @ state["_fc.weight"].T + state["_fc.bias"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-7)
    assert found.shape == (3, network.num_classes) and np.abs(found[0] - found[2]).max() > 0.01


def test_perceptual(session, network, images):
    x = tf.constant(images)
    embedding, ends = session.run([network.perceptual(x), network._stages(_normalize(x))])
    assert [end.shape[1:] for end in ends] == [
        (112, 112, 16), (56, 56, 24), (28, 28, 40), (14, 14, 80), (14, 14, 112), (7, 7, 192), (7, 7, 320)
    ]  # fmt: skip
    assert embedding.shape == (3, network.num_embedding(64, 64)) and embedding.dtype == np.float32

    def distance(i, j):
        layers = []
        for end in ends:
            a, b = (end[k] / np.linalg.norm(end[k], axis=-1, keepdims=True) for k in (i, j))
            layers.append(np.mean(np.sum(np.square(a - b, dtype=np.float64), axis=-1)))
        return np.mean(layers)

    for i, j in ((0, 1), (0, 2), (1, 2)):
        found = np.sum(np.square(embedding[i] - embedding[j], dtype=np.float64))
        np.testing.assert_allclose(found, distance(i, j), rtol=1e-4)
    assert 0 < distance(0, 1) < 0.7 * distance(0, 2)


def test_by_name(network):
    path = default_weights_path()
    other = load_feature_network("effnet_lite0", {"effnet_lite0": WeightSource(path)})
    assert other.weights_sha256 == network.weights_sha256
    assert other.outputs == ("features", "probabilities", "perceptual")
