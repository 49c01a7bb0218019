"""One definition of Inception, whatever file its weights come from, against TensorFlow running the frozen graph."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.inception import MEMBER, Inception
from metrics.inception_graph import InceptionGraph
from metrics.inception_network import CONVS
from tests.metrics.inception_published import PublishedGraph, torch_name
from tests.metrics.weight_writers import write_network, write_torch


@pytest.fixture(scope="module")
def published():
    return PublishedGraph()


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(1).randint(0, 256, (2, 3, 64, 48)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(published, images):
    return published.run(images)


def as_graph(path, published):
    path.write_bytes(published.graph.SerializeToString())


def as_archive(path, published):
    data = published.graph.SerializeToString()
    with tarfile.open(path, "w:gz", compresslevel=0) as file:  # random numbers do not get smaller
        info = tarfile.TarInfo(MEMBER)
        info.size = len(data)
        file.addfile(info, io.BytesIO(data))


def as_safetensors(path, published):
    save_file(published.state_dict(), path)


def as_npz(path, published):
    with open(path, "wb") as file:
        np.savez(file, **published.state_dict())


def as_torch(path, published):
    write_torch(path, published.state_dict())


def in_order(published, turned):
    """Names that say nothing, kernels as in TensorFlow or as in PyTorch."""
    variables = {}
    for index, (kernel, mean, variance, beta) in enumerate(published.convs.values()):
        variables[f"layer{index}/weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)) if turned else kernel
        for part, value in (("beta", beta), ("moving_mean", mean), ("moving_variance", variance)):
            variables[f"layer{index}/{part}"] = value
    weight, bias = published.fc
    return variables | {"out/weight": np.ascontiguousarray(weight.T) if turned else weight, "out/bias": bias}


def as_network(path, published):
    write_network(path, in_order(published, turned=False))


def as_turned_network(path, published):
    write_network(path, in_order(published, turned=True))


def as_network_of_nodes(path, published):
    variables = {}
    for node, values in published.convs.items():
        names = ("conv2d_params", "batchnorm/moving_mean", "batchnorm/moving_variance", "batchnorm/beta")
        variables |= {f"{node}/{name}": value for name, value in zip(names, values, strict=True)}
    write_network(path, variables | dict(zip(("softmax/weights", "softmax/biases"), published.fc, strict=True)))


def as_network_with_graph(path, published):
    write_network(path, {}, graph=published.graph.SerializeToString())


FORMATS = [as_graph, as_archive, as_torch, as_safetensors, as_npz, as_network, as_turned_network, as_network_of_nodes,
           as_network_with_graph]  # fmt: skip


@pytest.mark.parametrize("write", FORMATS)
def test_every_file_format_gives_the_same(session, tmp_path, published, images, expected, write):
    path = tmp_path / "weights"
    write(path, published)
    network = Inception(path)
    found = session.run([network.features(tf.constant(images)), network.probabilities(tf.constant(images))])
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape and one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())
    assert expected[0].std() > 0.1 and np.abs(expected[0][0] - expected[0][1]).max() > 0.1
    assert not tf.global_variables()


def test_folded_graph(session, tmp_path, images, expected):
    path = tmp_path / "folded.pb"
    as_graph(path, PublishedGraph(folded=True))
    network = Inception(path)
    assert network._imported is None
    found = session.run(network.features(tf.constant(images)))
    np.testing.assert_allclose(found, expected[0], rtol=1e-5, atol=1e-5 * expected[0].max())


def test_imported_graph_agrees(session, published, images):
    """The cut graph through `import_graph_def`, which other namings fall back on."""
    found = session.run(InceptionGraph(published.graph, "x.pb").features(tf.constant(images)))
    np.testing.assert_allclose(found, published.run(images)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [299, 320])
def test_legacy_resize(session, tmp_path, published, size):
    images = np.random.RandomState(size).randint(0, 256, (1, 3, size, size)).astype(np.float32)
    as_graph(tmp_path / "x.pb", published)
    network = Inception(tmp_path / "x.pb")
    expected = published.run(images)[0]
    found = session.run(network.features(tf.constant(images)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.max())
    nodes = {op.type for op in tf.get_default_graph().get_operations()}
    assert not nodes & {"FusedBatchNormV3", "CheckNumerics", "Identity"}


def test_probabilities_without_bias(session, tmp_path, published, images, expected):
    as_torch(tmp_path / "x.pth", published)
    network = Inception(tmp_path / "x.pth")
    found = session.run(network.probabilities(tf.constant(images), output_bias=False))
    logits = expected[0].astype(np.float64) @ published.fc[0]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=1e-3, atol=1e-6)
    assert np.abs(found - expected[1]).max() > 1e-3
    assert found.shape == (2, network.num_classes)


def test_two_towers_of_one_device_share_constants(session, tmp_path, published):
    as_npz(tmp_path / "x.npz", published)
    network = Inception(tmp_path / "x.npz")
    a, b = (network.features(tf.ones([1, 3, 8, 8])) for _ in range(2))
    kernels = [op for op in tf.get_default_graph().get_operations() if op.type == "Const" and "_kernel" in op.name]
    assert len(kernels) == 94
    np.testing.assert_array_equal(*session.run([a, b]))
    with tf.device("/cpu:1"):
        network.features(tf.ones([1, 3, 8, 8]))
    placed = [op.device for op in tf.get_default_graph().get_operations() if "_kernel" in op.name]
    assert len(placed) == 188 and set(placed) == {"", "/device:CPU:1"}


def test_names_of_pytorch_match_the_table(published):
    assert [torch_name(node) for node in published.convs] == [conv.name for conv in CONVS]
    assert list(published.convs) == [conv.node for conv in CONVS]


def refused(path, text):
    with pytest.raises(UserError, match=text) as info:
        Inception(path)
    assert str(path) in str(info.value) and "\n" not in str(info.value)


def test_weights_that_do_not_fit(tmp_path, published):
    state, path = published.state_dict(), tmp_path / "x.pth"
    missing = {k: v for k, v in state.items() if k != "Mixed_6b.branch7x7_2.bn.bias"}
    refused(write_torch(path, missing), r"a PyTorch state dict without 'Mixed_6b\.branch7x7_2\.bn\.bias' of Inception")
    other = state | {"Mixed_7c.branch_pool.conv.weight": np.zeros((192, 2048, 3, 3), np.float32)}
    refused(write_torch(path, other), r"has shape \[192, 2048, 3, 3\], expected \[192, 2048, 1, 1\]")
    nan = state | {"Conv2d_1a_3x3.bn.bias": np.full(32, np.nan, np.float32)}
    refused(write_torch(path, nan), "holds other than finite numbers")
    refused(write_torch(path, {"a": np.zeros(3, np.float32)}), r"a has shape \[3\], expected \[3, 3, 3, 32\]")


def test_pickles_out_of_order(tmp_path, published):
    variables, path = in_order(published, turned=False), tmp_path / "x.pkl"
    short = dict(list(variables.items())[:40])
    refused(write_network(path, short), "a network pickle without weights for .*, it ends too soon")
    swapped = {"layer1/weight": variables.pop("layer1/weight")} | variables
    refused(write_network(path, swapped), r"layer1/weight has shape \[3, 3, 32, 32\], expected \[3, 3, 3, 32\]")
    unnamed = {k.replace("moving_mean", "thing"): v for k, v in in_order(published, turned=False).items()}
    refused(write_network(path, unnamed), "layer0/thing is a vector whose role its name does not tell")


def test_no_classifier(session, tmp_path, published):
    state = {k: v for k, v in published.state_dict().items() if not k.startswith("fc.")}
    network = Inception(write_torch(tmp_path / "x.pth", state))
    with pytest.raises(UserError, match="this file has no classifier .* which the inception score needs"):
        network.probabilities(tf.zeros([1, 3, 8, 8]))
