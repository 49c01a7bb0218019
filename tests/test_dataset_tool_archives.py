"""Archives that are damaged or made to do harm, and inputs that the system refuses to read."""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import os
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
import pytest

from tests.dataset_tools import fails, images_of, tool
from tests.hostile_images import PICTURE, encoded
from training import source_listing, source_walk
from training.zip_directory import Entry
from training.zip_scan import scan_members

COUNT = 5


def convert(out: Path, *arguments: object) -> dict[str, str]:
    """Names and reasons of what was left out."""
    tool("create_from_images", out, *arguments, "--workers", 1)
    path = out / "skipped.csv"
    if not path.exists():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        return dict(list(csv.reader(file))[1:])


def make_tar(path: Path) -> list[int]:
    """Images 0.png to 4.png in a tar archive; where their headers begin."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as out:
        for index in range(COUNT):
            data = encoded(PICTURE, "png")
            member = tarfile.TarInfo(f"{index}.png")
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    with tarfile.open(path) as file:
        return [member.offset for member in file]


def set_size(path: Path, header: int, size: int) -> None:
    """Gives a member of a tar archive another size, in base 256, with the right checksum of its header."""
    content = bytearray(path.read_bytes())
    block = content[header : header + 512]
    first = b"\xff" if size < 0 else b"\x80"
    block[124:136] = first + size.to_bytes(11, "big", signed=True)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    content[header : header + 512] = block
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_damaged_header_inside_a_tar_is_not_its_end(tmp_path, damage):
    path = tmp_path / "a.tar"
    third = make_tar(path)[3]
    content = bytearray(path.read_bytes())
    content[third + 5] ^= 0xFF
    path.write_bytes(content if damage == "flipped" else content[: third + 300])
    reasons = convert(tmp_path / "set", path)
    assert list(reasons) == ["(after member 3)"]
    assert "the archive is cut off or damaged" in reasons["(after member 3)"]
    assert len(images_of(tmp_path / "set")) == 3
    fails("the archive is cut off or damaged", "create_from_images", tmp_path / "strict", path, "--strict")


def end_of_members(path: Path) -> int:
    """Where the zeros at the end of a tar archive begin."""
    with tarfile.open(path) as file:
        last = file.getmembers()[-1]
    return last.offset_data + -(-last.size // 512) * 512


@pytest.mark.parametrize("blocks", [1, 2, 20])
def test_a_tar_may_end_with_any_number_of_zeros(tmp_path, blocks):
    path = tmp_path / "a.tar"
    make_tar(path)
    path.write_bytes(path.read_bytes()[: end_of_members(path)] + bytes(512 * blocks))
    assert convert(tmp_path / "set", path, "--strict") == {}
    assert len(images_of(tmp_path / "set")) == COUNT


@pytest.mark.parametrize("count", [3, COUNT])
@pytest.mark.parametrize("packed", [False, True])
def test_a_tar_that_is_cut_off_between_two_members(tmp_path, count, packed):
    """Nothing but the missing end tells of it: it was taken for whole."""
    path = tmp_path / "a.tar"
    ends = [*make_tar(path), end_of_members(path)]
    content = path.read_bytes()[: ends[count]]
    path = tmp_path / ("a.tar.gz" if packed else "a.tar")
    path.write_bytes(gzip.compress(content) if packed else content)
    assert convert(tmp_path / "set", path) == {f"(after member {count})": "no end of the archive: it may be cut off"}
    assert len(images_of(tmp_path / "set")) == count
    fails("no end of the archive: it may be cut off", "create_from_images", tmp_path / "strict", path, "--strict")


@pytest.mark.parametrize("blocks", [1, 2, 20])
def test_archives_that_were_joined(tmp_path, blocks):
    """Behind zeros, be they a proper end or a single block, members that are whole are images as the others."""
    path = tmp_path / "a.tar"
    third = make_tar(path)[3]
    content = path.read_bytes()
    path.write_bytes(content[:third] + bytes(512 * blocks) + content[third:])
    assert convert(tmp_path / "set", path, "--strict") == {}
    assert len(images_of(tmp_path / "set")) == COUNT


@pytest.mark.parametrize(("blocks", "lost"), [(1, True), (2, False)])
def test_what_is_no_member_behind_zeros(tmp_path, blocks, lost):
    """Behind a single block of zeros, members are missing; behind two, which are an end, there may be anything."""
    path = tmp_path / "a.tar"
    third = make_tar(path)[3]
    content = bytearray(path.read_bytes())
    content[third + 5] ^= 0xFF
    path.write_bytes(content[:third] + bytes(512 * blocks) + content[third:])
    reasons = convert(tmp_path / "set", path)
    assert list(reasons) == (["(after member 3)"] if lost else [])
    assert len(images_of(tmp_path / "set")) == 3


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("what", ["cut", "damaged"])
def test_a_compressed_tar_keeps_what_precedes_its_damage(tmp_path, kind, what):
    """Noise, so that each of the images takes as much of the compressed file as of the other."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 320, 320, 3), np.uint8)
    path = tmp_path / f"a.tar.{kind}"
    with tarfile.open(path, f"w:{kind}") as out:
        for index, pixels in enumerate(images):
            data = encoded(pixels, "bmp")
            member = tarfile.TarInfo(f"{index}.bmp")
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    content = bytearray(path.read_bytes())
    place = int(len(content) * 0.9)
    content[place : place + 20] = bytes(20)
    path.write_bytes(content[:place] if what == "cut" else content)
    reasons = convert(tmp_path / "set", path, "--shuffle", 0, "--resolution", 320)
    assert "(what follows)" in reasons
    assert all("the archive is cut off or damaged" in reason for reason in reasons.values()), reasons
    whole = images_of(tmp_path / "set")
    assert len(whole) >= (4 if kind == "gz" else 2), len(whole)
    np.testing.assert_array_equal(whole[:4].transpose(0, 2, 3, 1), images[:4][: len(whole)])
    fails("the archive is cut off or damaged", "create_from_images", tmp_path / "strict", path, "--strict")
    assert sorted(os.listdir(tmp_path)) == [path.name, "set"]


