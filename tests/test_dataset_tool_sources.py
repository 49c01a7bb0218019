"""Where images come from (folders, archives, lists), what labels they have, and how they are stored."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.dataset_tools import bytes_of, fails, files_of, images_of, tool
from tests.hostile_images import PICTURE, encoded, matrix_profile
from training.dataset_files import load_labels, read_info

COUNT = 6


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six random RGB images of 16x16 in two folders: cat/0.png ... dog/5.png."""
    rng = np.random.default_rng(0)
    for index in range(COUNT):
        path = tmp_path / "images" / ("cat" if index < 2 else "dog") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    (tmp_path / "images" / "notes.md").write_text("notes")
    return tmp_path / "images"


def pixels_of(folder: Path) -> np.ndarray:
    paths = sorted(folder.rglob("*.png"), key=lambda path: path.relative_to(folder).as_posix())
    return np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path in paths])


def convert(out: Path, *arguments: object) -> Path:
    tool("create_from_images", out, *arguments, "--shuffle", 0)
    return out


def skipped(out: Path) -> dict[str, str]:
    with open(out / "skipped.csv", newline="", encoding="utf-8") as file:
        return dict(list(csv.reader(file))[1:])


# ---------------------------------------------------------------- archives and lists


def archive(folder: Path, path: Path) -> Path:
    """All of the folder, in an order that is not sorted, with members that nobody asked for."""
    files = sorted((p for p in folder.rglob("*") if p.is_file()), reverse=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as out:
            for index, file in enumerate(files):
                kind = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)[index % 4]
                out.write(file, file.relative_to(folder).as_posix(), kind)
            out.writestr("__MACOSX/cat/._0.png", b"")
            out.writestr(".DS_Store", b"")
        return path
    with tarfile.open(path, f"w:{path.suffix[1:].replace('tar', '')}") as out:
        for file in files:
            out.add(file, file.relative_to(folder).as_posix())
        link = tarfile.TarInfo("dog/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(link)
    return path


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_archives_give_what_folders_give(folder, tmp_path, name):
    expected = convert(tmp_path / "1" / "set", folder, "--labels-from", "folders")
    out = convert(tmp_path / "2" / "set", archive(folder, tmp_path / name), "--labels-from", "folders", "--workers", 1)
    ours, theirs = bytes_of(out), bytes_of(expected)
    for different in ("dataset.json", "skipped.csv"):  # they tell the source
        ours.pop(different), theirs.pop(different)
    assert ours == theirs
    link = (
        {}
        if name == "a.zip"
        else {"dog/link.png": "not a regular file inside the archive (a link, a pipe or the like)"}
    )
    assert skipped(out) == {"notes.md": "no image by its ending .md", **link}
    assert os.listdir(out.parent) == ["set"]


def test_names_in_archives_are_not_trusted(tmp_path):
    data = encoded(PICTURE, "png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        for name in ("../../evil.png", "/absolute.png", "a/../../b.png", "fine.png"):
            out.writestr(name, data)
    before = sorted(p for p in tmp_path.rglob("*"))
    images = images_of(convert(tmp_path / "set", tmp_path / "a.zip"))
    np.testing.assert_array_equal(images, np.stack([PICTURE.transpose(2, 0, 1)] * 4))
    assert sorted(p for p in tmp_path.rglob("*") if (tmp_path / "set") not in (p, *p.parents)) == before


def test_damaged_members_are_skipped(folder, tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for index in range(4):
            out.writestr(f"{index}.png", encoded(PICTURE, "bmp"))
    with zipfile.ZipFile(path) as file:
        offsets = [info.header_offset for info in file.infolist()]
    content = bytearray(path.read_bytes())
    content[offsets[1] + 60] ^= 0xFF  # of the data
    content[offsets[2]] = 0  # of the header
    path.write_bytes(content)
    out = convert(tmp_path / "set", path)
    assert len(images_of(out)) == 2
    reasons = skipped(out)
    assert "damaged" in reasons["1.png"] and "no member where its directory says" in reasons["2.png"]


def test_archives_that_cannot_be_read(folder, tmp_path):
    whole = archive(folder, tmp_path / "a.tar").read_bytes()
    (tmp_path / "noise.zip").write_bytes(b"noise" * 999)
    (tmp_path / "noise.tar").write_bytes(b"noise" * 999)
    (tmp_path / "noise.tar.gz").write_bytes(archive(folder, tmp_path / "a.tar.gz").read_bytes()[:9])
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    for name, failure in (("zip", "read the archive"), ("tar", "read the archive"), ("tar.gz", "decompress")):
        name = f"noise.{name}"
        fails(f"cannot {failure} {tmp_path / name}", "create_from_images", tmp_path / "set", tmp_path / name)
    assert not [name for name in os.listdir(tmp_path) if "set" in name]
    out = convert(tmp_path / "set", tmp_path / "cut.tar")  # gives what it has
    assert 0 < len(images_of(out)) < COUNT
    assert any("the archive is cut off" in reason for reason in skipped(out).values())


def test_lists_and_several_inputs(folder, tmp_path):
    images = pixels_of(folder)
    (tmp_path / "list.txt").write_bytes(
        b"images/dog/4.png\r\nimages/cat/1.png\n\nimages/missing.png\n" + bytes(folder) + b"\n"
    )
    out = convert(tmp_path / "a", tmp_path / "list.txt")
    np.testing.assert_array_equal(images_of(out), images[[4, 1]])
    reasons = skipped(out)
    assert reasons["images/missing.png"] == "No such file or directory"
    assert reasons[str(folder)] == "not a regular file but a folder"
    shutil.copy(folder / "dog" / "2.png", tmp_path / "new\nline.png")
    (tmp_path / "zero.lst").write_bytes(b"new\nline.png\0images/cat/0.png\0")
    np.testing.assert_array_equal(images_of(convert(tmp_path / "b", tmp_path / "zero.lst")), images[[2, 0]])
    inputs = (folder / "dog", tmp_path / "list.txt", folder / "cat" / "0.png")
    out = convert(tmp_path / "c", *inputs)
    np.testing.assert_array_equal(images_of(out), images[[2, 3, 4, 5, 4, 1, 0]])
    assert skipped(out)[f"{tmp_path}/list.txt/images/missing.png"] == "No such file or directory"


def test_inputs_of_no_known_kind(folder, tmp_path):
    (tmp_path / "a.docx").write_bytes(b"text")
    fails(
        "a.docx is of no known kind, expected a folder, zip",
        "create_from_images",
        tmp_path / "set",
        tmp_path / "a.docx",
    )
    os.mkfifo(tmp_path / "pipe")
    fails("pipe is a pipe, expected", "create_from_images", tmp_path / "set", tmp_path / "pipe")


# ---------------------------------------------------------------- labels


def labels_of(out: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    info = read_info(out)
    return load_labels(out, info.num_images), info.class_names


def test_labels_from_json(folder, tmp_path):
    names = ["cat/0.png", "cat/1.png", "dog/2.png", "dog/3.png", "dog/4.png", "gone.png"]
    rows = [[name, index % 3] for index, name in enumerate(names)]
    (folder / "dataset.json").write_text(json.dumps({"labels": rows}))
    result = tool("create_from_images", tmp_path / "a", folder, "--labels-from", "json", "--shuffle", 0)
    assert "1 label belongs to no image (the first: gone.png)" in result.output
    labels, classes = labels_of(tmp_path / "a")
    np.testing.assert_array_equal(labels, np.eye(3)[[0, 1, 2, 0, 1]])
    assert classes == () and skipped(tmp_path / "a")["dog/5.png"] == "no label in dataset.json"

    out = convert(tmp_path / "b", archive(folder, tmp_path / "a.zip"), "--labels-from", "json")
    np.testing.assert_array_equal(labels_of(out)[0], labels)

    vectors = tmp_path / "vectors.json"
    vectors.write_text(json.dumps({"labels": [[name, [index / 2, -index]] for index, name in enumerate(names)]}))
    out = convert(tmp_path / "c", folder, "--labels-from", "json", "--labels-file", vectors)
    np.testing.assert_array_equal(labels_of(out)[0], [[0, 0], [0.5, -1], [1, -2], [1.5, -3], [2, -4]])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", 'expected {"labels": [[file, label], ...]}'),
        ('{"label": [["cat/0.png", 1]]}', "found no such key"),
        ('{"labels": []}', '"labels" is empty or no list'),
        ('{"labels": [["cat/0.png", 1], ["cat/1.png", [1]]]}', "label [1] of cat/1.png, expected a class"),
        ('{"labels": null}', '"labels" is null'),
        ('{"labels": ["cat"]}', "found cat, expected [file, label]"),
        ('{"labels": [["cat/0.png", -1]]}', "class -1, expected numbers from 0 on"),
        ('{"labels": [["cat/0.png", 4000000000]]}', "expected numbers below 65536"),
        ('{"labels": [["cat/0.png", [1, 2]], ["cat/1.png", [1]]]}', "expected 2 finite numbers"),
        ('{"labels": [["cat/0.png", [1, "x"]]]}', "expected numbers"),
        ('{"labels": [["cat/0.png", [NaN]]]}', 'expected {"labels": [[file, label], ...]}'),
        ('{"labels": [["0.png", 1]]}', "has no label for any of the 6 images; expected names such as cat/0.png"),
    ],
)
def test_json_that_makes_no_sense(folder, tmp_path, content, text):
    (folder / "dataset.json").write_text(content)
    lines = tool("create_from_images", tmp_path / "a", folder, "--labels-from", "json", code=2).stderr.splitlines()
    assert len(lines) == 1 and text in lines[0]


def test_labels_from_csv(folder, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("file,kind\ncat/0.png,10\ncat/1.png,9\n./dog/2.png,b\ndog\\3.png,9\n")
    arguments = ("--labels-from", "csv", "--labels-file", table)
    labels, classes = labels_of(convert(tmp_path / "a", folder, *arguments))
    assert classes == ("9", "10", "b")
    np.testing.assert_array_equal(labels, np.eye(3)[[1, 0, 2, 0]])

    table.write_text("cat/0.png,small;grey\ncat/1.png,\ndog/2.png,grey\n")
    labels, classes = labels_of(convert(tmp_path / "b", folder, *arguments))
    assert classes == ("grey", "small")
    np.testing.assert_array_equal(labels, [[1, 1], [0, 0], [1, 0]])

    table.write_text("file,x,y\n" + "".join(f"dog/{index}.png,{index},0.5\n" for index in range(2, 6)))
    labels, classes = labels_of(convert(tmp_path / "c", folder, *arguments))
    np.testing.assert_array_equal(labels, [[2, 0.5], [3, 0.5], [4, 0.5], [5, 0.5]])
    assert classes == () and skipped(tmp_path / "c")["cat/0.png"] == f"no label in {table}"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("cat/0.png,a\ncat/1.png\n", "found 'cat/1.png', expected 2 columns"),
        ("", "no rows with labels"),
        ("cat/0.png,a\ncat/1.png,\n", "cat/1.png has an empty label"),
        ("cat/0.png,1,x\n", "expected numbers"),
        ("nothing,a\nfits,b\n", "has no label for any of the 6 images"),
    ],
)
def test_csv_that_makes_no_sense(folder, tmp_path, content, text):
    (tmp_path / "a.csv").write_text(content)
    fails(
        text, "create_from_images", tmp_path / "a", folder, "--labels-from", "csv", "--labels-file", tmp_path / "a.csv"
    )


def test_label_options_that_do_not_fit(folder, tmp_path):
    fails("labels from csv need a table", "create_from_images", tmp_path / "a", folder, "--labels-from", "csv")
    fails("no dataset.json at the root", "create_from_images", tmp_path / "a", folder, "--labels-from", "json")
    fails("without --labels-from", "create_from_images", tmp_path / "a", folder, "--labels-file", "x")
    arguments = ("--labels-from", "folders", "--labels-file", "x")
    fails("labels from folders need no file", "create_from_images", tmp_path / "a", folder, *arguments)


# ---------------------------------------------------------------- size, channels, encodings


@pytest.mark.parametrize("encoding", ["jpeg", "png", "webp"])
def test_files_that_fit_are_taken_over(tmp_path, encoding):
    folder = tmp_path / "images"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x112] = 6
    options = {"jpeg": {"quality": 40}, "png": {"compress_level": 1}, "webp": {"quality": 30}}[encoding]
    alike = {
        "0": encoded(PICTURE, encoding, **options),
        "1": encoded(PICTURE[::-1].copy(), encoding, icc_profile=b"broken", comment="kept", **options),
    }
    other = {
        "2": encoded(PICTURE, encoding, exif=exif, **options),
        "3": encoded(PICTURE, encoding, icc_profile=matrix_profile(True), **options),
        "4": encoded(np.tile(PICTURE, (2, 1, 1)), encoding, **options),
        "5": encoded(PICTURE, "bmp"),
        "6": encoded(PICTURE, encoding, save_all=True, append_images=[Image.fromarray(255 - PICTURE)], **options)
        if encoding != "jpeg"
        else encoded(PICTURE, "png"),
        "7": encoded(np.dstack([PICTURE, PICTURE[..., :1]]), "png" if encoding == "jpeg" else encoding),
    }
    for name, data in {**alike, **other}.items():
        (folder / name).write_bytes(data)
    (folder / "8").write_bytes(alike["0"][:-40])  # the beginning of one that fits
    raw = images_of(convert(tmp_path / "raw", folder, "--resolution", 16))
    out = convert(tmp_path / "set", folder, "--resolution", 16, "--encoding", encoding)
    stored = files_of(out)
    assert stored[:2] == list(alike.values())
    assert not set(stored[2:]) & set(other.values()) and len(stored) == 8
    info = read_info(out)
    assert (info.encoding, info.levels, info.height) == (encoding, (16,), 16)
    if encoding == "jpeg":
        np.testing.assert_array_equal(images_of(out)[:2], raw[:2])
    else:
        np.testing.assert_array_equal(images_of(out), raw)


