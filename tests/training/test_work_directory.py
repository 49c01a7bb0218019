"""Hidden work directories: what is not of this kind is never emptied, whatever its name is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dnnlib.util import UserError
from training.work_directory import WorkDirectory, appears_whole


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


def test_a_link_in_place_of_the_work_directory_is_refused(tmp_path, precious):
    before = _content(precious)
    link = tmp_path / ".out.unfinished"
    link.symlink_to(precious, target_is_directory=True)
    with pytest.raises(UserError, match=f"{link} is a link, .* move it away"):
        WorkDirectory(tmp_path / "out")
    assert _content(precious) == before and link.is_symlink()
    link.unlink()
    link.write_text("mine")
    with pytest.raises(UserError, match=f"{link} is a file, .* move it away"):
        WorkDirectory(tmp_path / "out")
    assert link.read_text() == "mine"


def test_a_folder_with_neither_lock_nor_journal_is_left_alone(tmp_path):
    """It was emptied, even by a command that failed for another reason."""
    folder = tmp_path / ".out.unfinished"
    folder.mkdir()
    (folder / "keep.txt").write_text("mine")
    with pytest.raises(UserError, match=f"{folder} holds keep.txt, .* move it away"):
        WorkDirectory(tmp_path / "out")
    assert os.listdir(folder) == ["keep.txt"]


@pytest.mark.parametrize("left", [(), ("lock", "sources"), ("journal.json", "out")])
def test_what_an_interrupted_process_leaves_is_taken(tmp_path, left):
    """Nothing as yet, a lock, or a journal."""
    folder = tmp_path / ".out.unfinished"
    folder.mkdir()
    for name in left:
        (folder / name).touch()
    work = WorkDirectory(tmp_path / "out")
    assert work.root == folder
    work.remove()
    assert os.listdir(tmp_path) == []


def test_two_that_write_the_same_at_once(tmp_path):
    """The second one worked to its end before it learned of it."""
    target = tmp_path / "out"
    with appears_whole(target) as first:
        with pytest.raises(UserError, match=f"another process is writing {target}; wait"), appears_whole(target):
            pytest.fail("it began to work")
        (first / "a").touch()
    assert os.listdir(tmp_path) == ["out"] and os.listdir(target) == ["a"]


def test_interrupted_work_from_which_another_command_goes_on_stays(tmp_path):
    with WorkDirectory(tmp_path / "out") as work:
        (work.root / "journal.json").write_text("{}")
    with appears_whole(tmp_path / "out"):
        pass
    assert (tmp_path / ".out.unfinished" / "journal.json").exists()
