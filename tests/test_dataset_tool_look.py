"""Commands that look at data sets, on every encoding: display, info, extract, compare, verify and its repairs."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import dataset_tool
from tests.record_sets import pictures, write_set
from training import dataset_labels
from training.dataset import TFRecordDataset
from training.dataset_inspect import label_kind, mean_image, raw_bytes
from training.encodings import ENCODINGS, encode_file
from training.example import encode_bytes
from training.pyramid import pyramid
from training.tfrecord import RecordFile, frame

LABELS = np.eye(3)[[0, 1, 2, 0, 1, 2, 0, 0, 0, 0]]


def tool(*args: object, code: int = 0) -> Result:
    """Runs a command; the exit code must be `code`."""
    result = CliRunner().invoke(dataset_tool.cli, [str(arg) for arg in args], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def error(*args: object) -> str:
    (line,) = [line for line in tool(*args, code=2).stderr.splitlines() if line.startswith("error: ")]
    return line


def problems(path: Path) -> list[str]:
    lines = tool("verify", path, code=1).stderr.splitlines()
    return [line.removeprefix("problem: ") for line in lines if line.startswith("problem: ")]


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@pytest.fixture(params=ENCODINGS)
def labelled(request, tmp_path) -> Path:
    """10 images of 16 x 8 in each encoding, 3 classes, 4 held-out images."""
    held_out = pictures(4, (3, 16, 8), seed=1)
    return write_set(
        tmp_path / "set", pictures(10, (3, 16, 8)), request.param, None, LABELS, held_out, np.eye(3)[[2, 1, 0, 1]],
        ("cat", "dog", "yak"),
    )  # fmt: skip


# ---------------------------------------------------------------- looking


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 40), (4, 24, 16)])
@pytest.mark.parametrize("encoding", ["raw", "png", "webp"])
def test_extract_and_display(tmp_path, encoding, shape):
    images = pictures(5, shape)
    path = write_set(tmp_path / "set", images, encoding, labels=LABELS[:5])
    tool("extract", path, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.png"))) == 5
    for index, image in enumerate(images):
        np.testing.assert_array_equal(pixels_of(tmp_path / "out" / f"img{index:08d}.png"), image)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "labels.npy"), LABELS[:5])
    _, height, width = shape
    tool("display", path, "--out", tmp_path / "sheet.png", "--columns", 2)
    sheet = pixels_of(tmp_path / "sheet.png")
    assert sheet.shape == (shape[0], 3 * height, 2 * width)
    np.testing.assert_array_equal(sheet[:, height : 2 * height, width:], images[3])
    assert (sheet[:, 2 * height :, width:] == 255).all()
    tool("display", path, "--out", tmp_path / "small.png", "--columns", 2, "--max-side", max(height, width) - 1)
    small = pixels_of(tmp_path / "small.png")
    np.testing.assert_array_equal(small[:, : height // 2, : width // 2], pyramid(images[0])[1])


def test_display_in_a_window(labelled, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda image, title: shown.append((image.size, title)))
    monkeypatch.chdir(tmp_path)
    tool("display", labelled, "--show", "--columns", 5)
    assert shown == [((40, 32), "set")]
    assert not (tmp_path / "set-sheet.png").exists()
    tool("display", labelled, "--validation", "--columns", 5)
    assert pixels_of(tmp_path / "set-sheet.png").shape == (3, 16, 32)


def test_info(labelled, tmp_path):
    encoding = TFRecordDataset(labelled).encoding
    output = tool("info", labelled, "--mean-image", tmp_path / "mean.png").output
    assert f"Images: 10 of 8x16x3, {encoding}" in output
    assert "Labels: 3 numbers per image, one-hot" in output
    rows = [line.replace("│", " ").split() for line in output.splitlines()]
    assert ["0", "cat", "6"] in rows and ["2", "yak", "2"] in rows
    assert any(row[:2] == ["set-r04.tfrecords", "10"] for row in rows)
    assert any(row[:2] == ["validation-set-r04.tfrecords", "4"] for row in rows)
    size = sum(path.stat().st_size for path in labelled.glob("*.tfrecords"))
    as_raw = 14 * raw_bytes((3, 16, 8))
    assert f"{size / as_raw:.2f} of raw records of all levels" in output
    if encoding == "raw":
        assert size == as_raw
    images = TFRecordDataset(labelled).read(np.arange(10))
    np.testing.assert_array_equal(pixels_of(tmp_path / "mean.png"), np.rint(images.mean(axis=0, dtype=np.float64)))
    assert "Images: 4 of 8x16x3" in tool("info", labelled, "--validation").output


def test_mean_image_in_several_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("training.dataset_inspect._CHUNK_BYTES", 2000)
    images = pictures(11, (3, 16, 16))
    dataset = TFRecordDataset(write_set(tmp_path / "a", images))
    np.testing.assert_array_equal(mean_image(dataset), np.rint(images.mean(axis=0, dtype=np.float64)))


@pytest.mark.parametrize(
    ("labels", "kind", "rows"),
    [
        (np.zeros((3, 0)), "none", []),
        ([[1, 1, 0], [0, 1, 0], [0, 0, 0]], "multi-hot", [["0", "0", "1"], ["1", "1", "2"], ["2", "2", "0"]]),
        ([[0.5, -2], [1.5, 4], [1, 4]], "continuous", [["0", "0", "0.5", "1", "1.5", "0.4082"]]),
    ],
)
def test_info_about_labels(tmp_path, labels, kind, rows):
    labels = np.asarray(labels, np.float32)
    assert label_kind(labels) == kind
    path = write_set(tmp_path / "set", pictures(3, (3, 8, 8)), labels=labels if labels.size else None)
    output = tool("info", path).output
    found = [line.replace("│", " ").split() for line in output.splitlines()]
    assert all(row in found for row in rows)
    assert ("Labels: none" if kind == "none" else f", {kind}") in output
    assert ("Set per image: 1.00 on average, 0 to 2" in output) == (kind == "multi-hot")


def test_compare_across_encodings(tmp_path):
    images = pictures(6, (4, 8, 16))
    raw = write_set(tmp_path / "raw", images, "raw", labels=LABELS[:6])
    png = write_set(tmp_path / "png", images, "png", labels=LABELS[:6])
    assert "All 6 images are identical." in tool("compare", raw, png).output
    images[2, 0, 0, 0] ^= 1
    webp = write_set(tmp_path / "webp", images, "webp", labels=LABELS[:6])
    assert "1 of 6 images differ (the first: 2)" in tool("compare", png, webp, code=1).output


def test_compare_counts_all_and_names_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_labels, "_PART_BYTES", 16)  # parts of a few labels
    images, labels = pictures(12, (3, 8, 8)), np.arange(24, dtype=np.float32).reshape(12, 2)
    one = write_set(tmp_path / "one", images, labels=labels)
    images[3:] ^= 1
    labels[5:] += 1
    other = write_set(tmp_path / "other", images, labels=labels)
    output = tool("compare", one, other, code=1).output
    assert "9 of 12 images differ (the first: 3, 4, 5, 6, 7)" in output
    assert "7 of 12 labels differ (the first: 5, 6, 7, 8, 9)" in output
    assert "labels" not in tool("compare", one, other, "--ignore-labels", 1, code=1).output


# ---------------------------------------------------------------- verify


def test_nothing_is_wrong(labelled):
    output = tool("verify", labelled).output
    assert "Everything is in order." in output
    assert "set-r04.tfrecords: 10 images of 8x16, 0 broken" in output
    assert "validation-set-r04.tfrecords: 4 images of 8x16, 0 broken" in output


def break_image(path: Path, index: int, held_out: bool = False) -> None:
    """Replaces the image of a record by half of one, with right checksums."""
    file = path / f"{'validation-' if held_out else ''}set-r04.tfrecords"
    records = RecordFile(file)
    image, kind = records.read_image(index), records.encoding(index)
    half = image.tobytes()[:99] if kind == "raw" else encode_file(image, kind)[:99]
    content = bytearray(file.read_bytes())
    start = int(records.starts[index])
    content[start : start + int(records.lengths[index]) + 16] = frame(encode_bytes(half, image.shape))
    file.write_bytes(content)


def test_broken_images_and_held_out_ones_are_found(labelled):
    break_image(labelled, 3)
    break_image(labelled, 2, held_out=True)
    found = problems(labelled)
    assert "set-r04.tfrecords: record 3 is broken: " in found[0]
    assert any("validation-set-r04.tfrecords: record 2 is broken: " in line for line in found)
    assert any("dataset.json: content_hash" in line for line in found)


def test_dataset_json_against_the_files(labelled):
    info = json.loads((labelled / "dataset.json").read_text())
    wrong = {"height": 8, "width": 16, "channels": 1, "num_validation": 5, "encoding": "raw"}
    if info["encoding"] == "raw":
        wrong["encoding"] = "png"
    (labelled / "dataset.json").write_text(json.dumps({**info, **wrong}))
    found = [line.split(" is ")[0].removeprefix("dataset.json: ") for line in problems(labelled)]
    assert set(found) == set(wrong)
    for file in labelled.glob("validation-*"):
        file.unlink()
    assert "dataset.json: num_validation is 5, there are no files validation-*" in problems(labelled)


def test_a_file_that_is_cut_off(labelled):
    file = labelled / "set-r04.tfrecords"
    file.write_bytes(file.read_bytes()[:-5])
    found = problems(labelled)
    assert "record 9 is broken: the file is cut off, 5 bytes are missing" in found[0]


# ---------------------------------------------------------------- repair


def check_repaired(path: Path, new: Path, dropped: set[int], dropped_held_out: set[int], before: dict) -> None:
    keep = [index for index in range(10) if index not in dropped]
    keep_held_out = [index for index in range(4) if index not in dropped_held_out]
    for validation, kept in ((False, keep), (True, keep_held_out)):
        dataset = TFRecordDataset(new, validation=validation)
        for lod in (0, 1):
            expected = before[validation][lod][kept]
            np.testing.assert_array_equal(dataset.read(np.arange(len(kept)), lod), expected)
        np.testing.assert_array_equal(dataset.labels, before[validation][2][kept])
        assert dataset.class_names == ("cat", "dog", "yak")
    info = json.loads((new / "dataset.json").read_text())
    assert (info["num_images"], info["num_validation"]) == (len(keep), len(keep_held_out))
    assert info["source"]["num_dropped"] == len(dropped) + len(dropped_held_out)
    assert "Everything is in order." in tool("verify", new).output
    with open(new / "skipped.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert len(rows) == len(dropped) + len(dropped_held_out)
    assert sorted(item.name for item in path.parent.iterdir()) == ["new", "set"]


def content_of(path: Path) -> dict:
    parts = {}
    for validation in (False, True):
        dataset = TFRecordDataset(path, validation=validation)
        every = np.arange(dataset.num_images)
        parts[validation] = (dataset.read(every), dataset.read(every, 1), dataset.labels)
    return parts


def test_repair_drops_broken_records(labelled, tmp_path):
    before = content_of(labelled)
    break_image(labelled, 3)
    break_image(labelled, 0, held_out=True)
    file = labelled / "set-r04.tfrecords"
    records = RecordFile(file)
    content = bytearray(file.read_bytes())
    content[int(records.starts[7]) + 30] ^= 64
    file.write_bytes(content)
    old = {item.name: item.read_bytes() for item in labelled.iterdir()}
    output = tool("verify", labelled, "--repair", tmp_path / "new").output
    assert "dropped set-r04.tfrecords: record 3: " in output and "dropped set-r04.tfrecords: record 7: " in output
    assert f"Wrote 8 images and 3 held-out ones to {tmp_path / 'new'}, dropped 3." in output
    assert old == {item.name: item.read_bytes() for item in labelled.iterdir()}
    check_repaired(labelled, tmp_path / "new", {3, 7}, {0}, before)


def test_repair_of_many_records_names_the_first(tmp_path):
    count = 30
    labels = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    path = write_set(tmp_path / "set", pictures(count, (3, 8, 16)), "png", labels=labels)
    broken = set(range(1, 26))
    for index in broken:
        break_image(path, index)
    lines = tool("verify", path, code=1).output.splitlines()
    assert sum("is broken" in line for line in lines) == 20
    output = tool("verify", path, "--repair", tmp_path / "new").output
    assert output.count("dropped set-r04.tfrecords: record") == 20
    assert f"... and 5 more, all listed in {tmp_path / 'new' / 'skipped.csv'}" in output
    with open(tmp_path / "new" / "skipped.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows[1:]] == [f"set-r04.tfrecords: record {index}" for index in sorted(broken)]
    dataset = TFRecordDataset(tmp_path / "new")
    np.testing.assert_array_equal(dataset.labels, labels[[0, *range(26, count)]])


def test_repair_of_a_file_that_is_cut_off(labelled, tmp_path):
    before = content_of(labelled)
    file = labelled / "set-r04.tfrecords"
    starts = RecordFile(file).starts
    file.write_bytes(file.read_bytes()[: int(starts[8]) + 40])
    output = tool("verify", labelled, "--repair", tmp_path / "new").output
    assert "Wrote 8 images" in output
    # What is not in the file at all is not dropped from it; the cut record is.
    dataset = TFRecordDataset(tmp_path / "new")
    np.testing.assert_array_equal(dataset.read(np.arange(8)), before[False][0][:8])
    np.testing.assert_array_equal(dataset.labels, before[False][2][:8])
    tool("verify", tmp_path / "new")


def test_repair_of_a_damaged_length(labelled, tmp_path):
    before = content_of(labelled)
    file = labelled / "set-r04.tfrecords"
    start = int(RecordFile(file).starts[4])
    content = bytearray(file.read_bytes())
    content[start + 1] ^= 2
    file.write_bytes(content)
    tool("verify", labelled, "--repair", tmp_path / "new")
    check_repaired(labelled, tmp_path / "new", {4}, set(), before)


def test_labels_that_nobody_can_assign(tmp_path):
    """Two records of unequal length are lost in one stretch, which looks like one."""
    images = pictures(10, (3, 16, 8))
    for index, image in enumerate(images):
        image[:, index:] = 0
    path = write_set(tmp_path / "set", images, "png", labels=LABELS)
    file = path / "set-r04.tfrecords"
    starts = RecordFile(file).starts
    content = bytearray(file.read_bytes())
    content[int(starts[4]) : int(starts[6])] = bytes(int(starts[6] - starts[4]))
    file.write_bytes(content)
    text = error("verify", path, "--repair", tmp_path / "new")
    assert "10 labels, but 9 records were found, so that nobody can tell which labels belong to which" in text
    assert sorted(item.name for item in tmp_path.iterdir()) == ["set"]
    (path / "set-rxx.labels").unlink()
    assert "Wrote 8 images" in tool("verify", path, "--repair", tmp_path / "new").output


def test_repair_of_one_level_drops_the_image_from_all(golden, tmp_path):
    path = tmp_path / "tfrecords_official"
    shutil.copytree(golden.path("tfrecords_official"), path)
    file = path / "tfrecords_official-r03.tfrecords"
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[13 * len(content) // 20 + 60] ^= 4
    file.write_bytes(content)
    tool("verify", path, "--repair", tmp_path / "new")
    keep = [index for index in range(20) if index != 13]
    whole, new = TFRecordDataset(golden.path("tfrecords_official")), TFRecordDataset(tmp_path / "new")
    for lod in range(4):
        np.testing.assert_array_equal(new.read(np.arange(19), lod), whole.read(np.array(keep), lod))
    np.testing.assert_array_equal(new.labels, whole.labels[keep])
    assert sorted(item.name for item in (tmp_path / "new").glob("*.tfrecords")) == [
        f"new-r{number:02d}.tfrecords" for number in (2, 3, 4, 5)
    ]


def test_repairs_that_are_refused(labelled, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    assert "full exists already; give the name of a new directory" in error(
        "verify", labelled, "--repair", tmp_path / "full"
    )
    for index in range(10):
        break_image(labelled, index)
    assert "set-r04.tfrecords: record 0 is broken" in error("verify", labelled, "--repair", tmp_path / "new")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["full", "set"]
