"""Advice against lossless copies of lossy files; cleaning commands on archives and lists."""

from __future__ import annotations

import csv
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.dataset_tools import tool
from training import build_sample, encodings
from training.dataset import TFRecordDataset
from training.encodings import encode_file


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Six JPEG files of 64x32, the last of which is the first once more."""
    folder = tmp_path_factory.mktemp("photos") / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(5):
        small = Image.fromarray(rng.integers(0, 256, (8, 16, 3), np.uint8))
        small.resize((64, 32), Image.Resampling.BICUBIC).save(folder / f"{index}.jpg", quality=75)
    (folder / "5.jpg").write_bytes((folder / "0.jpg").read_bytes())
    return folder


def test_png_of_jpeg_files_is_advised_against(photos, tmp_path):
    output = tool("create_from_images", tmp_path / "png", photos, "--encoding", "png").output
    (line,) = (line for line in output.splitlines() if "compressed with loss" in line)
    factor = float(line.partition("makes these files ")[2].split()[0])
    source = sum(path.stat().st_size for path in photos.iterdir())
    records = (tmp_path / "png" / "png-r06.tfrecords").stat().st_size
    assert factor == pytest.approx(records / source, abs=0.06)
    # Those files fit as they are: jpeg takes them over, with the frame of a record around each.
    kept = tool("create_from_images", tmp_path / "jpeg", photos, "--encoding", "jpeg").output
    records = (tmp_path / "jpeg" / "jpeg-r06.tfrecords").stat().st_size
    assert f"With --encoding jpeg it is {records / source:.1f} times." in line and records < 1.1 * source
    assert "compressed with loss" not in kept


def test_the_advice_costs_no_second_encoding(photos, tmp_path, monkeypatch):
    """A sample tells how large the data set will be, the advice takes the same one, and it is what is written."""
    encoded = []

    def counting(image: np.ndarray, name: str, quality: int | None = None) -> bytes:
        encoded.append(name)
        return encode_file(image, name, quality)

    monkeypatch.setattr(encodings, "encode_file", counting)
    tool("create_from_images", tmp_path / "png", photos, "--encoding", "png", "--resolution", 16, "--workers", 1)
    assert encoded.count("png") == len(list(photos.iterdir()))
    assert encoded.count("jpeg") == len(list(photos.iterdir()))


def test_png_of_png_files_is_not(photos, tmp_path):
    (tmp_path / "in").mkdir()
    for path in photos.iterdir():
        Image.open(path).save(tmp_path / "in" / f"{path.stem}.png")
    output = tool("create_from_images", tmp_path / "out", tmp_path / "in", "--encoding", "png").output
    assert "compressed with loss" not in output
    source = sum(path.stat().st_size for path in (tmp_path / "in").iterdir())
    assert (tmp_path / "out" / "out-r06.tfrecords").stat().st_size < 1.1 * source


def _packed(photos: Path, folder: Path, kind: str) -> Path:
    path = folder / f"in.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(photos.iterdir()):
                archive.write(file, file.name)
    elif kind == "txt":
        path.write_text("".join(f"{file}\n" for file in sorted(photos.iterdir())))
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(photos, ".")
    return path


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "txt"])
def test_clean_looks_into_what_conversion_takes(photos, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    given = _packed(photos, tmp_path, kind)
    output = tool("clean", given, "--drop-duplicates", "--workers", 1).output
    assert "6 images: 5 kept, 1 dropped, 0 unreadable" in output
    with open("clean.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["name"]).name for row in rows] == [f"{index}.jpg" for index in range(6)]
    assert [row["verdict"] for row in rows] == ["keep"] * 5 + ["drop"]


def test_images_in_archives_are_no_files_to_list_or_move(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = _packed(photos, tmp_path, "zip")
    error = tool("clean", given, "--drop-duplicates", "--apply", "list", "kept.txt", code=2).stderr
    assert "unpack it, or give the same filters to create_from_images" in error
    assert not (tmp_path / "kept.txt").exists()
    listed = _packed(photos, tmp_path, "txt")
    tool("clean", listed, "--drop-duplicates", "--apply", "list", "kept.txt", "--workers", 1)
    assert [Path(line).name for line in Path("kept.txt").read_text().split()] == [f"{i}.jpg" for i in range(5)]


@pytest.mark.parametrize("limit", [None, 0])
def test_images_of_the_sample_are_written_in_their_places(tmp_path, monkeypatch, limit):
    """Bad files and held-out images are among those that are encoded before, whether or not they wait in memory."""
    if limit is not None:
        monkeypatch.setattr(build_sample, "_SAMPLE_BYTES", limit)
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for index in range(70):
        path = tmp_path / "in" / f"{index:02d}.png"
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
        if index in (0, 14, 69, 7):  # the first three are of the sample
            path.write_bytes(path.read_bytes()[:60])
    for encoding in ("raw", "png"):
        tool("create_from_images", tmp_path / encoding / "set", tmp_path / "in", "--encoding", encoding,
             "--validation", 30, "--workers", 1)  # fmt: skip
    raw, png = tmp_path / "raw" / "set", tmp_path / "png" / "set"
    tool("compare", raw, png)
    for validation in (False, True):
        pair = [TFRecordDataset(path, validation=validation) for path in (raw, png)]
        everything = np.arange(pair[0].num_images)
        np.testing.assert_array_equal(pair[0].read(everything), pair[1].read(everything))
    assert (raw / "skipped.csv").read_bytes() == (png / "skipped.csv").read_bytes()
    assert len((raw / "skipped.csv").read_text().splitlines()) == 5
