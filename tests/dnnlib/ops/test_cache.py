"""The folder of built libraries: damaged ones, locks of other users, leftovers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import filelock
import pytest

from dnnlib.tflib.ops import build, cache, passed, toolchain


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A library that a script "compiles" in no time; the script notes its calls in tmp_path/log."""
    compiler = tmp_path / "fake-cxx"
    compiler.write_text(
        f"""#!/bin/sh
echo run >> {tmp_path}/log
while [ $# -gt 0 ]; do [ $1 = -o ] && head -c 5000 /dev/zero > $2; shift; done
"""
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.cc").write_text("")
    return build.Plan("ops", tmp_path / "src", ("a.cc",), toolchain.Compiler(str(compiler), "fake", ()), (), ())


def builds(plan) -> int:
    return len((Path(plan.compiler.path).parent / "log").read_text().split()) // 2


@pytest.mark.parametrize("damage", [b"", b"\0" * 1000, b"\0" * 4999, b"\0" * 4999 + b"1"], ids=len)
def test_a_damaged_library_is_built_again(plan, damage):
    """One that was cut short would end the process without a message."""
    library = build.build(plan)
    content = library.read_bytes()
    passed.remember(library, {passed.CPU: ""})
    assert build.build(plan) == library and builds(plan) == 1 and passed.has_passed(library)
    library.write_bytes(damage)
    assert not cache.is_intact(library)
    assert build.build(plan) == library and builds(plan) == 2
    assert library.read_bytes() == content
    assert not passed.has_passed(library)  # another file: it is tested again


def test_a_library_without_its_note_is_built_again(plan):
    library = build.build(plan)
    cache._note(library).unlink()
    assert build.build(plan) == library and builds(plan) == 2
    cache._note(library).write_bytes(b"\xff")
    assert build.build(plan) == library and builds(plan) == 3


def test_the_library_is_on_the_disk_before_it_has_its_name(plan, monkeypatch):
    events, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: (events.append(os.fstat(descriptor).st_size), fsync(descriptor))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append(Path(b).name), replace(a, b)))
    library = build.build(plan)
    named = events.index(library.name)
    assert events[named - 1] == library.stat().st_size


def test_any_user_can_take_the_lock(plan):
    before = os.umask(0o022)
    try:
        library = build.build(plan)
    finally:
        os.umask(before)
    assert library.with_suffix(".lock").stat().st_mode & 0o666 == 0o666


def test_a_lock_that_cannot_be_opened_keeps_nobody_from_building(plan):
    """As that of another user in a shared folder; a folder in its place is one that root cannot open either."""
    lock = plan.output.with_suffix(".lock")
    lock.mkdir(parents=True)
    assert cache.is_intact(build.build(plan))
    assert [path for path in lock.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="two users: only root can be both")
def test_two_users_share_a_folder(plan, tmp_path):
    folder = plan.output.parent
    folder.mkdir(parents=True)
    folder.chmod(0o1777)
    lock = plan.output.with_suffix(".lock")
    lock.touch(0o644)
    for parent in (tmp_path, *tmp_path.parents):  # pytest's folders, deeper where workers have their own
        if parent == Path(tempfile.gettempdir()):
            break
        parent.chmod(0o755)
    (tmp_path / "log").touch()
    (tmp_path / "log").chmod(0o666)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setuid(65533)
            code = 0 if cache.is_intact(build.build(plan)) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert plan.output.stat().st_uid == 65533


def old_library(plan, index: int, days: float, note: bool = True) -> Path:
    """A library of the same kind, last used so many days ago."""
    path = plan.output.with_name(f"ops-{index:020x}.so")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".lock").touch()
    built = path.with_name("built")
    built.write_bytes(b"1" * 1000)
    cache.install(built, path)
    built.unlink()
    when = time.time() - days * 86400
    os.utime(path, (when, when))
    os.utime(cache._note(path), (when, when))
    if not note:
        cache._note(path).unlink()
    passed.remember(path, {passed.CPU: ""})
    return path


