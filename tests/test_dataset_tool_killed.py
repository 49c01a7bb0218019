"""Commands that write images as they come, killed: the next one goes on or clears up, and its bytes are the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import filelock
import h5py
import numpy as np
import pytest
from PIL import Image

import dataset_tool
from tests.dataset_tools import bytes_of, fails, tool
from tests.published_files import write_idx
from training.work_directory import WorkDirectory, appears_whole

ROOT = Path(dataset_tool.__file__).parent

# The tool, which notes its progress at every image, and is killed at one of them.
_CODE = """
import os, signal, sys
from training import dataset_writer
dataset_writer._SAVE_SEC, dataset_writer._SAVE_SHARE = 0, 1e9
append, left = dataset_writer.DatasetWriter.append, [int(sys.argv[1])]
def append_or_die(*args):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    append(*args)
dataset_writer.DatasetWriter.append = append_or_die
import dataset_tool
dataset_tool.cli(sys.argv[2:])
"""


def _killed(moment: int, *args: object) -> None:
    """Runs a command that is killed when it writes that image, counted from 1."""
    command = [sys.executable, "-c", _CODE, str(moment), *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def _mnist(folder: Path) -> Path:
    digits = np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)
    write_idx(folder / "train-images-idx3-ubyte.gz", digits)
    write_idx(folder / "train-labels-idx1-ubyte.gz", np.arange(12, dtype=np.uint8) % 10)
    return folder


def _hdf5(folder: Path) -> Path:
    folder.mkdir()
    with h5py.File(folder / "images.h5", "w") as file:
        file["data8x8"] = np.random.default_rng(1).integers(0, 256, (12, 3, 8, 8), np.uint8)
    return folder / "images.h5"


def _pictures(folder: Path) -> Path:
    folder.mkdir()
    for index in range(12):
        pixels = np.random.default_rng(index).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return folder


def _arguments(command: str, out: Path, source: Path) -> list[object]:
    if command == "pack":
        return [command, "--tfrecord_dir", out, "--unpacked_dir", source, "--mirror", 1, "--num_validation", 3]
    if command == "create_mnistrgb":
        return [command, out, source, "--num_images", 15]
    return [command, out, source, "--validation", 3]


@pytest.mark.parametrize(
    ("command", "make"),
    [("create_mnist", _mnist), ("create_mnistrgb", _mnist), ("create_from_hdf5", _hdf5), ("pack", _pictures)],
)
def test_what_was_killed_goes_on(tmp_path, command, make):
    """In the middle, and again among the last ones: those held out, if there are any."""
    source = make(tmp_path / "in")
    tool(*_arguments(command, tmp_path / "a" / "set", source))
    arguments = _arguments(command, tmp_path / "b" / "set", source)
    _killed(6, *arguments)
    _killed(6, *arguments)
    assert os.listdir(tmp_path / "b") == [".set.unfinished"]
    assert "Going on after 10 images of an interrupted conversion." in tool(*arguments).output
    assert os.listdir(tmp_path / "b") == ["set"]
    assert bytes_of(tmp_path / "b" / "set") == bytes_of(tmp_path / "a" / "set")


@pytest.mark.parametrize(("command", "make"), [("create_mnist", _mnist), ("create_from_hdf5", _hdf5)])
def test_other_images_are_not_mixed_with_those_of_before(tmp_path, command, make):
    """The same command, but its source has changed meanwhile."""
    source = make(tmp_path / "in")
    arguments = _arguments(command, tmp_path / "b" / "set", source)
    _killed(6, *arguments)
    if command == "create_mnist":
        write_idx(source / "train-images-idx3-ubyte.gz", np.zeros((12, 28, 28), np.uint8))
    else:
        with h5py.File(source, "r+") as file:
            file["data8x8"][...] = 0
        os.utime(source, (1, 1))
    fails("was interrupted (different: images); repeat that command to finish it, or give --overwrite", *arguments)
    tool(*arguments, "--overwrite")
    tool(*_arguments(command, tmp_path / "a" / "set", source))
    assert bytes_of(tmp_path / "b" / "set") == bytes_of(tmp_path / "a" / "set")


def test_a_bad_file_leaves_nothing_to_go_on_from(tmp_path):
    """It has to be repaired or taken away, and then the list of images may be another one."""
    source = _pictures(tmp_path / "in")
    (source / "07.png").write_bytes((source / "07.png").read_bytes()[:60])
    arguments = _arguments("pack", tmp_path / "b" / "set", source)
    fails("cannot read", *arguments)
    assert os.listdir(tmp_path / "b") == []
    (source / "07.png").unlink()
    tool(*arguments)


def test_what_killed_processes_left_for_themselves_is_removed(tmp_path):
    for _ in range(2):  # as if killed: the locks are free, the directories are there
        left = WorkDirectory(tmp_path / "out", own=True)
        (left.root / "out").mkdir()
        (left.root / "out" / "img00000000.png").touch()
        left.release()
    tempfile.mkdtemp(prefix=".out.unfinished-", dir=tmp_path)  # killed before it had the lock
    (tmp_path / ".out.unfinished-notes").mkdir()  # not of that kind
    with appears_whole(tmp_path / "out") as first:
        assert len(os.listdir(tmp_path)) == 3  # with the folder of notes, and the lock of the target
        with WorkDirectory(tmp_path / "out", own=True):
            assert first.is_dir()  # at work at the same time: not taken for an orphan
        (first / "a").touch()
    assert os.listdir(tmp_path / "out") == ["a"]
    assert sorted(os.listdir(tmp_path)) == [".out.unfinished-notes", "out"]


def test_a_target_is_locked_before_its_sources_are_read(tmp_path, monkeypatch):
    """Two equal commands: cleaning and looking at the sources take hours, and their files lie beside the target."""
    source, arguments = _pictures(tmp_path / "in"), ["create_from_images", tmp_path / "set", tmp_path / "in.tar.gz"]
    with tarfile.open(tmp_path / "in.tar.gz", "w:gz") as archive:
        archive.add(source, "in")
    from training import dataset_sources

    look, seen = dataset_sources.label_items, []

    def look_meanwhile(*args):
        seen.append(sorted(os.listdir(tmp_path / ".set.unfinished" / "sources")))
        with pytest.raises(filelock.Timeout), filelock.FileLock(tmp_path / ".set.unfinished" / "lock", timeout=0):
            pass
        return look(*args)

    monkeypatch.setattr(dataset_sources, "label_items", look_meanwhile)
    (tmp_path / ".set.unfinished" / "sources").mkdir(parents=True)
    (tmp_path / ".set.unfinished" / "lock").touch()
    tool(*arguments)
    assert len(seen) == 1 and len(seen[0]) == 1
    assert sorted(os.listdir(tmp_path)) == ["in", "in.tar.gz", "set"]


def test_a_partial_copy_of_an_archive_is_written_again(tmp_path, monkeypatch):
    """Not beside the one that a killed process has left."""
    source = _pictures(tmp_path / "in")
    with tarfile.open(tmp_path / "in.tar.gz", "w:gz") as archive:
        archive.add(source, "in")
    code = """
import os, signal, sys
from training import tar_archives
tar_archives.os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
import dataset_tool
dataset_tool.cli(sys.argv[1:])
"""
    arguments = ["create_from_images", str(tmp_path / "set"), str(tmp_path / "in.tar.gz")]
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True)
        assert done.returncode == -signal.SIGKILL
        assert len(os.listdir(tmp_path / ".set.unfinished" / "sources")) == 1
    tool(*arguments)
    assert sorted(os.listdir(tmp_path)) == ["in", "in.tar.gz", "set"]
