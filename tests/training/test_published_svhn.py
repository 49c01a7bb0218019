"""SVHN from its MATLAB file."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io

from dnnlib.util import UserError
from training.dataset import TFRecordDataset
from training.dataset_build import held_out_order, published_order
from training.encodings import Encoding
from training.published.svhn import create_svhn, load_svhn
from training.published.writing import WriteOptions

COUNT = 15


def write(path, **changes):
    """train_32x32.mat: X [32, 32, 3, N], y [N, 1] from 1 to 10."""
    images = np.random.default_rng(3).integers(0, 256, (COUNT, 32, 32, 3), np.uint8)
    labels = (np.arange(COUNT) % 10 + 1).astype(np.uint8)
    content = {"X": images.transpose(1, 2, 3, 0), "y": labels[:, None]} | changes
    path.parent.mkdir(exist_ok=True)
    scipy.io.savemat(path, {key: value for key, value in content.items() if value is not None}, do_compression=True)
    return images, labels


def test_svhn(tmp_path):
    images, labels = write(tmp_path / "in" / "train_32x32.mat")
    create_svhn(tmp_path / "out", tmp_path / "in")
    dataset = TFRecordDataset(tmp_path / "out")
    order = published_order(COUNT)
    np.testing.assert_array_equal(dataset.read(np.arange(COUNT)), images.transpose(0, 3, 1, 2)[order])
    digits = np.where(labels == 10, 0, labels)  # as distributed, 10 stands for the digit 0
    np.testing.assert_array_equal(dataset.labels, np.eye(10, dtype=np.float32)[digits[order]])
    create_svhn(tmp_path / "out", tmp_path / "in" / "train_32x32.mat", WriteOptions(shuffle=False, overwrite=True))
    np.testing.assert_array_equal(TFRecordDataset(tmp_path / "out").labels.argmax(axis=1), digits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": None}, "'X' is missing"),
        ({"X": np.zeros((32, 32, 3, 2))}, "'X' is float64 [32, 32, 3, 2], expected uint8"),
        ({"X": np.zeros((28, 32, 3, 2), np.uint8)}, "'X' has shape [28, 32, 3, 2]"),
        ({"y": None}, "'y' is missing"),
        ({"y": np.zeros((3, 1), np.uint8)}, "'y' is uint8 [3, 1], expected 15 numbers"),
        ({"y": np.full((COUNT, 1), 11, np.uint8)}, "label 11, expected 1 to 10"),
    ],
)
def test_other_content(tmp_path, changes, message):
    write(tmp_path / "in" / "train_32x32.mat", **changes)
    with pytest.raises(UserError) as error:
        load_svhn(tmp_path / "in")
    assert message in str(error.value) and "train_32x32.mat" in str(error.value)


def test_damaged_files(tmp_path):
    path = tmp_path / "train_32x32.mat"
    with pytest.raises(UserError, match=r"train_32x32\.mat is not there"):
        load_svhn(tmp_path)
    write(path)
    whole = path.read_bytes()
    for data in (b"", b"text" * 100, whole[:-500], whole[:200]):
        path.write_bytes(data)
        with pytest.raises(UserError) as error:
            load_svhn(path)
        assert "train_32x32.mat" in str(error.value) and "\n" not in str(error.value)


def test_encoding_and_images_held_out(tmp_path):
    images, _ = write(tmp_path / "in" / "train_32x32.mat")
    create_svhn(tmp_path / "out", tmp_path / "in", WriteOptions(num_validation=4, encoding=Encoding("png")))
    training, held_out = (TFRecordDataset(tmp_path / "out", validation=validation) for validation in (False, True))
    assert training.encoding == "png" and (training.num_images, held_out.num_images) == (COUNT - 4, 4)
    chosen = held_out_order(COUNT)[:4]
    np.testing.assert_array_equal(held_out.read(np.arange(4)), images.transpose(0, 3, 1, 2)[chosen])
    order = published_order(COUNT)
    rest = images.transpose(0, 3, 1, 2)[order[~np.isin(order, chosen)]]
    np.testing.assert_array_equal(training.read(np.arange(COUNT - 4)), rest)
