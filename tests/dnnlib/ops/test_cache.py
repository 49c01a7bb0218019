"""The folder of built libraries: damaged ones, locks of other users, leftovers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
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


def test_libraries_used_last_are_kept(plan, capsys):
    libraries = [old_library(plan, days, days, note=days % 2 == 0) for days in range(1, 7)]
    other_kinds = [plan.output.with_name(name) for name in ("ops_gpu-1.so", "ops_cuda-1.so", "notes.txt")]
    for path in other_kinds:
        path.write_bytes(b"")
        os.utime(path, (0, 0))
    cache.use(libraries[3])  # by name: it lives on with the shared lock, too
    newest = build.build(plan)
    assert set(newest.parent.glob("ops-*.so")) == {newest, libraries[0], libraries[3]}
    assert all(path.exists() for path in other_kinds)
    stems = {path.name.partition(".")[0] for path in newest.parent.glob("ops-*")}
    assert stems == {path.stem for path in (newest, libraries[0], libraries[3])}  # notes and locks are gone, too
    assert "Removed 4 unfinished or older builds of the ops (0.0 MB) from" in capsys.readouterr().err
    build.build(plan)
    assert capsys.readouterr().err == ""


def test_a_library_that_a_process_uses_is_kept(plan):
    libraries = [old_library(plan, days, days) for days in range(1, 6)]
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


def test_what_killed_builds_left_is_removed(plan, capsys):
    folder = plan.output.parent
    folder.mkdir(parents=True)

    def unfinished(stem: str) -> Path:
        path = folder / f".{stem}-abcd_123"
        path.mkdir()
        (path / "a.o").write_bytes(b"1" * 200_000)
        return path

    dead = [unfinished(plan.output.stem), unfinished(f"ops-{1:020x}"), unfinished(f"ops_cuda-{1:020x}")]
    alive = unfinished(f"ops-{2:020x}")
    strange = folder / ".mine-ops-1"
    strange.mkdir()
    with filelock.FileLock(folder / f"ops-{2:020x}.lock"):
        build.build(plan)
    assert alive.exists() and strange.exists()
    assert not any(path.exists() for path in dead)
    assert "Removed 3 unfinished or older builds of the ops (0.6 MB) from" in capsys.readouterr().err
    assert {path.name for path in folder.glob("*.lock")} == {f"{plan.output.stem}.lock", f"ops-{2:020x}.lock"}


def test_a_build_without_a_lock_has_a_day(plan):
    """Its folder may be that of a build that goes on, which no lock tells."""
    folder = plan.output.with_name(f".{plan.output.stem}-abcd_123")
    plan.output.with_suffix(".lock").mkdir(parents=True)
    folder.mkdir()
    build.build(plan)
    assert folder.exists()
    os.utime(folder, (0, 0))
    plan.output.unlink()
    build.build(plan)
    assert not folder.exists()
    shutil.rmtree(plan.output.with_suffix(".lock"))