@dataclass(frozen=True)
class _Pipe:
    """Where nothing can go back to."""

    write: Callable[[bytes], int]

    def flush(self) -> None:
        """What it has is written."""


def _streamed(path: Path, method: int) -> list[int]:
    """A zip archive written in one go: sizes are behind the members. Where the members begin."""
    with open(path, "wb") as out, zipfile.ZipFile(_Pipe(out.write), "w", method) as archive:
        for index in range(COUNT):
            archive.writestr(f"{index}.png", encoded(np.roll(PICTURE, index, 0), "png", compress_level=0))
    with zipfile.ZipFile(path) as archive:
        assert all(info.flag_bits & 8 for info in archive.infolist())
        return [info.header_offset for info in archive.infolist()]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_zip_keeps_what_precedes_a_cut(tmp_path, streamed):
    """Its directory, at its end, is the first that is missing."""
    path = tmp_path / "a.zip"
    if streamed:
        starts = _streamed(path, zipfile.ZIP_DEFLATED)
    else:
        with zipfile.ZipFile(path, "w") as out:
            for index in range(COUNT):
                out.writestr(f"{index}.png", encoded(np.roll(PICTURE, index, 0), "png", compress_level=0))
            starts = [info.header_offset for info in out.infolist()]
    content = path.read_bytes()
    for name, end, count in (("inside", starts[3] + 60, 3), ("between", starts[3], 3), ("end", len(content) - 9, 5)):
        path.write_bytes(content[:end])
        reasons = convert(tmp_path / name, path, "--shuffle", 0)
        assert list(reasons) == [f"(after member {count})"]
        assert "the archive is cut off or damaged (" in reasons[f"(after member {count})"]
        expected = [np.roll(PICTURE, index, 0) for index in range(count)]
        np.testing.assert_array_equal(images_of(tmp_path / name).transpose(0, 2, 3, 1), expected)
    fails("the archive is cut off or damaged", "create_from_images", tmp_path / "strict", path, "--strict")