def test_the_size_is_told_before(folder, tmp_path):
    output = tool("create_from_images", tmp_path / "a", folder, "--encoding", "png").output
    size = sum(path.stat().st_size for path in (tmp_path / "a").glob("*.tfrecords"))
    told = float(output.split("about ")[1].split(" KiB")[0])
    assert "Writing up to 6 images: about" in output and abs(told * 1024 - size) < 0.1 * size


def test_a_size_that_nobody_knows_is_not_told(tmp_path):
    """All images that are tried as a sample are bad, but others are not."""
    for index in range(40):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / f"{index:02}.png")
    for index in np.linspace(0, 39, 16).astype(int):
        path = tmp_path / f"{index:02}.png"
        path.write_bytes(path.read_bytes()[:-20])  # the header is whole
    output = tool("create_from_images", tmp_path / "a", tmp_path, "--encoding", "png").output
    assert "Writing up to 40 images: none of those tried as a sample can be converted" in output
    assert "about" not in output and "0 B" not in output
    assert read_info(tmp_path / "a").num_images == 24


def test_quality_and_channels(folder, tmp_path):
    sizes = {}
    for quality in (20, 90):
        out = convert(tmp_path / str(quality), folder, "--encoding", "jpeg", "--quality", quality)
        sizes[quality] = len(files_of(out)[0])
    assert sizes[20] < 0.8 * sizes[90]
    fails(
        "quality 20 with encoding png",
        "create_from_images",
        tmp_path / "a",
        folder,
        "--encoding",
        "png",
        "--quality",
        20,
    )
    arguments = ("--channels", 4, "--encoding", "jpeg")
    fails("jpeg, which knows no transparency", "create_from_images", tmp_path / "a", folder, *arguments)
    grey = convert(tmp_path / "grey", folder, "--channels", 1, "--encoding", "webp")
    assert images_of(grey).shape == (6, 1, 16, 16)


