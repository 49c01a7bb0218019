"""What commands write besides data sets (images, archives, packed and repaired sets, crops) is whole or not there."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dataset_tool
from dnnlib.util import UserError
from tests.dataset_tools import fails, tool
from tests.record_sets import pictures, write_set
from training.clean.cascade import Box
from training.clean.crops import write_crops
from training.dataset import TFRecordDataset
from training.dataset_items import Item
from training.published.png_layout import unpack

ROOT = Path(dataset_tool.__file__).parent
COUNT = 12
AFTER = 5  # calls that go well


@dataclass(frozen=True)
class Command:
    """A command, what it calls for every image, and what it calls to write, as MODULE:ATTRIBUTE."""

    arguments: Callable[[Path], tuple[object, ...]]
    reads: str
    writes: str


def _packing(folder: Path) -> tuple[object, ...]:
    return ("pack", "--unpacked_dir", folder / "png", "--tfrecord_dir", folder / "out" / "new")


COMMANDS = {
    "extract": Command(
        lambda folder: ("extract", folder / "set", folder / "out" / "new"),
        "training.dataset:TFRecordDataset.read", "PIL.Image:Image.save",
    ),
    "unpack": Command(
        lambda folder: ("unpack", "--tfrecord_dir", folder / "set", "--output_dir", folder / "out" / "new"),
        "training.dataset:TFRecordDataset.read", "pathlib:Path.write_bytes",
    ),
    "pack": Command(
        _packing, "training.published.png_layout:PngTable.__getitem__", "training.unfinished:Unfinished.open",
    ),
    "export_zip": Command(
        lambda folder: ("export_zip", folder / "set", folder / "out" / "new"),
        "training.dataset:TFRecordDataset.read", "training.published.stored_zip:StoredZip.write",
    ),
    "repair": Command(
        lambda folder: ("verify", folder / "set", "--repair", folder / "out" / "new"),
        "training.tfrecord:RecordFile.read_record", "training.dataset_repair:write_labels",
    ),
}  # fmt: skip


@pytest.fixture(params=COMMANDS)
def command(request) -> Command:
    return COMMANDS[request.param]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A data set, the same as PNG files, and an empty folder for what is written."""
    write_set(tmp_path / "set", pictures(COUNT, (3, 16, 16)), "png", labels=np.eye(3)[np.arange(COUNT) % 3])
    unpack(TFRecordDataset(tmp_path / "set"), tmp_path / "png")
    (tmp_path / "out").mkdir()
    return tmp_path


def _disturb(monkeypatch: pytest.MonkeyPatch, place: str, error: BaseException, after: int = AFTER) -> None:
    """From the call after `after` on, what is at `place` raises."""
    module, _, name = place.partition(":")
    *owners, last = name.split(".")
    owner = importlib.import_module(module)
    for step in owners:
        owner = getattr(owner, step)
    original, calls = getattr(owner, last), []

    def disturbed(*args: object, **options: object) -> object:
        calls.append(1)
        if len(calls) > after:
            raise error
        return original(*args, **options)

    monkeypatch.setattr(owner, last, disturbed)


def _is_complete(folder: Path, command: Command) -> None:
    tool(*command.arguments(folder))
    assert "new" in os.listdir(folder / "out")
    new = folder / "out" / "new"
    if (new / "labels.npy").exists():
        assert len(list(new.glob("*.png"))) == len(np.load(new / "labels.npy")) == COUNT
    elif list(new.glob("*.tfrecords")):
        assert TFRecordDataset(new).num_images == COUNT
    else:
        assert new.is_file() or len(list(new.rglob("*.png"))) == COUNT


def test_an_interrupt_leaves_nothing_but_what_goes_on(folder, command, monkeypatch):
    with monkeypatch.context() as patched:
        _disturb(patched, command.reads, KeyboardInterrupt())
        output = tool(*command.arguments(folder), code=130).output
    goes_on = "the same command goes on from there" in output
    assert goes_on == (command is COMMANDS["pack"])
    assert os.listdir(folder / "out") == ([".new.unfinished"] if goes_on else [])
    _is_complete(folder, command)


def test_a_full_disk_is_one_line_and_leaves_nothing(folder, command, monkeypatch):
    with monkeypatch.context() as patched:
        _disturb(patched, command.writes, OSError(28, "No space left on device"), after=0)
        fails(f"{folder / 'out' / 'new'}: ", *command.arguments(folder))
        fails("No space left on device", *command.arguments(folder))
    assert os.listdir(folder / "out") == []
    _is_complete(folder, command)


_KILLED = """
import importlib, os, signal, sys
place, *arguments = sys.argv[1:]
module, _, name = place.partition(":")
owner, last = importlib.import_module(module), name.rpartition(".")[2]
for step in name.split(".")[:-1]:
    owner = getattr(owner, step)
original, calls = getattr(owner, last), []
def disturbed(*args, **options):
    calls.append(1)
    if len(calls) > 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **options)
setattr(owner, last, disturbed)
import dataset_tool
dataset_tool.cli(arguments)
"""


def test_a_killed_command_leaves_nothing_that_looks_finished(folder, command):
    arguments = [sys.executable, "-c", _KILLED, command.reads, *map(str, command.arguments(folder))]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert all(name.startswith(".new.") for name in os.listdir(folder / "out"))
    _is_complete(folder, command)
    if command is not COMMANDS["export_zip"]:  # that leaves a file, which may be another process's
        assert os.listdir(folder / "out") == ["new"]


def test_extract_refuses_what_is_there(folder):
    (folder / "file").write_text("mine")
    fails("is a file", "extract", folder / "set", folder / "file")
    tool("extract", folder / "set", folder / "out")  # an empty folder is as good as none
    assert len(list((folder / "out").glob("*.png"))) == COUNT
    fails("is not empty", "extract", folder / "set", folder / "out")


@dataclass(frozen=True)
class _Corner:
    """A cascade that finds the upper left corner of everything."""

    def find(self, grey: np.ndarray) -> list[Box]:
        return [Box(0, 0, 4, 4)]


def _items(folder: Path) -> list[Item]:
    paths = sorted((folder / "png").rglob("*.png"))
    return [Item(path.name, str(path)) for path in paths]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_crops_are_all_there_or_none(folder, monkeypatch, error):
    with monkeypatch.context() as patched:
        _disturb(patched, "pathlib:Path.write_bytes", error)
        with pytest.raises((KeyboardInterrupt, UserError)):
            write_crops(folder / "out" / "new", _items(folder), _Corner(), workers=1)
    assert os.listdir(folder / "out") == []
    assert write_crops(folder / "out" / "new", _items(folder), _Corner(), workers=1).num_crops == COUNT


def test_crops_of_images_with_whole_paths_as_names_stay_in_their_folder(folder):
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    items = [Item(str(folder / "a.png"), str(folder / "a.png")), Item("../b.png", str(folder / "a.png"))]
    before = set(folder.iterdir())
    write_crops(folder / "out" / "new", items, _Corner(), workers=1)
    assert set(folder.iterdir()) == before
    inside = {path.relative_to(folder / "out" / "new").as_posix() for path in (folder / "out" / "new").rglob("*.png")}
    assert inside == {f"{folder}/a.png-0.png".lstrip("/"), "b.png-0.png"}
