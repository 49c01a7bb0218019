"""Conversions that are killed go on with the same command, and end with the bytes of one that was not disturbed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import filelock
import numpy as np
import pytest
from PIL import Image

import dataset_tool
from dnnlib.util import UserError
from tests.dataset_tools import bytes_of, fails, images_of, tool
from training.dataset_build import BuildOptions, Item, build
from training.dataset_items import Part
from training.dataset_writer import DatasetWriter
from training.unfinished import Unfinished, clean_leftovers
from training.work_directory import shared_path

ROOT = Path(dataset_tool.__file__).parent
COUNT = 400


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Images of two classes, with a bad one now and then."""
    folder = tmp_path_factory.mktemp("source") / "images"
    rng = np.random.default_rng(0)
    for index in range(COUNT):
        path = folder / "ab"[index % 2] / f"{index:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index % 37 == 5:
            path.write_bytes(b"broken")
        else:
            Image.fromarray(rng.integers(0, 256, (72, 64, 3), np.uint8)).save(path, compress_level=0)
    return folder


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory) -> dict[str, bytes]:
    """The files of the images converted at one go, by their names."""
    target = tmp_path_factory.mktemp("undisturbed") / "set"
    tool(*_arguments(target, images), "--workers", "1")
    return bytes_of(target)


def _arguments(target: Path, images: Path) -> list[str]:
    return [
        "create_from_images", str(target), str(images), "--resolution", "64", "--labels-from", "folders",
        "--validation", "20", "--channels", "3",
    ]  # fmt: skip


# The tool, noting its progress often: otherwise all would be over before the first note.
_CODE = """
import sys
from dnnlib.util import UserError
from training import dataset_writer
dataset_writer._SAVE_SEC = 0.01
import dataset_tool
dataset_tool.cli(sys.argv[1:])
"""


# A script that is the tool, but for images that take their time in its worker processes.
_SLOW_TOOL = """
import sys, time
sys.path.insert(0, sys.argv[1])
from training import image_files
if __name__ == "__mp_main__":
    render = image_files.render_item
    def slowly(*args, **options):
        time.sleep(0.02)
        return render(*args, **options)
    image_files.render_item = slowly
if __name__ == "__main__":
    import dataset_tool
    dataset_tool.cli(sys.argv[2:])
"""


def test_sigkill_at_ten_moments_changes_nothing(images, undisturbed, tmp_path):
    assert {"validation-set-r06.tfrecords", "validation-set-rxx.labels", "skipped.csv"} <= undisturbed.keys()

    rng = random.Random(7)
    kills = round_number = 0
    seen: list[int] = []  # images that were safe at the moment of each kill

    def enough() -> bool:
        """Ten kills, one of them at least in the middle: a machine that is busy may need later ones for that."""
        return kills >= 10 and any(0 < progress < COUNT for progress in seen)

    while not enough():  # a fast machine may finish several times
        assert kills < 60, seen
        round_number += 1
        target = tmp_path / str(round_number) / "set"
        while not target.exists():
            moment = None if enough() else rng.uniform(0, 0.25) * max(kills / 10, 1)
            killed = _run([*_arguments(target, images), "--workers", str(1 + kills % 2)], moment)
            kills += killed
            if killed:
                seen.append(_progress(target))
        assert bytes_of(target) == undisturbed
        clean_leftovers(target)  # as the next command does: the kill may have come when all but cleaning up was done
        assert os.listdir(target.parent) == ["set"]
    assert enough()


