"""unpack, pack and export_zip: round trips to the byte, labels, held-out sets, the layout of other tools."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dnnlib.util import UserError
from tests.published_files import fails, save, tool, write_idx
from training.dataset import TFRecordDataset
from training.dataset_build import published_order
from training.dataset_files import read_info
from training.dataset_writer import DatasetWriter
from training.published.png_labels import image_name, write_description, write_extras
from training.tfrecord import RecordFile

ROOT = Path(__file__).resolve().parents[1]


def unpack(source: Path, folder: Path, *options: object) -> Path:
    tool("unpack", "--tfrecord_dir", source, "--output_dir", folder, *options)
    return folder


def pack(folder: Path, target: Path, *options: object) -> TFRecordDataset:
    tool("pack", "--unpacked_dir", folder, "--tfrecord_dir", target, *options)
    return TFRecordDataset(target)


def everything(dataset: TFRecordDataset) -> np.ndarray:
    return dataset.read(np.arange(dataset.num_images))


@pytest.fixture
def unpacked(golden, tmp_path) -> Path:
    return unpack(golden.path("tfrecords_official"), tmp_path / "unpacked")


@pytest.fixture
def original(golden) -> TFRecordDataset:
    return TFRecordDataset(golden.path("tfrecords_official"))


def make(path: Path, labels: np.ndarray, class_names: tuple[str, ...] = ()) -> np.ndarray:
    """A small data set with these labels; returns its images."""
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 3, 8, 8), np.uint8)
    with DatasetWriter(path, (3, 8, 8), None, labels.shape[1], class_names) as writer:
        for image, label in zip(images, labels, strict=True):
            writer.add(image, label)
    return images


# ---------------------------------------------------------------- there


def test_layout(unpacked, original):
    names = [f"00000/img{i:08d}.png" for i in range(20)]
    files = sorted(path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file())
    assert files == [*names, "dataset.json", "pack_extras.npz"]
    assert [image_name(i) for i in (999, 1000, 1234567)] == [
        "00000/img00000999.png", "00001/img00001000.png", "01234/img01234567.png",
    ]  # fmt: skip
    for index, name in enumerate(names):
        with Image.open(unpacked / name) as image:
            np.testing.assert_array_equal(np.asarray(image).transpose(2, 0, 1), everything(original)[index])
    with np.load(unpacked / "pack_extras.npz", allow_pickle=False) as extras:
        assert sorted(extras.files) == ["labels", "num_images"] and extras["num_images"] == 20
        assert extras["labels"].dtype == np.uint8
        np.testing.assert_array_equal(extras["labels"], original.labels)
    described = json.loads((unpacked / "dataset.json").read_text())
    assert described["labels"] == [[n, int(c)] for n, c in zip(names, original.labels.argmax(axis=1), strict=True)]


def test_lower_resolution(golden, original, tmp_path):
    folder = unpack(golden.path("tfrecords_official"), tmp_path / "small", "--resolution", 8)
    with Image.open(folder / "00000/img00000003.png") as image:
        np.testing.assert_array_equal(np.asarray(image).transpose(2, 0, 1), original.read(np.array([3]), lod=2)[0])
    assert "resolution 7" in fails(
        "unpack", "--tfrecord_dir", golden.path("tfrecords_official"), "--output_dir", tmp_path / "b", "--resolution", 7
    )


def test_full_folders_are_left_alone(golden, unpacked):
    line = fails("unpack", "--tfrecord-dir", golden.path("tfrecords_official"), "--output-dir", unpacked)
    assert f"{unpacked} is not an empty folder" in line


def test_interrupted_unpacking_leaves_nothing(golden, tmp_path, monkeypatch):
    read = TFRecordDataset.read
    monkeypatch.setattr(TFRecordDataset, "read", lambda self, i, lod=0: read(self, i, lod) if i[0] < 9 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tool("unpack", "--tfrecord_dir", golden.path("tfrecords_official"), "--output_dir", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- and back


@pytest.mark.parametrize("step", ["pathlib.Path.write_bytes", "training.published.png_layout.write_description"])
def test_unpacking_onto_a_full_disk_leaves_nothing(golden, tmp_path, monkeypatch, step):
    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(step, refuse)
    target = tmp_path / "out"
    text = fails("unpack", "--tfrecord_dir", golden.path("tfrecords_official"), "--output_dir", target)
    assert f"cannot write {target}: No space left on device" in text
    assert list(tmp_path.iterdir()) == []


def test_round_trip_is_byte_identical(golden, unpacked, tmp_path):
    published = golden.path("tfrecords_official")
    pack(unpacked, tmp_path / "tfrecords_official")
    names = sorted(path.name for path in (tmp_path / "tfrecords_official").iterdir())
    assert names == ["dataset.json", *sorted(path.name for path in published.iterdir())]
    for path in published.iterdir():
        assert (tmp_path / "tfrecords_official" / path.name).read_bytes() == path.read_bytes()


def test_round_trip_of_grey_images_without_labels(golden, tmp_path):
    published = golden.path("tfrecords_official_gray")
    folder = unpack(published, tmp_path / "unpacked")
    assert json.loads((folder / "dataset.json").read_text()) == {"labels": None}
    pack(folder, tmp_path / "tfrecords_official_gray")
    for path in published.iterdir():
        assert (tmp_path / "tfrecords_official_gray" / path.name).read_bytes() == path.read_bytes()


def test_order_is_mixed_by_a_seed(unpacked, original, tmp_path):
    dataset = pack(unpacked, tmp_path / "out", "--seed", 5)
    order = published_order(20, 5)
    np.testing.assert_array_equal(everything(dataset), everything(original)[order])
    np.testing.assert_array_equal(dataset.labels, original.labels[order])


def test_held_out_images(unpacked, original, tmp_path):
    options = ("--num_train", 12, "--num_validation", 5, "--seed", 5, "--mirror", 1)
    output = tool("pack", "--unpacked_dir", unpacked, "--tfrecord_dir", tmp_path / "out", *options).output
    assert "Wrote 24 images" in output and "Held out 5 images" in output
    order = published_order(20, 5)
    dataset = TFRecordDataset(tmp_path / "out")
    np.testing.assert_array_equal(everything(dataset)[0::2], everything(original)[order[:12]])
    np.testing.assert_array_equal(everything(dataset)[1::2], everything(original)[order[:12]][..., ::-1])
    np.testing.assert_array_equal(dataset.labels, np.repeat(original.labels[order[:12]], 2, axis=0))
    for level in range(2, 6):
        records = RecordFile(tmp_path / "out" / f"validation-out-r{level:02d}.tfrecords")
        found = np.stack([records.read_image(i) for i in range(len(records))])
        np.testing.assert_array_equal(found, original.read(order[12:17], lod=5 - level))
    held_out = np.load(tmp_path / "out" / "validation-out-rxx.labels")
    np.testing.assert_array_equal(held_out, original.labels[order[12:17]])
    assert read_info(tmp_path / "out").num_validation == 5
    tool("verify", tmp_path / "out")
    # All that are not held out, in place of the old ones.
    dataset = pack(unpacked, tmp_path / "out", "--num_validation", 3, "--overwrite")
    np.testing.assert_array_equal(everything(dataset), everything(original)[:17])
    assert len(RecordFile(tmp_path / "out" / "validation-out-r05.tfrecords")) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "unpacked"]


def test_labels_that_are_no_classes(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    images = make(tmp_path / "in", vectors)
    folder = unpack(tmp_path / "in", tmp_path / "unpacked")
    assert json.loads((folder / "dataset.json").read_text())["labels"][2] == [image_name(2), vectors[2].tolist()]
    dataset = pack(folder, tmp_path / "out")
    np.testing.assert_array_equal(dataset.labels, vectors)
    np.testing.assert_array_equal(everything(dataset), images)
    (folder / "pack_extras.npz").unlink()
    np.testing.assert_array_equal(pack(folder, tmp_path / "b").labels, vectors)


def test_classes_without_images_and_names_survive(tmp_path):
    labels = np.eye(4, dtype=np.float32)[[0, 2, 0, 1]]  # none of the last class
    make(tmp_path / "in", labels, ("a", "b", "c", "ü"))
    folder = unpack(tmp_path / "in", tmp_path / "unpacked")
    for name in ("pack_extras.npz", "dataset.json"):
        dataset = pack(folder, tmp_path / f"without {name}")
        np.testing.assert_array_equal(dataset.labels, labels)
        if name == "pack_extras.npz":
            assert dataset.class_names == ("a", "b", "c", "ü")
        (folder / name).unlink()
    assert pack(folder, tmp_path / "without labels").label_size == 0


@pytest.mark.parametrize("kind", ["<f4", "<f8", "i2", "by columns", "compressed"])
def test_extras_of_any_kind(tmp_path, kind):
    folder = small_folder(tmp_path / "in", "null")
    labels = np.array([[0, 300, -2], [5, 6, 7]], np.dtype(kind) if kind[-1].isdigit() else np.float32)
    write = np.savez_compressed if kind == "compressed" else np.savez
    write(
        folder / "pack_extras.npz", num_images=2, labels=np.asfortranarray(labels) if kind == "by columns" else labels
    )
    np.testing.assert_array_equal(pack(folder, tmp_path / "out").labels, labels)


def test_extras_are_what_numpy_reads(tmp_path):
    for number, value in enumerate((255, 0.5)):
        labels = np.array([[0, value], [1, 2]], np.float32)
        with open(tmp_path / f"{number}.npz", "xb") as file:
            write_extras(file, labels)
        with np.load(tmp_path / f"{number}.npz") as content:
            assert content["num_images"] == 2 and content["labels"].dtype == (np.float32 if number else np.uint8)
            np.testing.assert_array_equal(content["labels"], labels)


def test_folders_of_other_tools(tmp_path):
    """Any PNG names, and labels only in dataset.json."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    for name, image in zip(("b.png", "c/x.png", "a.png"), pixels, strict=True):
        save(tmp_path / "in" / name, image)
    (tmp_path / "in" / ".hidden.png").write_bytes(b"")
    (tmp_path / "in" / "dataset.json").write_text('{"labels": [["c/x.png", 1], ["a.png", 2], ["b.png", 0]]}')
    dataset = pack(tmp_path / "in", tmp_path / "out")
    np.testing.assert_array_equal(everything(dataset), pixels.transpose(0, 3, 1, 2)[[2, 0, 1]])
    np.testing.assert_array_equal(dataset.labels.argmax(axis=1), [2, 0, 1])


