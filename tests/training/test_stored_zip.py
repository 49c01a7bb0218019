"""Archives written front to back are what `zipfile` reads, with few members and many, near and far."""

from __future__ import annotations

import io
import zipfile

from hypothesis import given, settings
from hypothesis import strategies as st

from training.published import stored_zip
from training.published.stored_zip import StoredZip
from training.zip_directory import read_directory

names = st.text(st.characters(codec="utf-8", exclude_characters="\0/\\"), min_size=1, max_size=12)


def written(members: dict[str, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    with StoredZip(file) as archive:
        for name, data in members.items():
            archive.write(name, data)
    return file


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(names, st.binary(max_size=99), max_size=6))
def test_zipfile_reads_it(members):
    with zipfile.ZipFile(written(members)) as archive:
        assert archive.testzip() is None
        assert {info.filename: archive.read(info) for info in archive.infolist()} == members
        assert all(info.date_time == (1980, 1, 1, 0, 0, 0) for info in archive.infolist())


def test_more_members_than_16_bits_count():
    file = written({f"{index}.png": b"" for index in range(65_536)})
    with zipfile.ZipFile(file) as archive:
        assert len(archive.namelist()) == 65_536
    assert sum(1 for _ in read_directory(file)) == 65_536


def test_members_beyond_32_bits(monkeypatch):
    """The limit is lowered, so that both ways of telling a place stand in one small archive."""
    monkeypatch.setattr(stored_zip, "_FULL32", 200)
    file = io.BytesIO()
    directory = []
    with StoredZip(file) as archive:
        for index in range(5):
            directory.append(archive._position)
            archive.write(f"{index}", bytes([index]) * 60)
    # Only the mark for a place in the extra field is not what readers know: it is put back.
    content = file.getvalue().replace((200).to_bytes(4, "little"), b"\xff\xff\xff\xff")
    found = list(read_directory(io.BytesIO(content)))
    assert [entry.start for entry in found] == directory
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert [archive.read(str(index)) for index in range(5)] == [bytes([index]) * 60 for index in range(5)]
