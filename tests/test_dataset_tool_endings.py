"""Images whose names do not tell what they are: in folders, in archives, and given one by one."""

from __future__ import annotations

import csv
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.dataset_tools import bytes_of, fails, images_of, tool
from tests.hostile_images import PICTURE, encoded

PLANES = PICTURE.transpose(2, 0, 1)
NAMES = ("IMG_0001", "a.png.bak", "holiday 12.07.2019", "photo.dat", "scan.json", "thumbs.TXT")
NOTES = {
    "LICENSE": b"BMW AG\n",
    "README": b"These are pictures.\n",
    "empty": b"",
    "index.csv": b"photo.dat,cat\n",
    "labels.json": b'{"labels": [["photo.dat", 0]]}',
    "manual.pdf": b"%PDF-1.7\n" + bytes(100),
    "notes.txt": b"BMW: the keys are under the mat\n",
}


def files() -> dict[str, bytes]:
    images = {name: encoded(PICTURE, "png") for name in NAMES}
    return images | NOTES


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "images").mkdir()
    for name, data in files().items():
        (tmp_path / "images" / name).write_bytes(data)
    return tmp_path / "images"


def convert(out: Path, *arguments: object) -> Path:
    tool("create_from_images", out, *arguments, "--shuffle", 0, "--strict")
    return out


def reasons(out: Path) -> dict[str, str]:
    with open(out / "skipped.csv", newline="", encoding="utf-8") as file:
        return dict(list(csv.reader(file))[1:])


def test_images_are_known_by_what_is_in_them(folder, tmp_path):
    out = convert(tmp_path / "set", folder)
    np.testing.assert_array_equal(images_of(out), np.stack([PLANES] * len(NAMES)))
    endings = {name: Path(name).suffix for name in NOTES}
    assert reasons(out) == {
        name: f"no image by its {f'ending {ending}' if ending else 'first bytes'}" for name, ending in endings.items()
    }


@pytest.mark.parametrize("method", [0, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, "tar", "tar.gz"])
def test_archives_are_looked_into_as_well(folder, tmp_path, method):
    path = tmp_path / f"a.{method if isinstance(method, str) else 'zip'}"
    if isinstance(method, str):
        with tarfile.open(path, "w:gz" if method == "tar.gz" else "w") as out:
            for name in files():
                out.add(folder / name, name)
    else:
        with zipfile.ZipFile(path, "w", method) as out:
            for name, data in files().items():
                out.writestr(name, data)
    ours, theirs = bytes_of(convert(tmp_path / "1" / "set", path)), bytes_of(convert(tmp_path / "2" / "set", folder))
    ours.pop("dataset.json"), theirs.pop("dataset.json")  # it tells the source
    assert ours == theirs


def test_large_members_with_short_signatures_are_looked_at(tmp_path):
    """A bitmap is known by two letters, so that its header is read, too; here it is that of much data."""
    pixels = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), np.uint8)
    for kind, method in ((zipfile.ZIP_DEFLATED, 8), (zipfile.ZIP_BZIP2, 12), (zipfile.ZIP_LZMA, 14)):
        with zipfile.ZipFile(tmp_path / f"{method}.zip", "w", kind) as out:
            out.writestr("photo.dat", encoded(pixels, "bmp"))
        result = convert(tmp_path / f"set{method}", tmp_path / f"{method}.zip")
        np.testing.assert_array_equal(images_of(result)[0], pixels.transpose(2, 0, 1))


def test_a_single_image_of_any_name(tmp_path):
    (tmp_path / "photo.dat").write_bytes(encoded(PICTURE, "png"))
    np.testing.assert_array_equal(images_of(convert(tmp_path / "set", tmp_path / "photo.dat"))[0], PLANES)
    (tmp_path / "notes.dat").write_bytes(b"no image")
    fails("of no known kind", "create_from_images", tmp_path / "other", tmp_path / "notes.dat")


def test_a_damaged_image_of_any_name_is_reported_as_damaged(folder, tmp_path):
    (folder / "torn.dat").write_bytes(encoded(PICTURE, "jpeg")[:30])
    tool("create_from_images", tmp_path / "set", folder, "--resolution", 16)
    assert "no image by its ending" not in reasons(tmp_path / "set")["torn.dat"]
    fails("torn.dat", "create_from_images", tmp_path / "other", folder, "--resolution", 16, "--strict")


@pytest.mark.parametrize("name", ["gone.png", "gone", "album.2019"])
def test_strict_wants_what_may_be_images(folder, tmp_path, name, monkeypatch):
    """A link to nothing, and a folder that cannot be read, whatever its name."""
    if name == "album.2019":
        (folder / name).mkdir()
        whole = os.scandir

        def refuse(path):
            if os.fspath(path).endswith(name):
                raise PermissionError(13, "Permission denied", path)
            return whole(path)

        monkeypatch.setattr(os, "scandir", refuse)
    else:
        (folder / name).symlink_to("nowhere")
    fails(f"{name}: ", "create_from_images", tmp_path / "set", folder, "--strict")
    tool("create_from_images", tmp_path / "set", folder)
    assert name in reasons(tmp_path / "set")


def test_strict_does_not_want_what_is_no_image(folder, tmp_path):
    (folder / "gone.txt").symlink_to("nowhere")
    assert "a link to nothing" in reasons(convert(tmp_path / "set", folder))["gone.txt"]


def test_clean_finds_the_same_images(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = tool("clean", folder, "--min-size", 4, "--workers", 1)
    assert f"{len(NAMES)} images: {len(NAMES)} kept, 0 dropped, 0 unreadable" in result.stdout


def test_a_damaged_member_is_one_line(tmp_path):
    """One whose name does not tell that it is an image is none for all that anybody can see."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        for name in ("a.png", "b.dat", "c.png"):
            out.writestr(name, encoded(PICTURE, "png"))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    for name in (b"b.dat", b"c.png"):
        header = data.index(name) - 30
        data[header : header + 4] = b"XXXX"
    (tmp_path / "a.zip").write_bytes(data)
    damage = "the archive is damaged: no member where its directory says"
    fails(f"c.png: {damage} (without --strict", "create_from_images", tmp_path / "set", tmp_path / "a.zip", "--strict")
    tool("create_from_images", tmp_path / "set", tmp_path / "a.zip")
    assert reasons(tmp_path / "set") == {
        "b.dat": f"no image by its ending .dat, and its beginning cannot be read ({damage})", "c.png": damage,
    }  # fmt: skip
    np.testing.assert_array_equal(images_of(tmp_path / "set"), PLANES[None])


@pytest.mark.parametrize(
    ("name", "start"), [("a.mpg", b"\0\0\1\xba"), ("a.h5", b"\x89HDF\r\n\x1a\n"), ("a.grib", b"GRIB\0\0\0\1")]
)
def test_strict_does_not_want_what_pillow_cannot_decode(folder, tmp_path, name, start):
    """It knows by name what these are, and no more."""
    (folder / name).write_bytes(start + bytes(1000))
    assert reasons(convert(tmp_path / "set", folder))[name] == f"no image by its ending {Path(name).suffix}"


def test_pillow_is_asked_for_the_endings_that_it_reads(tmp_path):
    """What it only writes, such as .pdf, is nothing to decode."""
    assert ".pdf" in Image.registered_extensions()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encoded(PICTURE, "png"))
    (tmp_path / "in" / "manual.pdf").write_bytes(b"%PDF-1.7\n")
    assert len(images_of(convert(tmp_path / "set", tmp_path / "in"))) == 1