# ---------------------------------------------------------------- what may be wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--num_train", 18, "--num_validation", 3), "18 images for training and 3 for validation, but there are 20"),
        (("--num_validation", 20), "0 images for training and 20 for validation, but there are 20"),
        (("--seed", -1), "--seed is -1"),
    ],
)
def test_numbers_that_cannot_be(unpacked, tmp_path, options, message):
    assert message in fails("pack", "--unpacked_dir", unpacked, "--tfrecord_dir", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_folders_that_cannot_be_packed(unpacked, tmp_path):
    def line() -> str:
        text = fails("pack", "--unpacked_dir", unpacked, "--tfrecord_dir", tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["unpacked"]
        return text

    def changed(name: str, data: bytes, message: str) -> None:
        before = (unpacked / name).read_bytes()
        (unpacked / name).write_bytes(data)
        assert message in line() and name in line()
        (unpacked / name).write_bytes(before)

    image = "00000/img00000007.png"
    changed(image, (unpacked / image).read_bytes()[:900], "cannot read")
    changed(image, b"", "cannot read")
    for pixels, message in (
        (np.zeros((16, 16, 3), np.uint8), "shape [3, 16, 16], expected [3, 32, 32] like 00000/img00000000.png"),
        (np.zeros((32, 32), np.uint16), "mode I;16"),
    ):
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "png")
        changed(image, out.getvalue(), message)
    changed("pack_extras.npz", b"text", "cannot read")
    out = io.BytesIO()
    np.savez(out, num_images=19, labels=np.zeros((19, 0), np.uint8))
    changed("pack_extras.npz", out.getvalue(), "num_images is 19, but there are 20 PNG files")
    out = io.BytesIO()
    np.savez(out, num_images=20, labels=np.array([[{}]] * 20))
    changed("pack_extras.npz", out.getvalue(), "labels are object [20, 1], expected numbers")
    out = io.BytesIO()
    np.savez(out, num_images=20, labels=np.zeros((20, 1 << 17), np.uint8)[:, ::2])
    changed("pack_extras.npz", out.getvalue()[:-400], "cannot read")
    out = io.BytesIO()
    np.savez(out, num_images=20, labels=np.zeros((20, (1 << 16) + 1), np.uint8))
    changed("pack_extras.npz", out.getvalue(), "labels are uint8 [20, 65537], expected numbers [20, label_size")
    (unpacked / "pack_extras.npz").unlink()
    for text, message in (
        ("[]", "expected {'labels'"),
        ("{", "expected {'labels'"),
        ('{"labels": [["a.png", 1]]}', "no label for 00000/img00000000.png (20 are missing)"),
    ):
        changed("dataset.json", text.encode(), message)
    described = json.loads((unpacked / "dataset.json").read_text())
    described["labels"][3][1] = [1, 2]
    changed("dataset.json", json.dumps(described).encode(), "00000/img00000003.png: a vector of 2 numbers")
    shutil.rmtree(unpacked / "00000")
    assert "holds no *.png" in line()


_DEEP, _DIGITS = "[" * 20000 + "]" * 20000, "9" * 6000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f'{{"labels": [["a.png", {_DEEP}]]}}', "lists in lists without end"),
        (f'{{"labels": [{_DEEP}]}}', "lists in lists without end"),
        (f'{{"a": {_DIGITS}, "labels": null}}', "integer overflow"),
        (f'{{"labels": null, "class_names": [{_DIGITS}]}}', "integer overflow"),
        ('{"labels": [["a.png", 0], ["b.png", 1]], "class_names": ["cat", "cat"]}', "class_names has 'cat' twice"),
        ('{"labels": [["a.png", 0], ["b.png", 1]], "class_names": ["cat", null]}', "class_names has null"),
    ],
)
def test_json_that_no_program_writes(tmp_path, text, told):
    """Some of it ended the process, and some was taken."""
    folder = small_folder(tmp_path / "in", "null")
    (folder / "dataset.json").write_text(text)
    line = fails("pack", "--unpacked_dir", folder, "--tfrecord_dir", tmp_path / "out")
    assert f"{folder / 'dataset.json'}: " in line and told in line


