"""CIFAR from its pickles and archives: pixels, labels, order; and pickles that would rather do something."""

from __future__ import annotations

import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from dnnlib.util import UserError
from tests.published_files import PICKLERS, python2_pickle, tool
from training.dataset import TFRecordDataset
from training.dataset_build import held_out_order, published_order
from training.encodings import Encoding
from training.published.cifar import CIFAR10, CIFAR100, create_cifar, load_cifar, read_batch
from training.published.writing import WriteOptions

PER_BATCH = 4
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, 3072), np.uint8)


def write_cifar10(folder: Path, pickler=python2_pickle) -> tuple[np.ndarray, np.ndarray]:
    """The folder that the archive unpacks to: (images [N, 3, 32, 32], labels [N])."""
    folder.mkdir(parents=True)
    images, labels = pixels(5 * PER_BATCH), np.arange(5 * PER_BATCH) * 3 % 10
    for i in range(5):
        part = slice(i * PER_BATCH, (i + 1) * PER_BATCH)
        content = {
            "batch_label": f"training batch {i + 1} of 5",
            "labels": labels[part].tolist(),
            "data": images[part],
            "filenames": [f"{j}.png" for j in range(PER_BATCH)],
        }
        (folder / f"data_batch_{i + 1}").write_bytes(pickler(content))
    (folder / "batches.meta").write_bytes(pickler({"num_cases_per_batch": PER_BATCH, "label_names": NAMES}))
    (folder / "test_batch").write_bytes(b"not read")
    return images.reshape(-1, 3, 32, 32), labels


@pytest.mark.parametrize("pickler", PICKLERS)
def test_cifar10(tmp_path, pickler):
    images, labels = write_cifar10(tmp_path / "cifar-10-batches-py", PICKLERS[pickler])
    create_cifar(tmp_path / "out", tmp_path / "cifar-10-batches-py", CIFAR10)
    dataset = TFRecordDataset(tmp_path / "out")
    order = published_order(len(images))
    np.testing.assert_array_equal(dataset.read(np.arange(len(images))), images[order])
    np.testing.assert_array_equal(dataset.labels, np.eye(10, dtype=np.float32)[labels[order]])
    assert dataset.class_names == tuple(NAMES)


def test_our_python2_pickles_are_pickles():
    content = {"data": pixels(2), "labels": [3, 1], "name": "x" * 300}
    read = pickle.loads(python2_pickle(content), encoding="latin1")
    np.testing.assert_array_equal(read.pop("data"), content.pop("data"))
    assert read == content


def test_archive_and_folders(tmp_path):
    folder = tmp_path / "in" / "cifar-10-batches-py"
    images, _ = write_cifar10(folder)
    with tarfile.open(tmp_path / "in" / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder, "cifar-10-batches-py")
    expected = load_cifar(folder, CIFAR10)
    assert expected.images.shape == images.shape
    for source in (tmp_path / "in", tmp_path / "in" / "cifar-10-python.tar.gz"):
        found = load_cifar(source, CIFAR10)
        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert found.class_names == tuple(NAMES)
    for path in folder.iterdir():
        path.unlink()
    np.testing.assert_array_equal(load_cifar(tmp_path / "in", CIFAR10).images, images)  # from the archive in it


def test_ignore_labels_and_missing_names(tmp_path):
    images, labels = write_cifar10(tmp_path / "in")
    (tmp_path / "in" / "batches.meta").unlink()
    assert load_cifar(tmp_path / "in", CIFAR10).class_names == tuple("0123456789")
    create_cifar(tmp_path / "out", tmp_path / "in", CIFAR10, ignore_labels=True)
    dataset = TFRecordDataset(tmp_path / "out")
    assert dataset.label_size == 0 and not list((tmp_path / "out").glob("*.labels"))
    np.testing.assert_array_equal(dataset.read(np.arange(20)), images[published_order(20)])


def test_cifar100_has_fine_labels(tmp_path):
    count = 12
    fine = (np.arange(count) * 9).tolist()
    content = {"fine_labels": fine, "coarse_labels": [label // 5 for label in fine], "data": pixels(count)}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "train").write_bytes(python2_pickle(content))
    names = [f"class {i}" for i in range(100)]
    (tmp_path / "in" / "meta").write_bytes(python2_pickle({"fine_label_names": names}))
    create_cifar(tmp_path / "out", tmp_path / "in", CIFAR100)
    dataset = TFRecordDataset(tmp_path / "out")
    order = published_order(count)
    np.testing.assert_array_equal(dataset.labels, np.eye(100, dtype=np.float32)[np.array(fine)[order]])
    np.testing.assert_array_equal(dataset.read(np.arange(count)), content["data"].reshape(-1, 3, 32, 32)[order])
    assert dataset.class_names == tuple(names)


class _Command:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_is_executed(tmp_path, protocol):
    write_cifar10(tmp_path / "in")
    mark = tmp_path / "executed"
    hostile = pickle.dumps({"data": _Command(f"touch {mark}")}, protocol)
    (tmp_path / "in" / "data_batch_3").write_bytes(hostile)
    with pytest.raises(UserError) as error:
        create_cifar(tmp_path / "out", tmp_path / "in", CIFAR10)
    assert not mark.exists() and not (tmp_path / "out").exists()
    pickle.loads(hostile)
    assert mark.exists()  # it would have been
    text = str(error.value)
    assert "data_batch_3" in text and "which CIFAR files have no use for; nothing was executed" in text
    assert "\n" not in text


def _batch(**changes: object) -> bytes:
    content = {"data": pixels(2), "labels": [0, 1]} | changes
    return pickle.dumps({key: value for key, value in content.items() if value is not None}, 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "damaged or not a CIFAR file"),
        (b"<html>", "damaged or not a CIFAR file"),
        (_batch()[:-3000], "damaged or not a CIFAR file"),
        (pickle.dumps([1]), "holds list, expected a dictionary"),
        (_batch(data=None), "'data' is NoneType, expected uint8 [N, 3072]"),
        (_batch(data=np.zeros((2, 3071), np.uint8)), "'data' is uint8 [2, 3071], expected uint8 [N, 3072]"),
        (_batch(data=np.zeros((2, 3072), np.float32)), "'data' is float32 [2, 3072]"),
        (_batch(labels=None, fine_labels=[0, 1]), "no list 'labels', found data, fine_labels"),
        (_batch(labels=[0]), "1 labels for 2 images"),
        (_batch(labels=[0, 10]), "label 10, expected 0 to 9"),
        (_batch(labels=[0, "x"]), "label 'x', expected 0 to 9"),
    ],
)
def test_damaged_batches(tmp_path, data, message):
    write_cifar10(tmp_path / "in")
    (tmp_path / "in" / "data_batch_2").write_bytes(data)
    with pytest.raises(UserError) as error:
        load_cifar(tmp_path / "in", CIFAR10)
    assert message in str(error.value) and "data_batch_2" in str(error.value) and "\n" not in str(error.value)