def test_rectangles_fits_and_background(folder, tmp_path):
    wide = np.tile(PICTURE, (1, 2, 1))
    Image.fromarray(np.dstack([wide, wide[..., :1] * 0])).save(tmp_path / "clear.png")
    arguments = (tmp_path / "clear.png", "--background", "#010203", "--channels", 3)
    out = convert(tmp_path / "a", *arguments, "--resolution", "40x24", "--fit", "pad", "--resample", "bicubic")
    assert (images_of(out) == np.array([1, 2, 3]).reshape(1, 3, 1, 1)).all() and images_of(out).shape == (1, 3, 24, 40)
    assert read_info(out).levels == (40, 20, 10) and [p.name for p in sorted(out.glob("*rds"))] == [
        "a-r04.tfrecords", "a-r05.tfrecords", "a-r06.tfrecords",
    ]  # fmt: skip
    out = convert(tmp_path / "b", *arguments, "--resolution", "16x12", "--fit", "crop-wide")
    image = images_of(out)[0]
    assert image.shape == (3, 16, 16) and not image[:, :2].any() and not image[:, 14:].any() and image[:, 2:14].all()
    fails(
        "--background 'nocolour': expected a colour",
        "create_from_images",
        tmp_path / "c",
        folder,
        "--background",
        "nocolour",
    )
    fails("--fit pad without a size", "create_from_images", tmp_path / "c", folder, "--fit", "pad")
    fails(
        "crop-wide with 12x16",
        "create_from_images",
        tmp_path / "c",
        folder,
        "--resolution",
        "12x16",
        "--fit",
        "crop-wide",
    )


