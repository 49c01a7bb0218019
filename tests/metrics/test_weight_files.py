"""Files given as weights: their names on the command line, kinds recognised by content, and what is refused."""

from __future__ import annotations

import gzip
import os
import pickle
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from dnnlib.util import UserError, file_sha256
from metrics.features import load_feature_network
from metrics.weight_files import WeightFile, pick, read_weight_file
from metrics.weights import WeightSource, find_canonical, parse_weights
from tests.metrics.inception_graph import make_graph
from tests.metrics.weight_writers import write_network, write_torch

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float32)}


def read(path, sha256=None):
    return read_weight_file(WeightSource(str(path), sha256))


def write(path, kind):
    if kind == "npz":
        with open(path, "wb") as file:
            np.savez(file, **TENSORS)
    elif kind == "safetensors":
        save_file(TENSORS, path)
    elif kind == "network pickle":
        write_network(path, TENSORS)
    else:
        write_torch(path, TENSORS)
    return path


KINDS = ["npz", "safetensors", "network pickle", "PyTorch state dict"]


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_are_known_by_content(tmp_path, kind):
    file = read(write(tmp_path / "no-suffix", kind))
    assert (file.kind, file.sha256, set(file.tensors)) == (kind, file_sha256(tmp_path / "no-suffix"), {"a", "b"})
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(file.tensors[name], value)


def test_nested_state_dict_and_packed_pickle(tmp_path):
    assert set(read(write_torch(tmp_path / "a", {"state_dict": TENSORS, "epoch": 3})).tensors) == {"a", "b"}
    data = write_network(tmp_path / "b", TENSORS).read_bytes()
    (tmp_path / "c").write_bytes(gzip.compress(data))
    assert read(tmp_path / "c").kind == "network pickle"


def refused(path, text, sha256=None):
    with pytest.raises(UserError, match=text) as info:
        read(path, sha256)
    message = str(info.value)
    assert str(path) in message and "\n" not in message and len(message) < 700


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files(tmp_path, kind):
    data = write(tmp_path / "whole", kind).read_bytes()
    path = tmp_path / "part"
    for end in (9, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        refused(path, "damaged|cut short|no known kind|ends|readable|truncated|needs")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "the file is empty; expected a frozen graph"),
        (b"<!DOCTYPE html><title>Sign in</title>", "a web page .*; expected a frozen graph"),
        (b"\n\n <html>", "a web page"),
        (b'{"message": "not found"}', "JSON text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x93NUMPY\x01\x00", "a single numpy array"),
        (b"\0" * 100, "begins with zeros"),
        (b"weights", r"of no known kind \(it begins with 77 65 69 67 68 74 73\); expected a frozen graph \(\.pb"),
        (b"\x0a\xff\xff\xff", "not a TensorFlow graph file"),
        (b"\x1f\x8b\x08junk", "damaged"),
        (gzip.compress(b"text", mtime=0), "no known kind|damaged|asks for|no pickle|refused"),
        (b"PK\x03\x04junk", "the zip archive is damaged or cut short"),
    ],
)
def test_files_that_are_no_weights(tmp_path, data, text):
    path = tmp_path / "x"
    path.write_bytes(data)
    refused(path, text)


class _Call:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def test_nothing_is_executed(tmp_path):
    made, path = tmp_path / "made", tmp_path / "x"
    hostile = pickle.dumps(_Call(os.system, f"touch {made}"))
    path.write_bytes(hostile)
    refused(path, r"asks for (posix|nt)\.system")
    path.write_bytes(gzip.compress(hostile))
    refused(path, r"asks for (posix|nt)\.system")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Call(os.system, f"touch {made}"), 2))
    refused(path, r"(posix|nt)\.system.*refused")
    with open(path, "wb") as file:
        np.savez(file, a=np.array([_Call(os.system, f"touch {made}")], object))
    refused(path, "cannot be read as plain arrays")
    # The source text of a network pickle (here `raise SystemExit`) is carried, not run.
    assert read(write_network(path, TENSORS)).kind == "network pickle"
    assert not made.exists()


def test_torchscript_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        archive.writestr("net/code/__torch__.py", "raise SystemExit")
        archive.writestr("net/constants.pkl", b"")
        archive.writestr("net/data.pkl", b"")
    refused(tmp_path / "x", "a TorchScript program, which is never run; expected a state dict")


def test_pickles_of_other_things(tmp_path):
    (tmp_path / "x").write_bytes(pickle.dumps([1, 2]))
    refused(tmp_path / "x", "expected a pickle of one feature network, found a list")
    refused(write_torch(tmp_path / "y", [1, 2]), "expected a dictionary of tensors, found a list")


def test_checksum(tmp_path):
    path = write(tmp_path / "x", "npz")
    assert read(path, file_sha256(path).upper()).kind == "npz"
    refused(path, "wrong checksum, expected sha256 0000", "0" * 64)
    refused(tmp_path / "gone", "cannot open")


def test_parse_weights(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.touch()
    b.touch()
    found = parse_weights([f"inception={a}", f"vgg16={b}#sha256={'AB' * 32}", "lpips=https://example.org/x=y.pkl"])
    assert found == {
        "inception-2015-12-05": WeightSource(str(a)),
        "vgg16": WeightSource(str(b), "ab" * 32),
        "vgg16_lpips": WeightSource("https://example.org/x=y.pkl"),
    }
    assert parse_weights([]) == {}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["vgg16"], "--weights vgg16: expected NAME=FILE, such as"),
        (["=x"], "expected NAME=FILE"),
        (["vgg16="], "expected NAME=FILE"),
        (["vgg=http://a/b"], "unknown network 'vgg': did you mean 'vgg16'"),
        (["vgg16=http://a/b", "vgg16=http://a/c"], "vgg16 is given more than once, before as http://a/b"),
        (["inception=http://a/b", "inception-2015-12-05=http://a/c"], "given more than once"),
        (["vgg16=none.pth"], "none.pth: no such file"),
        (["vgg16=."], "a directory, expected a file"),
        (["vgg16=http://a/b#sha256=12"], "expected 64 hexadecimal digits, found '12'"),
    ],
)
def test_parse_weights_refuses(values, text):
    with pytest.raises(UserError, match=text) as info:
        parse_weights(values)
    assert "\n" not in str(info.value)


def test_names():
    assert find_canonical("inception").file_name == "inception-2015-12-05.tgz"
    with pytest.raises(UserError, match="unknown feature network 'vgg': did you mean 'vgg16'"):
        load_feature_network("vgg")


def test_truncated_graph(tmp_path):
    data = make_graph().SerializeToString()
    path = tmp_path / "x.pb"
    for end in (20, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        refused(path, "not a TensorFlow graph file|has no nodes")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(value):
    kernel = np.zeros((3, 3, 2, 4), np.float32)
    kernel[1, 2, 0, 3] = value
    file = WeightFile("some.pt", "checkpoint", "", {"a": np.zeros(4, np.float32), "conv": kernel}, None)
    with pytest.raises(UserError, match="some.pt: conv of a network holds other than finite numbers"):
        pick(file, {"a": (4,), "conv": (3, 3, 2, 4)}, "a network")