@pytest.mark.parametrize("left", [(), ("lock",), ("lock", "journal.json"), ("lock", "replaced/set/a")])
def test_what_a_kill_while_cleaning_up_leaves(tmp_path, left):
    """Whatever is deleted first: the next command for the same data set removes the rest, and nothing else."""
    root = shared_path(tmp_path / "set")
    for path in (root / name for name in left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    root.mkdir(exist_ok=True)
    clean_leftovers(tmp_path / "set")
    assert root.exists()  # without the data set it is no leftover, but unfinished work
    (tmp_path / "set").mkdir()
    clean_leftovers(tmp_path / "set")
    assert os.listdir(tmp_path) == ["set"]

    root.mkdir()
    (root / "notes.txt").touch()
    clean_leftovers(tmp_path / "set")
    assert (root / "notes.txt").exists()


def _run(arguments: list[str], moment: float | None) -> bool:
    """Runs the tool and kills it so many seconds after its work has begun; whether it was killed before its end."""
    command = [sys.executable, "-c", _CODE, *arguments]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        shown = b""
        while moment is not None and b"img/s" not in shown and (chunk := process.stderr.read(1)):
            shown += chunk
        if moment is not None:
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
        error = process.stderr.read()  # ends when its workers have gone, too
    assert process.returncode in (0, -signal.SIGKILL), error
    return process.returncode != 0


def _progress(target: Path) -> int:
    journal = target.parent / ".set.unfinished" / "journal.json"
    if not journal.exists():
        return 0
    state = json.loads(journal.read_text())["state"]
    return state["num_images"] + state["num_validation"]


class _Bar(contextlib.AbstractContextManager):
    """Stands for the bar of progress."""

    def __init__(self, stop_at: int) -> None:
        self._left = stop_at

    def update(self) -> None:
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt

    def __exit__(self, *error: object) -> None:
        return None


@contextlib.contextmanager
def interrupted_at(count: int) -> Iterator[None]:
    """The person gives up when so many images have been converted."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("training.dataset_build.tqdm.tqdm", lambda **options: _Bar(count))
        yield


def test_ctrl_c_keeps_what_was_done(images, undisturbed, tmp_path):
    arguments = (*_arguments(tmp_path / "b" / "set", images), "--workers", "1")
    with interrupted_at(30):
        output = tool(*arguments, code=130).output
    assert "the same command goes on from there" in output
    assert os.listdir(tmp_path / "b") == [".set.unfinished"]
    other = [*arguments[:4], "32", *arguments[5:]]
    fails("holds a conversion with other options that was interrupted (different: rendering, shape)", *other)
    assert "Going on after 29 images of an interrupted conversion" in tool(*arguments).output
    assert bytes_of(tmp_path / "b" / "set") == undisturbed


def _heed() -> None:
    """Ctrl-C is ignored by what a shell starts in the background, tests for instance."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _messages(error: str) -> list[str]:
    """The lines of stderr without bars of progress."""
    lines = [line for part in error.splitlines() for line in part.split("\r")]
    return [line for line in lines if line and not re.search("img/s|s/img", line)]


@pytest.mark.parametrize("seconds", [0.0, 0.3, 2.0])
def test_ctrl_c_in_a_terminal_is_one_message(images, undisturbed, tmp_path, seconds):
    """The signal goes to the workers too, also while they start."""
    target = tmp_path / "b" / "set"
    (tmp_path / "slow.py").write_text(_SLOW_TOOL)
    command = [sys.executable, tmp_path / "slow.py", ROOT, *_arguments(target, images), "--workers", "2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, preexec_fn=_heed, **pipes) as process:
        shown = b""
        while b"set:" not in shown:  # the bar of the conversion; its workers have been told to start
            chunk = process.stderr.read(1)
            assert chunk, shown
            shown += chunk
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        error = (shown + process.stderr.read()).decode()  # ends when the workers have gone
        output = process.stdout.read().decode()
    assert process.returncode == 130, error
    assert _messages(error) == ["stopped"]
    assert output.splitlines()[-1].endswith("the same command goes on from there.")
    assert os.listdir(target.parent) in ([], [".set.unfinished"])  # nothing is kept of no images
    tool(*_arguments(target, images), "--workers", "1")
    assert bytes_of(target) == undisturbed


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_takes_no_more_is_one_line(images, undisturbed, tmp_path, workers):
    target = tmp_path / "b" / "set"

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))

    command = [sys.executable, "-c", _CODE, *_arguments(target, images), "--workers", str(workers)]
    done = subprocess.run(command, cwd=ROOT, preexec_fn=little_room, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    advice = "with more room the same command goes on from there"
    assert _messages(done.stderr) == [f"error: cannot write {target}: File too large; {advice}"]
    assert os.listdir(target.parent) == [".set.unfinished"] and 0 < _progress(target) < COUNT
    assert "Going on after" in tool(*_arguments(target, images), "--workers", "1").output
    assert bytes_of(target) == undisturbed


def test_a_disk_that_takes_no_more_at_the_very_end(images, undisturbed, tmp_path, monkeypatch):
    """Records are whole, and then there is no room for labels and dataset.json."""
    target = tmp_path / "b" / "set"

    def refuse(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("training.dataset_writer.write_label_header", refuse)
        fails(f"cannot write {target}: No space left on device", *_arguments(target, images), "--workers", "1")
    assert os.listdir(target.parent) == [".set.unfinished"]
    assert f"Going on after {COUNT - 11} images" in tool(*_arguments(target, images), "--workers", "1").output
    assert bytes_of(target) == undisturbed


def test_other_options_begin_anew_on_request(images, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        _interrupted(tmp_path / "set", {"a": 1})
    with pytest.raises(Exception, match=r"different: a\); repeat that command to finish it, or give --overwrite"):
        DatasetWriter(tmp_path / "set", (3, 8, 8), key={"a": 2})
    with DatasetWriter(tmp_path / "set", (3, 8, 8), key={"a": 2}, overwrite=True) as writer:
        assert writer.state is None and writer.num_images == 0
        writer.add(np.ones((3, 8, 8), np.uint8))
    assert os.listdir(tmp_path) == ["set"]


def _interrupted(path: Path, key: dict) -> None:
    with DatasetWriter(path, (3, 8, 8), key=key) as writer:
        for index in range(5):
            writer.add(np.full((3, 8, 8), index, np.uint8))
            writer.checkpoint({"index": index})
        writer.save()
        writer.add(np.zeros((3, 8, 8), np.uint8))  # after the last note
        raise KeyboardInterrupt


def test_what_was_written_since_the_last_note_is_cut_off(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _interrupted(tmp_path / "b" / "set", {})
    with DatasetWriter(tmp_path / "b" / "set", (3, 8, 8), key={}) as writer:
        assert (writer.state, writer.num_images) == ({"index": 4}, 5)
        writer.add(np.full((3, 8, 8), 9, np.uint8))
    with DatasetWriter(tmp_path / "a" / "set", (3, 8, 8)) as writer:
        for value in (0, 1, 2, 3, 4, 9):
            writer.add(np.full((3, 8, 8), value, np.uint8))
    assert bytes_of(tmp_path / "a" / "set") == bytes_of(tmp_path / "b" / "set")


def test_files_that_are_not_those_of_the_journal(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _interrupted(tmp_path / "set", {})
    records = tmp_path / ".set.unfinished" / "set" / "set-r03.tfrecords"
    os.truncate(records, 100)
    with DatasetWriter(tmp_path / "set", (3, 8, 8), key={}) as writer:
        assert writer.state is None
        writer.add(np.ones((3, 8, 8), np.uint8))
    with pytest.raises(KeyboardInterrupt):
        _interrupted(tmp_path / "other", {})
    (tmp_path / ".other.unfinished" / "journal.json").write_text("{")
    with pytest.raises(Exception, match="cannot read .*journal.json: .*; delete .*.other.unfinished to begin anew"):
        DatasetWriter(tmp_path / "other", (3, 8, 8), key={})


def test_two_processes_do_not_write_one_target(images, tmp_path):
    (tmp_path / ".set.unfinished").mkdir()
    with filelock.FileLock(tmp_path / ".set.unfinished" / "lock"):
        fails("another process is writing", *_arguments(tmp_path / "set", images))
    tool(*_arguments(tmp_path / "set", images), "--workers", "1", "--max-images", "10")


def test_killed_between_the_two_steps_of_the_end(tmp_path):
    """Complete, but not tidied up; and an old data set moved away, but the new one not yet in its place."""
    for path, overwrite in ((tmp_path / "new", False), (tmp_path / "old", True)):
        if overwrite:
            with DatasetWriter(path, (3, 8, 8)) as writer:
                writer.add(np.zeros((3, 8, 8), np.uint8))
        with pytest.raises(KeyboardInterrupt):  # noqa: SIM117
            with DatasetWriter(path, (3, 8, 8), key={}, overwrite=overwrite) as writer:
                writer.add(np.full((3, 8, 8), 7, np.uint8))
                writer.checkpoint({})
                writer.save()
                raise KeyboardInterrupt
    work = tmp_path / ".old.unfinished"
    (work / "replaced").mkdir()
    (tmp_path / "old").rename(work / "replaced" / "old")
    with DatasetWriter(tmp_path / "old", (3, 8, 8), key={}, overwrite=True):
        pass
    (tmp_path / ".new.unfinished" / "new").rename(tmp_path / "new")
    fails("is not empty", "create_openmoji", tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]


def _flat(item: Item) -> np.ndarray:
    return np.full((3, 4, 4), int(item.name), np.uint8)


def test_the_work_directory_is_locked_while_in_use(tmp_path):
    with pytest.raises(Exception, match="another process is writing .*set; wait for it, or give another name"):  # noqa: SIM117
        with DatasetWriter(tmp_path / "set", (3, 4, 4), key={}):
            Unfinished(tmp_path / "set", {})


def _noise(item: Item) -> np.ndarray:
    return np.random.default_rng(int(item.name)).integers(0, 256, (3, 512, 512), np.uint8)


def _some_fail(item: Item) -> np.ndarray:
    if item.name == "7":
        raise ValueError("broken")
    return _flat(item)


def test_what_strict_stopped_goes_on_without_it(tmp_path):
    items = [Item(str(index), "") for index in range(10)]

    def convert(name: str, **options) -> None:
        whole = BuildOptions((3, 4, 4), shuffle=False, workers=1, **options)
        build(tmp_path / name / "set", items, _some_fail, whole, [("a.txt", "no image")], say=lambda text: None)

    for _ in range(2):
        with pytest.raises(UserError, match=r"7: ValueError: broken \(without --strict it would be skipped\)"):
            convert("a", strict=True)
    convert("a")
    convert("b")
    assert bytes_of(tmp_path / "a" / "set") == bytes_of(tmp_path / "b" / "set")
    with pytest.raises(KeyboardInterrupt), interrupted_at(9):
        convert("c")
    with pytest.raises(UserError, match="7: ValueError: broken"):
        convert("c", strict=True)


def test_large_records_take_another_way(tmp_path):
    """Of several processes the parent gets them in files; nothing of that is left."""
    items = [Item(str(index), "") for index in range(70)]
    for count in (1, 2):
        options = BuildOptions((3, 512, 512), max_images=20, workers=count)
        build(tmp_path / str(count) / "set", items, _noise, options, say=lambda text: None)
        assert os.listdir(tmp_path / str(count)) == ["set"]
    assert bytes_of(tmp_path / "1" / "set") == bytes_of(tmp_path / "2" / "set")


def test_held_out_images_are_others(tmp_path):
    items = [Item(str(index), "") for index in range(100)]
    for shuffle in (False, True):
        path = tmp_path / str(shuffle)
        options = BuildOptions((3, 4, 4), num_validation=10, shuffle=shuffle, workers=1)
        report = build(path, items, _flat, options, say=lambda text: None)
        assert (report.num_images, report.num_validation) == (90, 10)

        kept, held = images_of(path)[:, 0, 0, 0].tolist(), images_of(path, "validation-")[:, 0, 0, 0].tolist()
        assert sorted(kept + held) == list(range(100)) and max(np.diff(sorted(held))) < 60
        assert (kept == sorted(kept)) == (not shuffle)
        assert json.loads((path / "dataset.json").read_text())["num_validation"] == 10


def test_a_seed_chooses_the_held_out_images(tmp_path):
    items = [Item(str(index), "") for index in range(100)]

    def held_out(name, seed):
        options = BuildOptions((3, 4, 4), num_validation=10, shuffle=False, workers=1, seed=seed)
        build(tmp_path / name, items, _flat, options, say=lambda text: None)
        return images_of(tmp_path / name, "validation-")[:, 0, 0, 0].tolist()

    first, same, other = (held_out(name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first == same and len(set(first) & set(other)) < 6


@dataclass(frozen=True)
class _Disk:
    """Reads images that lie on a disk, which goes away at the fourth one, once."""

    place: Path

    def __call__(self, item: Item) -> np.ndarray:
        away = self.place.with_name("away")
        if item.name == "3.png" and not away.with_suffix(".was").exists():
            away.with_suffix(".was").touch()
            self.place.rename(away)
        if not self.place.exists() or item.name == "1.png":  # that one is missing, and no other
            raise FileNotFoundError(2, "No such file or directory", item.path)
        return np.full((3, 4, 4), int(item.name[0]), np.uint8)


@pytest.mark.parametrize("archive", [False, True])
def test_a_disk_that_goes_away_is_waited_for(tmp_path, archive):
    """That is no reason to call thousands of images bad, and what came before a data set."""
    disk = tmp_path / "disk"
    disk.mkdir()
    place = disk / "pictures.zip"
    if archive:
        place.touch()
    items = [Item(f"{i}.png", str(place if archive else disk / f"{i}.png")) for i in range(6)]
    items = [replace(item, part=Part(0, 1)) if archive else item for item in items]
    options, said = BuildOptions((3, 4, 4), shuffle=False, workers=1), []
    with pytest.raises(UserError, match=r"disk: no longer there, nor is 3\.png; the same command goes on when it is"):
        build(tmp_path / "set", items, _Disk(disk), options, say=said.append)
    assert not (tmp_path / "set").exists()
    (tmp_path / "away").rename(disk)
    report = build(tmp_path / "set", items, _Disk(disk), options, say=said.append)
    assert report.num_images == 5 and [name for name, _ in report.skipped] == ["1.png"]
    assert "Going on after 2 images of an interrupted conversion." in said


# Converts in this process, then names the modules of Cython that were imported meanwhile.
_LATE_IMPORTS = """
import sys
import dataset_tool
before = set(sys.modules)
try:
    dataset_tool.cli(sys.argv[1:])
except SystemExit as done:
    late = [name for name in sys.modules.keys() - before if hasattr(sys.modules[name], "__pyx_capi__")]
    print(done.code, sorted(late))
"""


def test_nothing_that_swallows_ctrl_c_is_imported_late(images, tmp_path):
    """Modules made by Cython lose the signal while they are imported: numpy.random, on its first use."""
    command = [sys.executable, "-c", _LATE_IMPORTS, *_arguments(tmp_path / "set", images), "--workers", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