def test_held_out_images_have_their_labels(folder, tmp_path):
    tool("create_from_images", tmp_path / "a", folder, "--labels-from", "folders", "--validation", 2)
    images, held = images_of(tmp_path / "a"), images_of(tmp_path / "a", "validation-")
    assert (len(images), len(held)) == (4, 2) and read_info(tmp_path / "a").num_validation == 2
    every = pixels_of(folder)
    for prefix, some in (("", images), ("validation-", held)):
        labels = np.load(tmp_path / "a" / f"{prefix}a-rxx.labels")
        found = [int(np.flatnonzero((every == image).all((1, 2, 3)))[0]) for image in some]
        np.testing.assert_array_equal(labels, np.eye(2)[[int(index >= 2) for index in found]])
    fails("6 images to hold out, but there are only 6", "create_from_images", tmp_path / "b", folder, "--validation", 6)


def test_dry_run_of_archives_leaves_nothing(folder, tmp_path):
    path = archive(folder, tmp_path / "a.tar.gz")
    shutil.rmtree(folder)
    output = tool("create_from_images", tmp_path / "set", path, "--dry-run").output
    assert "6 images to convert, 2 files to skip. Sizes: 16x16 (6)" in output
    assert os.listdir(tmp_path) == ["a.tar.gz"]
    assert io.BytesIO(path.read_bytes()).read(2) == b"\x1f\x8b"


