"""MNIST from idx files: padding, labels, order, MNIST-RGB, and files that are not what they should be."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from dnnlib.util import UserError
from tests.published_files import write_idx
from training.dataset import TFRecordDataset
from training.dataset_build import held_out_order, published_order
from training.encodings import Encoding
from training.published.idx import read_idx
from training.published.mnist import create_mnist, create_mnistrgb, load_images
from training.published.writing import WriteOptions

COUNT = 23


@pytest.fixture
def digits() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (COUNT, 28, 28), np.uint8)


@pytest.fixture
def labels() -> np.ndarray:
    return (np.arange(COUNT) * 7 % 10).astype(np.uint8)


@pytest.fixture(params=["train-{}-idx{}-ubyte", "train-{}-idx{}-ubyte.gz", "train-{}.idx{}-ubyte"])
def folder(request, tmp_path, digits, labels):
    """MNIST as it is distributed, unpacked, and under the other name that is in use."""
    write_idx(tmp_path / "mnist" / request.param.format("images", 3), digits)
    write_idx(tmp_path / "mnist" / request.param.format("labels", 1), labels)
    return tmp_path / "mnist"


def test_mnist(folder, tmp_path, digits, labels):
    said = []
    create_mnist(tmp_path / "out", folder, say=said.append)
    dataset = TFRecordDataset(tmp_path / "out")
    order = published_order(COUNT)
    expected = np.zeros((COUNT, 1, 32, 32), np.uint8)
    expected[:, 0, 2:30, 2:30] = digits
    np.testing.assert_array_equal(dataset.read(np.arange(COUNT)), expected[order])
    np.testing.assert_array_equal(dataset.labels, (labels[order, None] == np.arange(10)).astype(np.float32))
    assert dataset.class_names == tuple("0123456789")
    assert said == [f"Found {COUNT} images; the published data set has 60000."]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["dataset.json", *(f"out-r{i:02d}.tfrecords" for i in range(2, 6)), "out-rxx.labels"]


def test_order_and_number(folder, tmp_path, digits):
    create_mnist(tmp_path / "out", folder, WriteOptions(shuffle=False, max_images=5))
    np.testing.assert_array_equal(TFRecordDataset(tmp_path / "out").read(np.arange(5))[:, 0, 2:30, 2:30], digits[:5])
    create_mnist(tmp_path / "out", folder, WriteOptions(seed=9, max_images=5, overwrite=True))
    images = TFRecordDataset(tmp_path / "out").read(np.arange(5))
    np.testing.assert_array_equal(images[:, 0, 2:30, 2:30], digits[published_order(COUNT, 9)[:5]])


def test_mnistrgb(folder, tmp_path, digits):
    next(folder.glob("*labels*")).unlink()  # not needed
    create_mnistrgb(tmp_path / "out", folder, num_images=40, random_seed=123)
    dataset = TFRecordDataset(tmp_path / "out")
    assert dataset.shape == (3, 32, 32) and dataset.label_size == 0
    # Drawn in one go: the same numbers as drawn image by image.
    chosen = np.random.RandomState(123).randint(COUNT, size=(40, 3))
    np.testing.assert_array_equal(dataset.read(np.arange(40))[:, :, 2:30, 2:30], digits[chosen])
    create_mnistrgb(tmp_path / "other", folder, num_images=40, random_seed=5)
    assert TFRecordDataset(tmp_path / "other").content_hash != dataset.content_hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "expected 12 values of shape [3, 2, 2], 1 bytes are missing"),
        (lambda data: data + b"x", "it goes on after them"),
        (lambda data: data[:9], "ends within its head"),
        (lambda data: b"", "starts with nothing"),
        (lambda data: b"\x00\x00\x0d\x03" + data[4:], "starts with 00 00 0d 03, expected 00 00 08 03"),
        (lambda data: data[:4] + b"\xff" * 12 + data[16:], "refused"),
        (lambda data: gzip.compress(data)[:-12], "fetch the file again"),
        (lambda data: gzip.compress(data)[:20] + b"\x00" * 9, "fetch the file again"),
    ],
)
def test_broken_idx(tmp_path, change, message):
    path = write_idx(tmp_path / "file", np.arange(12, dtype=np.uint8).reshape(3, 2, 2))
    assert read_idx(path, 3).tolist() == np.arange(12).reshape(3, 2, 2).tolist()
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError) as error:
        read_idx(path, 3)
    assert message in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_files_that_do_not_fit(folder, tmp_path):
    images, labels = next(folder.glob("*images*")), next(folder.glob("*labels*"))
    write_idx(labels, np.full(COUNT, 10, np.uint8))
    with pytest.raises(UserError, match="label 10, expected 0 to 9"):
        create_mnist(tmp_path / "out", folder)
    write_idx(labels, np.zeros(COUNT - 1, np.uint8))
    with pytest.raises(UserError, match=f"{COUNT - 1} labels for {COUNT} images"):
        create_mnist(tmp_path / "out", folder)
    labels.unlink()
    with pytest.raises(UserError, match=r"has no train-labels-idx1-ubyte or train-labels-idx1-ubyte\.gz"):
        create_mnist(tmp_path / "out", folder)
    write_idx(images, np.zeros((2, 40, 28), np.uint8))
    with pytest.raises(UserError, match="2 images of 28x40, expected 28x28"):
        load_images(folder)
    with pytest.raises(UserError, match="is not a folder"):
        load_images(tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_encoding_and_images_held_out(folder, tmp_path, digits, encoding):
    options = WriteOptions(num_validation=6, encoding=Encoding(encoding))
    create_mnist(tmp_path / "out", folder, options)
    training, held_out = (TFRecordDataset(tmp_path / "out", validation=validation) for validation in (False, True))
    assert (training.num_images, held_out.num_images, training.encoding) == (COUNT - 6, 6, encoding)
    images = np.concatenate([one.read(np.arange(one.num_images)) for one in (training, held_out)])[:, 0, 2:30, 2:30]
    order = [i for i in published_order(COUNT) if i not in held_out_order(COUNT)[:6]]  # the rest, as without
    expected = digits[[*order, *held_out_order(COUNT)[:6]]]
    if encoding == "png":
        np.testing.assert_array_equal(images, expected)
    assert np.abs(images.astype(int) - expected).mean() < 12  # noise, which quality 95 alters a little
    create_mnistrgb(tmp_path / "rgb", folder, 3, encoding=Encoding(encoding))
    assert TFRecordDataset(tmp_path / "rgb").encoding == encoding


def test_nothing_left_after_holding_out(folder, tmp_path):
    with pytest.raises(UserError, match=f"{COUNT} images to hold out, but there are only {COUNT}"):
        create_mnist(tmp_path / "out", folder, WriteOptions(num_validation=COUNT))