def small_folder(path: Path, labels: str) -> Path:
    """Two images, a.png and b.png, with a dataset.json of these labels."""
    for name in ("a.png", "b.png"):
        save(path / name, np.zeros((8, 8, 3), np.uint8))
    (path / "dataset.json").write_text(f'{{"labels": {labels}}}')
    return path


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("null", "None"),
        ('"3"', "'3'"),
        ("true", "True"),
        ("-1", "-1"),
        ("1.5", "1.5"),
        ("99999999999", "99999999999"),
        ("[]", "[]"),
        ("{}", "{}"),
        ("[1, null]", "None"),
        ('[1, "2"]', "'2'"),
        ("[1, false]", "False"),
        ("[1, [2]]", "[2]"),
        ("[1, 1e39]", "1e+39"),
        ("[1, 2, 3]", "3 numbers"),
    ],
)
def test_labels_in_json_that_are_no_labels(tmp_path, label, shown):
    first = "[1, 2]" if label.startswith("[1") else "0"
    folder = small_folder(tmp_path / "in", f'[["a.png", {first}], ["b.png", {label}]]')
    text = fails("pack", "--unpacked_dir", folder, "--tfrecord_dir", tmp_path / "out")
    assert f"{folder / 'dataset.json'}: b.png: " in text and shown in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("row", ['"a.png"', '["a.png"]', '["a.png", 0, 1]', "[0, 0]", "7"])
