"""HDF5 files of images: read as published tools wrote them, written, and back."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from dnnlib.util import UserError
from tests.published_files import fails, save, tool
from training.dataset import TFRecordDataset
from training.dataset_build import published_order
from training.published.hdf5 import export_hdf5, open_images
from training.published.writing import ImageSource

h5py = pytest.importorskip("h5py")
COUNT = 11


def images(side: int, count: int = COUNT, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (count, channels, side, side), np.uint8)


def write(path, **data) -> None:
    with h5py.File(path, "w") as file:
        for key, value in data.items():
            file[key] = value


def levels(*sides: int) -> dict[str, np.ndarray]:
    return {f"data{side}x{side}": images(side) for side in sides}


def test_the_largest_level_is_used(tmp_path):
    write(tmp_path / "in.h5", **levels(4, 16, 8), other=np.zeros(3))
    np.save(tmp_path / "in-labels.npy", np.arange(COUNT) % 4)
    tool("create_from_hdf5", tmp_path / "out", tmp_path / "in.h5")
    dataset = TFRecordDataset(tmp_path / "out")
    order = published_order(COUNT)
    np.testing.assert_array_equal(dataset.read(np.arange(COUNT)), images(16)[order])
    np.testing.assert_array_equal(dataset.labels, np.eye(4, dtype=np.float32)[np.arange(COUNT)[order] % 4])
    tool("create_from_hdf5", tmp_path / "plain", tmp_path / "in.h5", "--shuffle", 0, "--max-images", 5)
    np.testing.assert_array_equal(TFRecordDataset(tmp_path / "plain").read(np.arange(5)), images(16)[:5])


def test_vectors_as_labels(tmp_path):
    write(tmp_path / "in.h5", **levels(8))
    vectors = np.random.default_rng(0).normal(size=(COUNT, 3)).astype(np.float32)
    np.save(tmp_path / "in-labels.npy", vectors)
    tool("create_from_hdf5", tmp_path / "out", tmp_path / "in.h5")
    np.testing.assert_array_equal(TFRecordDataset(tmp_path / "out").labels, vectors[published_order(COUNT)])


@pytest.mark.parametrize("compress", [0, 1])
def test_there_and_back(golden, tmp_path, compress):
    """Levels are the published ones, and the records that come back are byte-identical."""
    published = golden.path("tfrecords_official")
    tool("convert_to_hdf5", tmp_path / "out.h5", published, "--compress", compress)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-labels.npy", "out.h5"]
    with h5py.File(tmp_path / "out.h5") as file:
        assert sorted(file) == ["data16x16", "data32x32", "data4x4", "data8x8"]
        for lod, side in enumerate((32, 16, 8, 4)):
            data = file[f"data{side}x{side}"]
            assert data.dtype == np.uint8 and data.compression == ("gzip" if compress else None)
            np.testing.assert_array_equal(data, TFRecordDataset(published).read(np.arange(20), lod))
    back = tmp_path / "tfrecords_official"
    tool("create_from_hdf5", back, tmp_path / "out.h5", "--shuffle", 0)
    for path in published.iterdir():
        assert (back / path.name).read_bytes() == path.read_bytes()


def test_from_images(tmp_path):
    pixels = images(8, 3, 1)
    for index, name in enumerate(("b/2.png", "a/9.png", "b/10.png")):
        save(tmp_path / "in" / name, pixels[index, 0])
    tool("hdf5_from_images", tmp_path / "out.h5", tmp_path / "in")
    with open_images(tmp_path / "out.h5") as source:
        assert source.images.shape == (3, 1, 8, 8) and source.labels is None
        np.testing.assert_array_equal(np.stack([source.images[i] for i in range(3)]), pixels[[1, 2, 0]])
    assert "out.h5 is there already" in fails("hdf5_from_images", tmp_path / "out.h5", tmp_path / "in")
    save(tmp_path / "in" / "c.png", np.zeros((16, 8), np.uint8))
    line = fails("hdf5_from_images", tmp_path / "new.h5", tmp_path / "in")
    assert "c.png: shape [1, 16, 8], expected [1, 8, 8] like a/9.png" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.h5"]  # nothing half-written


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"imgs": images(8), "labels": np.arange(COUNT)}, "no data set such as data1024x1024, found imgs, labels"),
        ({}, "found nothing"),
        ({"data8x8": images(8).astype(np.float32)}, "data8x8 is float32 [11, 3, 8, 8], expected uint8 [N, C, H, W]"),
        ({"data8x8": images(8)[0]}, "data8x8 is uint8 [3, 8, 8], expected uint8 [N, C, H, W]"),
        ({"data8x8": images(8)[:0]}, "data8x8 is uint8 [0, 3, 8, 8]"),
    ],
)
def test_other_content(tmp_path, data, message):
    write(tmp_path / "in.h5", **data)
    line = fails("create_from_hdf5", tmp_path / "out", tmp_path / "in.h5")
    assert message in line and str(tmp_path / "in.h5") in line
    assert not (tmp_path / "out").exists()


def test_damaged_files(tmp_path):
    write(tmp_path / "in.h5", **levels(16))
    whole = (tmp_path / "in.h5").read_bytes()
    for data in (b"", b"text" * 100, whole[: len(whole) // 2]):
        (tmp_path / "in.h5").write_bytes(data)
        assert "expected an HDF5 file" in fails("create_from_hdf5", tmp_path / "out", tmp_path / "in.h5")
    assert "nowhere.h5 is not there" in fails("create_from_hdf5", tmp_path / "out", tmp_path / "nowhere.h5")
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("data16x16", data=images(16), chunks=(1, 3, 16, 16), compression="gzip", fletcher32=True)
        start, size = (getattr(file["data16x16"].id.get_chunk_info(7), name) for name in ("byte_offset", "size"))
    damaged = bytearray((tmp_path / "in.h5").read_bytes())
    damaged[start : start + size] = bytes(size)
    (tmp_path / "in.h5").write_bytes(damaged)
    line = fails("create_from_hdf5", tmp_path / "out", tmp_path / "in.h5", "--shuffle", 0)
    assert "in.h5: image 7 cannot be read" in line


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(3), "3 labels for 11 images"),
        (np.arange(COUNT) - 1, "expected whole numbers from 0"),
        (np.full(COUNT, 1_000_000), "expected whole numbers from 0 to 65535"),
        (np.full((COUNT, 2), np.nan), "label 0 is not finite"),
        (np.full(COUNT, 0.5), "expected whole numbers from 0"),
        (np.full(COUNT, "a"), "expected an array of numbers"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, labels, message):
    write(tmp_path / "in.h5", **levels(8))
    np.save(tmp_path / "in-labels.npy", labels)
    line = fails("create_from_hdf5", tmp_path / "out", tmp_path / "in.h5")
    assert message in line and "in-labels.npy" in line


def test_sizes_that_cannot_be(tmp_path):
    with pytest.raises(UserError, match="46x46"):
        export_hdf5(tmp_path / "out.h5", ImageSource(images(46)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("package", "command"), [("h5py", "create_from_hdf5"), ("lmdb", "create_lsun")])
def test_missing_package(tmp_path, monkeypatch, package, command):
    monkeypatch.setitem(sys.modules, package, None)
    assert f"pip install {package}" in fails(command, tmp_path / "out", tmp_path / "in")


def test_encoding_and_images_held_out(tmp_path):
    write(tmp_path / "in.h5", **levels(16))
    tool("create_from_hdf5", tmp_path / "out", tmp_path / "in.h5", "--encoding", "png", "--validation", 3)
    training, held_out = (TFRecordDataset(tmp_path / "out", validation=validation) for validation in (False, True))
    assert training.encoding == held_out.encoding == "png"
    assert (training.num_images, held_out.num_images) == (COUNT - 3, 3)
    read = [*training.read(np.arange(COUNT - 3)), *held_out.read(np.arange(3))]
    assert sorted(image.tobytes() for image in read) == sorted(image.tobytes() for image in images(16))