@pytest.mark.parametrize("behind", [0, 1, 200])
def test_a_cut_zip_with_a_zip_inside(tmp_path, behind):
    """It has the images before the cut, not those of the inner one."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as out:
        out.writestr("wrong.png", encoded(np.roll(PICTURE, 9, 0), "png"))
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as out:
        for name, data in (("0.png", encoded(PICTURE, "png")), ("inner.zip", inner.getvalue()), ("1.png", bytes(500))):
            out.writestr(name, data)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(inner.getvalue()) + len(inner.getvalue()) + behind])
    reasons = convert(tmp_path / "set", path)
    assert list(reasons) == ["inner.zip", "(after member 2)"]
    np.testing.assert_array_equal(images_of(tmp_path / "set").transpose(0, 2, 3, 1), [PICTURE])
    fails("the archive is cut off or damaged", "create_from_images", tmp_path / "strict", path, "--strict")


def test_checksums_behind_the_members_of_a_cut_zip(tmp_path):
    """What is not what had been written is no image."""
    path = tmp_path / "a.zip"
    starts = _streamed(path, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes()[: starts[3]])
    at = content.index(b"PK\x07\x08", starts[1])
    content[at + 4] ^= 1
    path.write_bytes(content)
    reasons = convert(tmp_path / "set", path, "--shuffle", 0)
    assert reasons["1.png"] == "the member of the archive is damaged (wrong length or checksum)"
    assert len(reasons) == 2 and len(images_of(tmp_path / "set")) == 2


@pytest.mark.parametrize("signature", [True, False])
@pytest.mark.parametrize("wide", [True, False])
def test_descriptors_of_every_form(signature, wide):
    data = bytes(range(256)) * 20
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(data) + packer.flush()
    head = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 8, 8, 0, 0, 0, 0, 0, 1, 0) + b"a"
    told = struct.pack("<LQQ" if wide else "<LLL", 7, len(packed), len(data))
    one = head + packed + (b"PK\x07\x08" if signature else b"") + told
    found = scan_members(io.BytesIO(one * 3), len(data))
    assert [next(found) for _ in range(3)] == [
        Entry("a", index * len(one), len(packed), len(data), 8, 7, False) for index in range(3)
    ]


def test_a_member_that_inflates_without_end(tmp_path, monkeypatch):
    """As no image does: it was decompressed to its end, be that gigabytes away."""
    monkeypatch.setattr("training.archives.MAX_FILE_BYTES", 3 << 20)
    path = tmp_path / "a.zip"
    with open(path, "wb") as out, zipfile.ZipFile(_Pipe(out.write), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (("0.png", encoded(PICTURE, "png")), ("zeros.png", bytes(9 << 20)), ("1.png", b"")):
            archive.writestr(name, data)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"PK\x01\x02")])
    reasons = convert(tmp_path / "set", path)
    told = f"its member zeros.png has more than {3 << 20} bytes, and nothing else tells where it ends"
    assert reasons == {"(after member 1)": f"the archive is cut off or damaged ({told})"}
    assert len(images_of(tmp_path / "set")) == 1


def test_a_zip_whose_members_have_no_end(tmp_path):
    """Stored in one go, and the directory cut away: nothing tells how long they are."""
    _streamed(tmp_path / "a.zip", zipfile.ZIP_STORED)
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-9])
    fails("nothing else tells where its member 0.png ends", "create_from_images", tmp_path / "set", tmp_path / "a.zip")


@pytest.mark.parametrize("size", [2**70, 2**62, -(2**20)])
def test_sizes_in_a_tar_that_cannot_be(tmp_path, size):
    """One beyond what numbers of files hold, one beyond the archive, and one that leads back to its beginning."""
    path = tmp_path / "a.tar"
    set_size(path, make_tar(path)[2], size)
    reasons = convert(tmp_path / "set", path)
    assert "(after member 3)" in reasons
    assert all("the archive is cut off or damaged" in reason for reason in reasons.values())
    assert ("2.png" in reasons) == (size > 0)
    assert len(images_of(tmp_path / "set")) == 2


def make_zip(path: Path, name: str, data: bytes, method: int = 0) -> int:
    """A member beside a good image, stored but said to be compressed; where the entry in the directory begins."""
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("good.png", encoded(PICTURE, "png"))
        out.writestr(name, data)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    struct.pack_into("<H", content, entry + 10, method)
    path.write_bytes(content)
    return entry


@pytest.mark.parametrize(("field", "reason"), [(24, f"{2**64 - 1} bytes"), (20, "beyond its end"), (42, "beyond")])
def test_sizes_in_a_zip_that_cannot_be(tmp_path, field, reason):
    """Size, compressed size and place, each said to be 2^64 - 1."""
    path = tmp_path / "a.zip"
    entry = make_zip(path, "big.png", encoded(PICTURE, "png"))
    content = bytearray(path.read_bytes())
    struct.pack_into("<L", content, entry + field, 0xFFFFFFFF)
    struct.pack_into("<H", content, entry + 30, 12)  # length of the extra field
    behind = entry + 46 + len("big.png")
    content[behind:behind] = struct.pack("<HHQ", 1, 8, 2**64 - 1)
    end = content.rindex(b"PK\x05\x06")
    struct.pack_into("<L", content, end + 12, struct.unpack_from("<L", content, end + 12)[0] + 12)
    path.write_bytes(content)
    reasons = convert(tmp_path / "set", path)
    assert list(reasons) == ["big.png"] and reason in reasons["big.png"]
    assert len(images_of(tmp_path / "set")) == 1


@pytest.mark.parametrize("name", ["bad.png", "bad"])
@pytest.mark.parametrize("data", [b"abc", b"\x09\x14\x02\x00]]xxxx", b"\x09\x14\x05\x00\xff\xff\xff\0\0" + b"x" * 40])
def test_lzma_members_without_sense(tmp_path, name, data):
    """Too short for the length of the properties, for the properties, and properties that no decoder takes."""
    make_zip(tmp_path / "a.zip", name, data, method=14)
    reasons = convert(tmp_path / "set", tmp_path / "a.zip")
    assert list(reasons) == [name] and "damaged (no LZMA properties" in reasons[name]


def test_a_dictionary_of_lzma_is_not_larger_than_the_image(tmp_path, monkeypatch):
    """Four gigabytes of memory, for a member that says it needs them."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as out:
        out.writestr("a.png", encoded(PICTURE, "png"))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    sizes = content.index(b"a.png") + len("a.png") + 5  # behind version, length of the properties, and the first
    content[sizes : sizes + 4] = b"\xff" * 4
    (tmp_path / "a.zip").write_bytes(content)
    asked, decompressor = [], lzma.LZMADecompressor

    def noting(kind: int, limit: None, filters: list[dict[str, int]]) -> lzma.LZMADecompressor:
        asked.append(filters[0]["dict_size"])
        return decompressor(kind, limit, filters)

    monkeypatch.setattr(lzma, "LZMADecompressor", noting)
    assert convert(tmp_path / "set", tmp_path / "a.zip") == {}
    np.testing.assert_array_equal(images_of(tmp_path / "set")[0].transpose(1, 2, 0), PICTURE)
    assert asked and max(asked) <= 4096