def test_libraries_used_last_or_lately_are_kept(plan, capsys):
    libraries = [old_library(plan, days, days, note=days % 2 == 0) for days in range(58, 66)]
    names = ("ops_gpu-1.so", f"ops_cuda-{1:020x}.so", "ops-mine.so", "notes.txt")
    others = [plan.output.with_name(name) for name in names]
    for path in others:
        path.write_bytes(b"")
        os.utime(path, (0, 0))
    cache.use(libraries[3])  # by its time, which is now, and with the shared lock, too
    newest = build.build(plan)
    kept = [newest, *libraries[:2], libraries[3]]  # 58 and 59 days
    assert set(newest.parent.glob("ops-*.so")) == {*kept, others[2]}
    assert all(path.exists() for path in others)
    notes = {path.name.partition(".")[0] for path in newest.parent.glob("ops-*") if path.suffix != ".lock"}
    assert notes == {path.stem for path in (*kept, others[2])}  # notes are gone, too; locks stay
    assert "Removed 5 unfinished or older builds of the ops (0.0 MB) from" in capsys.readouterr().err
    build.build(plan)
    assert capsys.readouterr().err == ""


def test_the_last_three_are_kept_at_any_age(plan):
    libraries = [old_library(plan, days, days) for days in range(100, 105)]
    newest = build.build(plan)
    assert set(newest.parent.glob("ops-*.so")) == {newest, *libraries[:2]}


def test_a_library_removed_after_it_was_looked_at_is_built_again(plan, monkeypatch):
    library, use = build.build(plan), cache.use
    monkeypatch.setattr(cache, "use", lambda path: (builds(plan) == 1 and path.unlink(), use(path))[1])
    assert build.build(plan) == library and builds(plan) == 2 and cache.is_intact(library)


def test_a_folder_that_one_may_not_enter_is_a_build_error(plan, monkeypatch):
    """There Path.exists() raises; root may enter any folder, so that is played."""

    def no(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", no)
    monkeypatch.setattr(Path, "exists", no)
    with pytest.raises(toolchain.BuildError, match="cannot write to"):
        build.build(plan)


def test_a_library_that_a_process_uses_is_kept(plan):
    libraries = [old_library(plan, days, days) for days in range(101, 106)]
    code = """if True:
        import sys, pathlib
        from dnnlib.tflib.ops import cache
        cache.use(pathlib.Path(sys.argv[1]))
        print(flush=True)
        sys.stdin.read()"""
    root = Path(build.__file__).parents[3]
    command = [sys.executable, "-c", code, str(libraries[-1])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as user:
        assert user.stdout.readline()
        os.utime(cache._note(libraries[-1]), (0, 0))  # an age ago, and still running
        build.build(plan)
        assert libraries[-1].exists() and not libraries[-2].exists()
        user.stdin.close()
    plan.output.unlink()
    build.build(plan)
    assert not libraries[-1].exists()


def test_what_killed_builds_left_is_removed_after_a_day(plan, capsys):
    """Whatever locks say: they may know nothing of other machines."""
    folder = plan.output.parent
    folder.mkdir(parents=True)

    def unfinished(stem: str, age_sec: float, file: bool = False) -> Path:
        path = folder / (f".{stem}.so.1234-abcd.tmp" if file else f".{stem}-abcd_123")
        (path if file else path / "a.o").parent.mkdir(exist_ok=True)
        (path if file else path / "a.o").write_bytes(b"1" * 200_000)
        os.utime(path, (time.time() - age_sec,) * 2)
        return path

    dead = [unfinished(plan.output.stem, 90_000), unfinished(f"ops-{1:020x}", 90_000, file=True)]
    alive = [unfinished(f"ops_cuda-{1:020x}", 80_000), unfinished(f"ops-{2:020x}", 0, file=True)]
    alive += [unfinished("mine-ops-1", 90_000), unfinished("mine", 90_000, file=True)]
    build.build(plan)
    assert all(path.exists() for path in alive)
    assert not any(path.exists() for path in dead)
    assert "Removed 2 unfinished or older builds of the ops (0.4 MB) from" in capsys.readouterr().err


def test_a_lock_that_stays_held_does_not_keep_one_for_ever(plan):
    lock = plan.output.with_suffix(".lock")
    lock.parent.mkdir(parents=True)
    with filelock.FileLock(lock), cache.build_lock(plan.output, 0.1):
        pass
