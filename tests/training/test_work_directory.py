"""Hidden work directories: what is not of this kind is never emptied, whatever its name is."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.work_directory import WorkDirectory


@pytest.fixture
def precious(tmp_path) -> Path:
    """A folder of somebody's, with a file that is called as our lock is."""
    folder = tmp_path / "precious"
    (folder / "sub").mkdir(parents=True)
    for name in ("lock", "data.txt", "sub/more.txt"):
        (folder / name).write_text("mine")
    return folder


def _content(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_link_is_no_orphan(tmp_path, precious):
    """It was followed, and the folder that it leads to emptied."""
    before = _content(precious)
    link = tmp_path / ".out.unfinished-abcdefgh"
    link.symlink_to(precious, target_is_directory=True)
    WorkDirectory(tmp_path / "out").remove()
    assert _content(precious) == before and link.is_symlink()