@pytest.mark.parametrize("content", [b"text", b""])
def test_a_compressed_file_that_holds_no_tar(tmp_path, content):
    """A temporary file was named."""
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(content))
    fails(str(path), "create_from_images", tmp_path / "set", path)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_strict_names_the_archive_that_is_cut_off(tmp_path, name):
    """And its only input is called by no other name."""
    path = tmp_path / name
    if name == "a.zip":
        make_zip(path, "1.png", encoded(PICTURE, "png"))
        path.write_bytes(path.read_bytes()[:-9])
    else:
        make_tar(tmp_path / "a.tar")
        content = (tmp_path / "a.tar").read_bytes()
        path.write_bytes(content[:3000] if name == "a.tar" else gzip.compress(content)[:-9])
    place = "(what follows)" if name == "a.tar.gz" else "(after member"
    fails(f"{path}: {place}", "create_from_images", tmp_path / "set", path, "--strict")
    more = (tmp_path / "in", "--strict")  # of several inputs, the name begins with the archive
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.png").write_bytes(encoded(PICTURE, "png"))
    fails(f"error: {path}/{place}", "create_from_images", tmp_path / "set", path, *more)


@pytest.mark.parametrize("damage", ["checksum", "no JSON"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_file_of_labels_in_an_archive(tmp_path, damage, packed):
    """Both are named: neither was."""
    path = tmp_path / ("a.tar.gz" if packed else "a.zip")
    text = b'{"labels": [["0.png", 0]]}' if damage == "checksum" else b"nothing"
    if packed:
        with tarfile.open(path, "w:gz") as out:
            for name, data in (("0.png", encoded(PICTURE, "png")), ("dataset.json", b"nothing")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                out.addfile(member, io.BytesIO(data))
    else:
        make_zip(path, "dataset.json", text)
        content = bytearray(path.read_bytes())
        content[content.index(text) + len(text) // 2] ^= damage == "checksum"
        path.write_bytes(content)
    fails(f"{path}/dataset.json: ", "create_from_images", tmp_path / "set", path, "--labels-from", "json")


def test_folders_in_folders_in_folders(tmp_path):
    """More than Python can call functions in functions."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encoded(PICTURE, "png"))
    here = os.open(tmp_path / "in", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    file = os.open("z.png", os.O_WRONLY | os.O_CREAT, dir_fd=here)
    os.write(file, encoded(PICTURE, "png"))
    os.close(file)
    os.close(here)
    try:
        found = list(source_walk.walk_files(tmp_path / "in"))
    finally:  # pytest would call functions in functions to remove them
        subprocess.run(["rm", "-r", tmp_path / "in"], check=True)
    assert found == [("a.png", None), ("d/" * 1200 + "z.png", None)]


def test_names_longer_than_the_system_knows(tmp_path):
    fails("File name too long", "create_from_images", tmp_path / "set", "a" * 300)
    assert list(tmp_path.iterdir()) == []


def test_a_list_that_must_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "list.txt"
    path.write_text("0.png\n")

    def refuse(name: str) -> None:
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(source_listing, "open_regular", refuse)
    fails(f"cannot read the list {path}: Permission denied", "create_from_images", tmp_path / "set", path)


def test_what_another_process_works_on_is_left_alone(tmp_path):
    """A second conversion to the same place ends before it decompresses anything."""
    (tmp_path / "bad.tar.gz").write_bytes(b"\x1f\x8b and no more")
    work = tmp_path / ".set.unfinished"
    (work / "sources").mkdir(parents=True)
    (work / "sources" / "other.tar").write_bytes(b"of the other process")
    (work / "lock").touch()
    command = ("create_from_images", tmp_path / "set", tmp_path / "bad.tar.gz")
    with filelock.FileLock(work / "lock"):
        fails("another process is writing", *command)
        assert (work / "sources" / "other.tar").exists()
    fails("cannot decompress", *command)
    assert not work.exists()