def test_rows_in_json_that_are_no_pairs(tmp_path, row):
    folder = small_folder(tmp_path / "in", f'[["b.png", 0], {row}]')
    text = fails("pack", "--unpacked_dir", folder, "--tfrecord_dir", tmp_path / "out")
    assert str(folder / "dataset.json") in text and "expected [file, class or vector]" in text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_labels_that_are_not_finite_are_not_written(tmp_path, value):
    labels = np.array([[0, 1], [value, 0.5]], np.float32)
    with pytest.raises(UserError, match="label 1 .*not finite"):
        make(tmp_path / "in", labels)
    assert not (tmp_path / "in").exists()
    with pytest.raises(UserError, match="label 1 .*not finite"):
        write_description(io.BytesIO(), labels)
    folder = small_folder(tmp_path / "small", "null")
    np.savez(folder / "pack_extras.npz", num_images=2, labels=labels)
    text = fails("pack", "--unpacked_dir", folder, "--tfrecord_dir", tmp_path / "out")
    assert f"{folder / 'pack_extras.npz'}: label 1 is not finite" in text and not (tmp_path / "out").exists()


def test_entries_that_cannot_be_read(tmp_path):
    folder = small_folder(tmp_path / "in", "null")

    def line() -> str:
        return fails("pack", "--unpacked_dir", folder, "--tfrecord_dir", tmp_path / "out")

    (folder / "notes.txt").symlink_to("nowhere")  # nobody would take it for an image
    for name, target in (("c.png", "nowhere"), ("d", "nowhere either"), ("loop.png", "loop.png")):
        (folder / name).symlink_to(target)
        assert f"{folder / name}: a link to nothing" in line()
        (folder / name).unlink()
    os.mkfifo(folder / "e.png")
    assert f"{folder / 'e.png'}: not a regular file" in line()
    (folder / "e.png").unlink()
    assert pack(folder, tmp_path / "out").num_images == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_folders_that_must_not_be_read(tmp_path):
    folder = small_folder(tmp_path / "in", "null")
    (folder / "closed.folder").mkdir(mode=0)
    text = fails("pack", "--unpacked_dir", folder, "--tfrecord_dir", tmp_path / "out")
    assert f"{folder / 'closed.folder'}: the folder cannot be read (Permission denied)" in text


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    folder = small_folder(tmp_path / "in", "null")
    (folder / "closed.folder").mkdir()
    scan = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("closed.folder"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    text = fails("pack", "--unpacked_dir", folder, "--tfrecord_dir", tmp_path / "out")
    assert f"{folder / 'closed.folder'}: the folder cannot be read (Permission denied)" in text


# ---------------------------------------------------------------- zip


def test_zip_is_the_unpacked_folder(golden, unpacked, tmp_path):
    path = tmp_path / "out.zip"
    tool("export_zip", golden.path("tfrecords_official"), path)
    with zipfile.ZipFile(path) as archive:
        files = sorted(p.relative_to(unpacked).as_posix() for p in unpacked.rglob("*") if p.is_file())
        assert sorted([*archive.namelist(), "pack_extras.npz"]) == files
        for info in archive.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            assert archive.read(info) == (unpacked / info.filename).read_bytes()
    again = tmp_path / "again.zip"
    tool("export_zip", golden.path("tfrecords_official"), again)
    assert again.read_bytes() == path.read_bytes()
    assert "out.zip is there already" in fails("export_zip", golden.path("tfrecords_official"), path)


def test_commands_start_without_the_optional_packages():
    code = (
        "import sys; sys.modules['lmdb'] = sys.modules['h5py'] = None; import dataset_tool; "
        "dataset_tool.cli(['create_lsun', '--help'], standalone_mode=False)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--resolution" in done.stdout, done.stderr


def test_commands_without_a_source_say_so(tmp_path):
    """Every command reaches its source with its options, and ends with a line about it."""
    for command in ("mnist", "mnistrgb", "cifar10", "cifar100", "svhn", "lsun", "lsun_wide", "celeba", "from_hdf5"):
        options = () if command == "mnistrgb" else ("--shuffle", 0, "--seed", 1, "--max_images", 2)
        assert "nowhere" in fails(f"create_{command}", tmp_path / "out", tmp_path / "nowhere", *options)
    assert list(tmp_path.iterdir()) == []


def test_mnist_by_command(tmp_path):
    digits = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    write_idx(tmp_path / "in" / "train-images-idx3-ubyte.gz", digits)
    write_idx(tmp_path / "in" / "train-labels-idx1-ubyte.gz", np.arange(5, dtype=np.uint8))
    output = tool("create_mnist", tmp_path / "out", tmp_path / "in", "--seed", 3, "--max-images", 4).output
    assert "Wrote 4 images of 32x32x1" in output and "10 classes" in output
    dataset = TFRecordDataset(tmp_path / "out")
    order = published_order(5, 3)[:4]
    np.testing.assert_array_equal(everything(dataset)[:, 0, 2:30, 2:30], digits[order])
    np.testing.assert_array_equal(dataset.labels.argmax(axis=1), order)
    tool("create_mnistrgb", tmp_path / "rgb", tmp_path / "in", "--num_images", 3, "--random-seed", 4)
    chosen = np.random.RandomState(4).randint(5, size=(3, 3))
    np.testing.assert_array_equal(everything(TFRecordDataset(tmp_path / "rgb"))[..., 2:30, 2:30], digits[chosen])