def test_a_class_that_is_a_link_to_another(tmp_path):
    """Listed, whichever name comes first; images are in the class that has the folder."""
    for index, name in enumerate(("cat", "dog")):
        (tmp_path / "in" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / "in" / name / "0.png")
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (8, 8), (2, 0, 0)).save(tmp_path / "elsewhere" / "0.png")
    for name, target in (("a", "dog"), ("kitten", "cat"), ("x", "../elsewhere"), ("y", "../elsewhere"), ("z", "..")):
        (tmp_path / "in" / name).symlink_to(target)
    arguments = (tmp_path / "in", "--labels-from", "folders")
    fails("a: a link to dog, whose files", "create_from_images", tmp_path / "strict", *arguments, "--strict")
    out = convert(tmp_path / "set", *arguments)
    assert read_info(out).class_names == ("cat", "dog", "x")
    there = "whose files are there under their own names"
    assert skipped(out) == {
        "a": f"a link to dog, {there}", "kitten": f"a link to cat, {there}", "y": "the same folder as x",
        "z/elsewhere": "the same folder as x", "z/in": "the same folder as the input itself",
    }  # fmt: skip


def test_a_background_of_colour_is_seen_through_grey(tmp_path):
    """Where images are transparent, or padded; else nothing but grey is seen."""
    clear, opaque = tmp_path / "clear", tmp_path / "opaque"
    for folder, image in ((clear, Image.new("LA", (8, 8), (9, 0))), (opaque, Image.new("L", (8, 8), 9))):
        folder.mkdir()
        image.save(folder / "0.png")
    size = ("--resolution", "16x8")
    for name, folder, options, pixel in (
        ("a", clear, (), [255, 0, 0]),
        ("b", opaque, (), [9]),
        ("c", opaque, ("--fit", "pad", *size), [255, 0, 0]),
        ("d", opaque, ("--fit", "stretch", *size), [9]),
    ):
        out = convert(tmp_path / name, folder, "--background", "red", *options)
        assert images_of(out)[0, :, 0, 0].tolist() == pixel, name
    assert images_of(convert(tmp_path / "e", clear, "--background", "grey"))[0, :, 0, 0].tolist() == [128]


def test_the_ratio_that_images_are_stretched_from_is_noted(tmp_path):
    """If nearly all have one; sides may differ, and turned photographs count upright."""
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x112] = 6
    for index in range(39):
        Image.new("RGB", (30, 20) if index % 2 else (61, 41)).save(tmp_path / "in" / f"{index}.png")
    Image.new("RGB", (20, 30)).save(tmp_path / "in" / "turned.png", exif=exif)
    size = ("--resolution", 16, "--channels", 3)

    def noted(name: str, *options: object) -> object:
        return read_info(convert(tmp_path / name, tmp_path / "in", *size, *options)).source.get("stretched_from")

    assert noted("a", "--fit", "stretch") == [61, 41]
    assert noted("b") is None and noted("c", "--fit", "pad") is None
    for index in range(2):
        Image.new("RGB", (20, 30)).save(tmp_path / "in" / f"tall{index}.png")
    assert noted("d", "--fit", "stretch") == [61, 41]
    Image.new("RGB", (20, 30)).save(tmp_path / "in" / "tall2.png")
    assert noted("e", "--fit", "stretch") is None
