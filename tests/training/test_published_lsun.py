"""LSUN from an LMDB: crops, order, bad values, worker processes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dnnlib.util import UserError
from tests.published_files import encoded, fails, tool
from training.dataset import TFRecordDataset
from training.dataset_build import published_order
from training.published.lsun import KeyTable, fit_wide, list_keys

lmdb = pytest.importorskip("lmdb")


def write_lmdb(path, values: dict[bytes, bytes]) -> None:
    """A folder with data.mdb."""
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=64 << 20) as environment, environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)


def picture(index: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)


def keys(count: int) -> list[bytes]:
    """Like those of LSUN: hexadecimal, in no order of ours."""
    rng = np.random.default_rng(4)
    return [rng.bytes(20).hex().encode() for _ in range(count)]


def chw(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(2, 0, 1)


def test_square_pictures_without_resizing(tmp_path):
    """Lossless values of which the central square has the resolution already: every pixel is known."""
    names = keys(9)
    sizes = [(16, 23), (16, 16), (31, 16)] * 3
    pictures = {name: picture(i, *sizes[i]) for i, name in enumerate(names)}
    write_lmdb(tmp_path / "in", {name: encoded(p, "webp", lossless=True) for name, p in pictures.items()})
    tool("create_lsun", tmp_path / "out", tmp_path / "in", "--resolution", 16)
    dataset = TFRecordDataset(tmp_path / "out")
    expected = []
    for name in sorted(names):
        height, width = pictures[name].shape[:2]
        top, left = (height - 16) // 2, (width - 16) // 2
        expected.append(chw(pictures[name][top : top + 16, left : left + 16]))
    np.testing.assert_array_equal(dataset.read(np.arange(9)), np.stack(expected))  # the order of the LMDB
    assert dataset.label_size == 0
    tool("create_lsun", tmp_path / "mixed", tmp_path / "in", "--resolution", 16, "--shuffle", 1)
    mixed = TFRecordDataset(tmp_path / "mixed").read(np.arange(9))
    np.testing.assert_array_equal(mixed, np.stack(expected)[published_order(9)])
    tool("create_lsun", tmp_path / "few", tmp_path / "in", "--resolution", 16, "--max_images", 4)
    np.testing.assert_array_equal(TFRecordDataset(tmp_path / "few").read(np.arange(4)), np.stack(expected)[:4])


def test_resizing_is_antialiased(tmp_path):
    """A checkerboard of single pixels becomes even grey; its mean stays."""
    board = np.indices((256, 341)).sum(axis=0) % 2 * 255
    write_lmdb(tmp_path / "in", {b"0": encoded(np.repeat(board[:, :, None], 3, 2).astype(np.uint8), "png")})
    tool("create_lsun", tmp_path / "out", tmp_path / "in", "--resolution", 32)
    image = TFRecordDataset(tmp_path / "out").read(np.array([0]))[0].astype(int)
    assert np.abs(image[:, 2:-2, 2:-2] - 127).max() <= 2


def test_box_filter_is_the_mean(tmp_path):
    pixels = picture(0, 64, 64)
    write_lmdb(tmp_path / "in", {b"0": encoded(pixels, "png")})
    tool("create_lsun", tmp_path / "out", tmp_path / "in", "--resolution", 16, "--filter", "box")
    mean = chw(pixels).reshape(3, 16, 4, 16, 4).mean(axis=(2, 4))
    assert np.abs(TFRecordDataset(tmp_path / "out").read(np.array([0]))[0] - mean).max() <= 1


def test_bad_values_are_skipped(tmp_path):
    good = encoded(picture(0, 16, 16), "jpeg")
    grey = encoded(picture(1, 16, 16)[:, :, 0], "png")
    write_lmdb(
        tmp_path / "in", {b"a": good, b"b": good[:200], b"c": b"text", b"d": b"", b"e\xff": b"<html>", b"f": grey}
    )
    output = tool("create_lsun", tmp_path / "out", tmp_path / "in", "--resolution", 16).output
    assert "Wrote 2 images of 16x16x3" in output and "Skipped 4 files" in output
    image = TFRecordDataset(tmp_path / "out").read(np.array([1]))[0]
    np.testing.assert_array_equal(image, np.stack([picture(1, 16, 16)[:, :, 0]] * 3))
    listed = (tmp_path / "out" / "skipped.csv").read_text("utf-8")
    assert "not an image" in listed and "no image under this key" in listed
    assert "error: b: " in fails("create_lsun", tmp_path / "b", tmp_path / "in", "--resolution", 16, "--strict")
    assert not (tmp_path / "b").exists()


def test_worker_processes_make_the_same(tmp_path):
    names = keys(70)
    write_lmdb(tmp_path / "in", {name: encoded(picture(i, 20, 24), "jpeg") for i, name in enumerate(names)})
    for workers in (1, 2):
        tool("create_lsun", tmp_path / str(workers), tmp_path / "in", "--resolution", 16, "--workers", workers)
    one, two = (TFRecordDataset(tmp_path / str(workers)) for workers in (1, 2))
    assert one.num_images == 70 and one.content_hash == two.content_hash


def test_key_table():
    keys = [b"", b"abc", b"\xff\x00\xe4", b"d" * 300]
    table = KeyTable("here", iter(keys))
    assert [item.name.encode("latin1") for item in table] == keys and len(table) == 4
    assert {item.path for item in table} == {"here"}


# ---------------------------------------------------------------- wide


def test_wide_pictures(tmp_path):
    values = {
        b"0 exact": picture(0, 24, 32),
        b"1 tall": picture(1, 33, 32),
        b"2 flat": picture(2, 23, 32),
        b"3 small": picture(3, 16, 20),
        b"4 large": picture(4, 96, 64),
    }
    write_lmdb(tmp_path / "in", {key: encoded(value, "png") for key, value in values.items()})
    output = tool("create_lsun_wide", tmp_path / "out", tmp_path / "in", "--width", 32, "--height", 24).output
    assert "Skipped 2 files" in output
    listed = (tmp_path / "out" / "skipped.csv").read_text()
    assert "2 flat" in listed and "3 small" in listed
    images = TFRecordDataset(tmp_path / "out").read(np.arange(3))
    assert images.shape == (3, 3, 32, 32)
    assert not images[:, :, :4].any() and not images[:, :, -4:].any()
    np.testing.assert_array_equal(images[0, :, 4:-4], chw(values[b"0 exact"]))
    np.testing.assert_array_equal(images[1, :, 4:-4], chw(values[b"1 tall"][4:28]))  # the central 24 rows
    large = Image.fromarray(values[b"4 large"][24:72]).resize((32, 24), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(images[2, :, 4:-4], chw(np.asarray(large)))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(3, 7), st.integers(1, 128))
def test_wide_keeps_proportions(width, height, log_side, target_height):
    """Nothing is enlarged or distorted: exactly the central rows of the right proportion are used."""
    side = 1 << log_side
    target_height = min(target_height, side)
    rows = round(target_height * width / side)
    top = (height - rows) // 2
    marked = np.zeros((height, width, 3), np.uint8)
    marked[max(top, 0) : top + rows, :, 0] = 255
    marked[[max(top, 0), min(top + rows, height) - 1], :, 1] = 255
    if width < side or height < target_height or height < rows:
        with pytest.raises(UserError, match="smaller than|wider than"):
            fit_wide(Image.fromarray(marked), side, target_height, "box")
        return
    square = np.asarray(fit_wide(Image.fromarray(marked), side, target_height, "box"))
    assert square.shape == (side, side, 3)
    used = np.flatnonzero(square[:, 0, 0])
    assert len(used) == target_height and used[0] == (side - target_height) // 2
    assert (square[used, :, 0] == 255).all()  # no row outside of them
    assert (square[used[[0, -1]], :, 1] > 0).all()  # none of them left out


def test_options_that_cannot_be(tmp_path):
    write_lmdb(tmp_path / "in", {b"0": encoded(picture(0, 16, 16), "png")})
    assert "1x1" in fails("create_lsun", tmp_path / "b", tmp_path / "in", "--resolution", 1)
    line = fails("create_lsun_wide", tmp_path / "b", tmp_path / "in", "--width", 32, "--height", 33)
    assert "--height is 33, expected 1 to 32" in line


def test_wrong_folders(tmp_path):
    line = fails("create_lsun", tmp_path / "out", tmp_path / "nowhere")
    assert "nowhere is not there" in line and "LMDB" in line
    (tmp_path / "empty").mkdir()
    assert "data.mdb is not there" in fails("create_lsun", tmp_path / "out", tmp_path / "empty")
    for index, data in enumerate((b"", b"no database " * 1000)):
        folder = tmp_path / f"wrong{index}"
        folder.mkdir()
        (folder / "data.mdb").write_bytes(data)
        line = fails("create_lsun", tmp_path / "out", folder)
        assert str(folder) in line and "expected an LMDB" in line
    write_lmdb(tmp_path / "none", {})
    assert "no images to convert" in fails("create_lsun", tmp_path / "out", tmp_path / "none")
    assert len(list_keys(tmp_path / "none")) == 0
    assert not (tmp_path / "out").exists()


def test_encoding_and_images_held_out(tmp_path):
    pictures = {name: picture(i, 16, 16) for i, name in enumerate(sorted(keys(10)))}
    write_lmdb(tmp_path / "in", {name: encoded(p, "png") for name, p in pictures.items()})
    out = tmp_path / "out"
    tool("create_lsun", out, tmp_path / "in", "--resolution", 16, "--encoding", "webp", "--validation", 3)
    training, held_out = (TFRecordDataset(out, validation=validation) for validation in (False, True))
    assert (training.encoding, training.num_images, held_out.num_images) == ("webp", 7, 3)
    read = [*training.read(np.arange(7)), *held_out.read(np.arange(3))]
    assert sorted(image.tobytes() for image in read) == sorted(chw(p).tobytes() for p in pictures.values())
