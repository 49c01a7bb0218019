"""The Inception loader on a small graph of the same form, against TensorFlow running that graph untouched."""

from __future__ import annotations

import hashlib
import io
import tarfile

import numpy as np
import pytest

from dnnlib.tflib.tfutil import create_session, tf
from dnnlib.util import UserError
from metrics.inception import MEMBER, Inception
from tests.metrics.inception_graph import make_graph


@pytest.fixture(scope="module")
def graph_bytes():
    return make_graph().SerializeToString()


@pytest.fixture
def graph_path(graph_bytes, tmp_path):
    path = tmp_path / MEMBER
    path.write_bytes(graph_bytes)
    return path


def archive(path, name, data):
    with tarfile.open(path, "w:gz") as file:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        file.addfile(info, io.BytesIO(data))
    return path


def reference(images):
    """Image by image through the file as it is, in the way it was made to be used."""
    with tf.Graph().as_default() as graph, create_session() as session:
        (pool,) = tf.import_graph_def(make_graph(), return_elements=["pool_3:0"], name="")
        assert graph.as_graph_def().versions.producer == 8
        feeds = [{"ExpandDims:0": image[None].transpose(0, 2, 3, 1)} for image in images]
        return np.concatenate([session.run(pool, feed).reshape(1, 2048) for feed in feeds])


@pytest.mark.parametrize("size", [32, 299, 400])
def test_features_are_those_of_the_file(session, graph_path, size):
    images = np.random.RandomState(0).randint(0, 256, (3, 3, size, size)).astype(np.float32)
    network = Inception(graph_path)
    placeholder = tf.placeholder(tf.float32, [None, 3, size, size])
    before = tf.get_default_graph().as_graph_def().versions.producer
    features = network.features(placeholder)
    found = session.run(features, {placeholder: images})
    expected = reference(images)
    assert found.shape == (3, 2048) and expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(session.run(features, {placeholder: images[1:2]}), expected[1:2], atol=1e-4)
    # Importing must not turn the clock of the training graph back.
    assert tf.get_default_graph().as_graph_def().versions.producer == before
    assert not tf.global_variables()
    ops = {op.type for op in tf.get_default_graph().get_operations()}
    assert not ops & {"CheckNumerics", "DecodeJpeg", "BatchNormWithGlobalNormalization", "Softmax"}


def test_published_archive(tmp_path, graph_path, graph_bytes):
    path = archive(tmp_path / "inception-2015-12-05.tgz", MEMBER, graph_bytes)
    digest = hashlib.sha256(graph_bytes).hexdigest()
    assert Inception(path).weights_sha256 == Inception(graph_path).weights_sha256 == digest
    assert Inception(path.as_uri()).weights_sha256 == digest


def test_record(graph_path):
    network = Inception(graph_path)
    assert network.name == "inception-2015-12-05" and network.num_features == 2048
    assert network.resize_name(64, 64) == "bilinear (TensorFlow 2015) to 299x299"
    assert network.resize_name(299, 299) == "none"


def test_two_towers_may_use_it(session, graph_path):
    network = Inception(graph_path)
    a, b = (network.features(tf.ones([1, 3, 8, 8])) for _ in range(2))
    np.testing.assert_array_equal(*session.run([a, b]))


def test_missing_weights_say_what_to_do(tmp_path):
    with pytest.raises(UserError) as info:
        Inception(tmp_path / "gone.pb")
    text = str(info.value)
    assert "cannot open" in text and "--inception" in text and "fd50k_effnet" in text and "\n" not in text


def test_checksum(graph_path, graph_bytes):
    Inception(graph_path, hashlib.sha256(graph_bytes).hexdigest())
    with pytest.raises(UserError, match="wrong checksum, expected sha256 0000"):
        Inception(graph_path, "0" * 64)


def refuses(path, data, text):
    path.write_bytes(data)
    with pytest.raises(UserError, match=text) as info:
        Inception(path)
    assert str(path) in str(info.value) and "\n" not in str(info.value)


def test_files_that_are_no_graph(tmp_path):
    path = tmp_path / "x.pb"
    refuses(path, b"", "the file is empty")
    refuses(path, b"\xff\xff\xff", r"of no known kind \(it begins with ff ff ff\); expected a frozen graph")
    refuses(path, b"\x0a\xff\xff", "not a TensorFlow graph file")
    refuses(path, b"\x1f\x8bxxxx", "the archive is damaged")
    other = archive(tmp_path / "y.tgz", "other.pb", b"data").read_bytes()
    refuses(path, other, f"no file {MEMBER} in the archive")
    refuses(path, other[: len(other) // 2], "the archive is damaged")


def edited(edit):
    graph = make_graph()
    edit({node.name: node for node in graph.node}, graph)
    return graph.SerializeToString()


@pytest.mark.parametrize("op", ["PyFunc", "ReadFile", "WriteFile", "StatefulPartitionedCall", "Foo", "VariableV2"])
def test_ops_that_do_more_than_arithmetic_are_refused(tmp_path, op):
    def edit(nodes, graph):
        nodes["Mul"].op = op

    refuses(tmp_path / "x.pb", edited(edit), f"the node 'Mul' is a {op}, .* refused")


def test_graphs_with_other_nodes(tmp_path):
    def rename(name):
        def edit(nodes, graph):
            nodes[name].name = "other"

        return edited(edit)

    path = tmp_path / "x.pb"
    refuses(path, rename("pool_3"), "the graph has no node 'pool_3'; expected classify_image_graph_def.pb of 2015")
    refuses(path, rename("ExpandDims"), "the graph has no node 'ExpandDims'")
    refuses(path, rename("conv/conv2d_params"), "refers to a node 'conv/conv2d_params' that it does not have")

    def disconnect(nodes, graph):
        del nodes["ResizeBilinear"].input[:]
        nodes["ResizeBilinear"].input.extend(["Sub/y", "ResizeBilinear/size"])

    refuses(path, edited(disconnect), "'pool_3' does not depend on 'ExpandDims'")


def test_broken_wiring_is_one_line(session, tmp_path):
    def edit(nodes, graph):
        nodes["Sub"].input[1] = "ResizeBilinear/size"  # int32 where float32 belongs

    path = tmp_path / "x.pb"
    path.write_bytes(edited(edit))
    with pytest.raises(UserError, match="cannot be used as a graph") as info:
        Inception(path).features(tf.zeros([1, 3, 8, 8]))
    assert "\n" not in str(info.value)


def test_other_numbers_of_features(session, tmp_path):
    def edit(nodes, graph):
        tensor = tf.make_tensor_proto(np.zeros((1, 1, 8, 7), np.float32))
        nodes["conv_1/conv2d_params"].attr["value"].tensor.CopyFrom(tensor)
        for part in ("moving_mean", "moving_variance", "beta", "gamma"):
            nodes[f"conv_1/batchnorm/{part}"].attr["value"].tensor.CopyFrom(
                tf.make_tensor_proto(np.ones(7, np.float32))
            )

    path = tmp_path / "x.pb"
    path.write_bytes(edited(edit))
    with pytest.raises(UserError, match=r"expected \[N, 1, 1, 2048\]"):
        Inception(path).features(tf.zeros([1, 3, 8, 8]))
