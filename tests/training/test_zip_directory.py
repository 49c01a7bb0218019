"""The directory of zip archives, as `zipfile` writes it and reads it."""

from __future__ import annotations

import io
import zipfile

import pytest

from training.zip_directory import read_directory


def archive(force_large: bool, comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for index in range(20):
            name = f"{'ordner/ü' if index % 2 else 'plain'}{index}.png"
            with file.open(zipfile.ZipInfo(name), "w", force_zip64=force_large) as member:
                member.write(bytes(range(index)) * 50)
        file.comment = comment
    return out.getvalue()


@pytest.mark.parametrize("before", [b"", b"a program that unpacks itself" * 9])
@pytest.mark.parametrize("comment", [b"", b"of some length" * 100])
def test_equals_zipfile(before, comment):
    file = io.BytesIO(before + archive(False, comment))
    expected = [
        (i.filename, i.header_offset, i.compress_size, i.file_size, i.compress_type, i.CRC)
        for i in zipfile.ZipFile(file).infolist()
    ]
    found = [(e.name, e.start, e.packed_size, e.size, e.method, e.crc) for e in read_directory(file)]
    assert found == expected and len(found) == 20


def test_more_members_than_16_bits_count():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for index in range(70000):
            file.writestr(f"{index}", b"")
    assert [entry.name for entry in read_directory(out)] == [str(index) for index in range(70000)]


def test_numbers_beyond_32_bits(monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 300)  # all that is larger is written with 64 bits
    data = archive(True)
    monkeypatch.undo()
    file = io.BytesIO(data)
    expected = [(i.filename, i.header_offset, i.file_size) for i in zipfile.ZipFile(file).infolist()]
    assert [(e.name, e.start, e.size) for e in read_directory(file)] == expected
    assert data.count(b"PK\x06\x06") == 1


@pytest.mark.parametrize("cut", [1, 30, 500])
def test_cut_off(cut):
    with pytest.raises(ValueError, match="cut off"):
        list(read_directory(io.BytesIO(archive(False)[:-cut])))


@pytest.mark.parametrize(("entry", "told"), [("first", "directory is not where it should be"), ("last", "is damaged")])
def test_damaged(entry, told):
    damaged = bytearray(archive(False))
    place = damaged.index(b"PK\x01\x02") if entry == "first" else damaged.rindex(b"PK\x01\x02")
    damaged[place + 1] = 0
    with pytest.raises(ValueError, match=told):
        list(read_directory(io.BytesIO(damaged)))


def test_a_comment_that_looks_like_an_end(tmp_path):
    """The last thing that looks like an end was taken for it."""
    file = io.BytesIO(archive(False, b"an archive ends with PK\x05\x06 and some numbers" + bytes(30)))
    assert sum(1 for _ in read_directory(file)) == 20


@pytest.mark.parametrize("behind", [b"\n", bytes(512)])
def test_something_behind_the_end(behind):
    """As some programs leave it; a cut would have taken the end away."""
    assert sum(1 for _ in read_directory(io.BytesIO(archive(False) + behind))) == 20


@pytest.mark.parametrize("behind", [0, 1, 5000])
def test_an_archive_inside_one_that_is_cut_off(behind):
    """Its end was taken for that of the outer one, whose members were lost."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("outer.png", b"outer" * 50)
        file.writestr("inner.zip", archive(False))
        file.writestr("last.png", b"last" * 5000)
    content = out.getvalue()
    end = content.index(b"PK\x05\x06") + 22
    with pytest.raises(ValueError, match="cut off"):
        list(read_directory(io.BytesIO(content[: end + behind])))