def test_many_copies_of_one_key_take_no_memory():
    """A block of bytes that is a key again and again would be copied each time."""
    block = b"k" * (1 << 20)
    again = b"h\x00K\x01" * 5000
    hostile = b"\x80\x04}(B" + len(block).to_bytes(4, "little") + block + b"q\x00K\x01" + again + b"u."
    assert pickle.loads(hostile) == {block: 1}
    with pytest.raises(UserError, match="far more memory"):
        read_batch(hostile, "here")


def test_missing_files(tmp_path):
    write_cifar10(tmp_path / "in")
    (tmp_path / "in" / "data_batch_4").unlink()
    with pytest.raises(UserError, match=r"lacks data_batch_4; expected the Python version, cifar-10-python\.tar\.gz"):
        load_cifar(tmp_path / "in", CIFAR10)
    with pytest.raises(UserError, match=r"has neither train nor cifar-100-python\.tar\.gz"):
        load_cifar(tmp_path / "in", CIFAR100)
    with pytest.raises(UserError, match="is not there"):
        load_cifar(tmp_path / "nowhere", CIFAR10)
    (tmp_path / "file.tar.gz").write_bytes(b"no archive" * 100)
    with pytest.raises(UserError, match="expected a tar archive"):
        load_cifar(tmp_path / "file.tar.gz", CIFAR10)


def write_cifar100(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The training file; returns images [count, 3, 32, 32] and fine labels [count]."""
    fine = np.arange(count) * 7 % 100
    content = {"fine_labels": fine.tolist(), "coarse_labels": (fine // 5).tolist(), "data": pixels(count)}
    folder.mkdir()
    (folder / "train").write_bytes(python2_pickle(content))
    return content["data"].reshape(-1, 3, 32, 32), fine


def assert_six_held_out(path, encoding, images, labels, classes):
    """Of the 20 images, 6 are held out; both parts are in their order, in that encoding, with their labels."""
    training, held_out = (TFRecordDataset(path, validation=validation) for validation in (False, True))
    assert training.encoding == held_out.encoding == encoding
    assert (training.num_images, held_out.num_images) == (14, 6)
    chosen = held_out_order(20)[:6]
    rest = published_order(20)
    rest = rest[~np.isin(rest, chosen)]
    for dataset, indices in ((held_out, chosen), (training, rest)):
        np.testing.assert_array_equal(dataset.read(np.arange(len(indices))), images[indices])
        np.testing.assert_array_equal(dataset.labels, np.eye(classes, dtype=np.float32)[labels[indices]])


@pytest.mark.parametrize("encoding", ["raw", "png", "webp"])
def test_cifar100_encodings_and_images_held_out(tmp_path, encoding):
    images, labels = write_cifar100(tmp_path / "in", 20)
    tool("create_cifar100", tmp_path / "out", tmp_path / "in", "--encoding", encoding, "--validation", 6)
    assert_six_held_out(tmp_path / "out", encoding, images, labels, 100)
    tool("verify", tmp_path / "out")


@pytest.mark.parametrize("encoding", ["jpeg", "webp"])
def test_cifar100_with_a_quality(tmp_path, encoding):
    write_cifar100(tmp_path / "in", 4)
    smooth = np.broadcast_to(np.linspace(0, 255, 32).astype(np.uint8), (4, 3, 32, 32))
    content = {"fine_labels": [0, 1, 2, 3], "data": smooth.reshape(4, -1).copy()}
    (tmp_path / "in" / "train").write_bytes(python2_pickle(content))
    sizes = {}
    for quality in (10, 95):
        out = tmp_path / f"{quality}"
        tool("create_cifar100", out, tmp_path / "in", "--encoding", encoding, "--quality", quality, "--shuffle", 0)
        dataset = TFRecordDataset(out)
        assert dataset.encoding == encoding
        assert np.abs(dataset.read(np.arange(4)).astype(int) - smooth).mean() < 8
        sizes[quality] = sum(path.stat().st_size for path in out.glob("*.tfrecords"))
    assert sizes[10] < sizes[95]


def test_encoding_and_images_held_out(tmp_path):
    images, labels = write_cifar10(tmp_path / "in")
    options = WriteOptions(num_validation=6, encoding=Encoding("png"))
    create_cifar(tmp_path / "out", tmp_path / "in", CIFAR10, options=options)
    assert_six_held_out(tmp_path / "out", "png", images, labels, 10)
