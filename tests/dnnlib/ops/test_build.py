"""Building the ops: once for many processes, no lock that survives a kill, errors in three lines."""

from __future__ import annotations

import multiprocessing
import os
import platform
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from dnnlib.tflib.ops import build, toolchain
from dnnlib.tflib.ops.toolchain import BuildError

# Forks of a process that has imported TensorFlow already: each of them is a process of its own all the same.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([build.__name__])


def _build(workshop: Path, seconds: str) -> None:
    """In a process that leads a group of its own; output goes to workshop/PID.out, messages to workshop/PID.err."""
    os.setsid()
    os.environ |= {
        "CXX": str(workshop / "fake-cxx"),
        "DNNLIB_CACHE_DIR": str(workshop / "cache"),
        "FAKE_SECONDS": seconds,
    }
    for stream, suffix in ((sys.stdout, "out"), (sys.stderr, "err")):
        with open(workshop / f"{os.getpid()}.{suffix}", "w") as file:
            os.dup2(file.fileno(), stream.fileno())
    print(build.build(build.cpu_plan(source_dir=workshop / "src")), flush=True)


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A folder with one source file and a compiler that notes its calls and writes empty files."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.cc").write_text("int a;\n")
    compiler = tmp_path / "fake-cxx"
    compiler.write_text(
        f"""#!/bin/sh
[ "$1" = --version ] && echo "fake 1.0" && exit
[ "$1" = -mno-avx512fp16 ] && exit 1
echo run >> {tmp_path}/log
sleep "${{FAKE_SECONDS:-0.3}}"
while [ $# -gt 0 ]; do [ "$1" = -o ] && : > "$2"; shift; done
"""
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def start(workshop: Path, seconds: str = "0.3") -> multiprocessing.process.BaseProcess:
    process = PROCESSES.Process(target=_build, args=(workshop, seconds))
    process.start()
    return process


def test_eight_processes_build_once(workshop):
    processes = [start(workshop) for _ in range(8)]
    for process in processes:
        process.join(timeout=240)
    outputs = [[(workshop / f"{p.pid}.{suffix}").read_text() for suffix in ("out", "err")] for p in processes]
    assert [p.exitcode for p in processes] == [0] * 8, outputs
    paths = {out.strip() for out, _ in outputs}
    assert len(paths) == 1 and Path(paths.pop()).exists()
    assert (workshop / "log").read_text().split() == ["run"] * 2  # one file compiled, one library linked
    assert sum("Compiled" in err for _, err in outputs) == 1


def test_a_killed_build_blocks_nobody(workshop):
    victim = start(workshop, "600")
    deadline = time.monotonic() + 120
    while not (workshop / "log").exists():
        assert time.monotonic() < deadline and victim.is_alive()
        time.sleep(0.05)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.join()
    output = build.build(build.cpu_plan(source_dir=workshop / "src"))
    assert output.exists()
    # Nothing half-made is taken for a library, and nothing is left of it.
    assert [p.name for p in output.parent.glob("*.so")] == [output.name]
    assert not list(output.parent.glob(".ops-*"))


def test_a_finished_library_is_not_built_again(workshop, capsys):
    plan = build.cpu_plan(source_dir=workshop / "src")
    assert build.build(plan) == build.build(plan)
    assert (workshop / "log").read_text().split() == ["run"] * 2
    assert capsys.readouterr().err.count("Compiling ops (fake 1.0)") == 1


def test_name_depends_on_everything(workshop, monkeypatch):
    def key() -> str:
        return build.cpu_plan(source_dir=workshop / "src").key

    keys = [key()]
    assert key() == keys[0]
    (workshop / "src" / "a.cc").write_text("int b;\n")
    keys.append(key())
    (workshop / "src" / "b.h").write_text("")
    keys.append(key())
    monkeypatch.setattr(build.tf, "__version__", "9.9.9")
    keys.append(key())
    monkeypatch.setattr(toolchain, "cpu_identity", lambda: "another processor")
    keys.append(key())
    compiler = workshop / "fake-cxx"
    compiler.write_text(compiler.read_text().replace("fake 1.0", "fake 2.0"))
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_what_editors_leave_beside_the_sources(workshop):
    source = workshop / "src"
    (source / "b.h").write_text("int b;\n")
    plan = build.cpu_plan(source_dir=source)
    output = build.build(plan)
    for name in ("a.cc~", "#a.cc#", ".a.cc.swp", "._a.cc"):
        (source / name).write_text("no program")
    (source / ".#a.cc").symlink_to("me@host.123:1")
    for name in (".ipynb_checkpoints", "more.cc"):
        (source / name).mkdir()
    assert build.cpu_plan(source_dir=source) == plan
    assert plan.output == output


def test_sources_that_cannot_be_read(workshop, monkeypatch):
    plan = build.cpu_plan(source_dir=workshop / "src")
    lines = r"cannot read the sources in .*src\n  first error: .*\n  remedy: put the sources .* SG2_OPS=ref"

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BuildError, match=lines):
        build.build(plan)
    (workshop / "src" / "a.cc").unlink()
    (workshop / "src").rmdir()
    with pytest.raises(BuildError, match=lines):
        build.cpu_plan(source_dir=workshop / "src")


def test_compiler_errors_take_three_lines(workshop, monkeypatch):
    monkeypatch.delenv("CXX")
    (workshop / "src" / "a.cc").write_text("#include <vector>\nint a = unknown_name;\n")
    with pytest.raises(BuildError) as info:
        build.build(build.cpu_plan(source_dir=workshop / "src"))
    what, detail, remedy = str(info.value).splitlines()
    assert re.match(r"building the compiled ops failed: .*\+\+ on a.cc \(exit code 1, .*\)", what)
    assert re.match(r"  first error: .*a.cc:2.* error: .unknown_name. was not declared", detail)
    assert remedy.startswith("  remedy: ") and "SG2_OPS=ref" in remedy
    assert not list((workshop / "cache").rglob("*.so"))


@pytest.mark.parametrize(
    "first",
    [
        "a.cc:4:9: error: 'unknown_name' was not declared in this scope",
        "a.cc:1:10: fatal error: error.h: No such file or directory",
        'a.cu(12): error: identifier "unknown_name" is undefined',
        'a.cu(12): error #20: identifier "unknown_name" is undefined',
        "ptxas a.ptx, line 3; error   : Unknown symbol",
        "nvcc fatal   : Unsupported gpu architecture 'compute_1'",
        "/tmp/a.s:7: Error: no such instruction: `vnone'",
        "cc1plus: error: bad value for '-march=' switch",
        "l.cc:(.text+0x5): undefined reference to `f()'",
        "/usr/bin/ld: cannot find -lnone: No such file or directory",
        "an error of another kind",
    ],
)
def test_the_first_error_is_no_warning(first):
    before = [
        "In file included from include/errors.h:3,",
        "                 from a.cc:1:",
        "a.cc:3:14: warning: 'int handler()' is deprecated [-Wdeprecated-declarations]",
        "a.cc:2:20: note: declared here",
        "/usr/bin/ld: warning: none.so, needed by a.so, not found",
    ]
    if "another kind" not in first:  # the word alone counts only where nothing better is found
        before.append("a.cc:3:14: warning: 'int error()' is deprecated [-Wdeprecated-declarations]")
        before += ["  3 | int a = error();", "In file included from /src/error/a.h:3,", "a.cu(2): warning #1: error: n"]
    after = "collect2: error: ld returned 1 exit status"
    text = [*before, first, "    4 | int b = unknown_name;"] + ([after] if "another kind" not in first else [])
    assert toolchain.first_error("\n".join(text)) == first


def test_missing_compilers_are_named(workshop, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BuildError, match=r"no C\+\+ compiler \('no-such-compiler' is not on the PATH\)\n.*\n.*apt-get"):
        build.cpu_plan()
    monkeypatch.setattr(toolchain, "find_nvcc", lambda: None)
    with pytest.raises(
        BuildError, match=r"no CUDA compiler .*\n.*\n  remedy: install a CUDA toolkit and set CUDA_HOME"
    ):
        build.cuda_plan()
    result = CliRunner().invoke(build.main, ["--cuda"])
    assert result.exit_code == 2 and result.output.startswith("error: building the compiled ops failed: no CUDA")


def test_cache_that_cannot_be_written(workshop, monkeypatch):
    (workshop / "cache").write_text("a file in the way")
    with pytest.raises(BuildError, match="cannot write to .*\n.*\n  remedy: set DNNLIB_CACHE_DIR"):
        build.build(build.cpu_plan(source_dir=workshop / "src"))


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELFgarbage", b"#!/no/such/interpreter\n"], ids=["empty", "ELF", "script"]
)
def test_a_compiler_that_cannot_run(workshop, content):
    """The machine's error, in three lines; before, it went through to the command that wanted to draw something."""
    (workshop / "fake-cxx").write_bytes(content)
    what = "building the compiled ops failed: the compiler .*fake-cxx does not run"
    with pytest.raises(
        BuildError, match=f"{what}\n  first error: .*fake-cxx --version: .*\n  remedy: install a compiler"
    ):
        build.cpu_plan(source_dir=workshop / "src")


def test_a_compiler_that_does_not_answer(tmp_path):
    program = tmp_path / "sleeper"
    program.write_text("#!/bin/sh\nexec sleep 100\n")
    program.chmod(0o755)
    with pytest.raises(BuildError, match="sleeper: no answer in 0.2 s\n"):
        toolchain.run_command([str(program)], timeout_sec=0.2)


def say(workshop: Path, lines: str) -> None:
    """Makes the compiler do this in place of compiling."""
    compiler = workshop / "fake-cxx"
    start = compiler.read_text().partition("echo run")[0]
    compiler.write_text(start + lines)


def test_a_compiler_that_writes_no_unicode(workshop):
    compiler = workshop / "fake-cxx"
    compiler.write_text(compiler.read_text().replace('echo "fake 1.0"', r"printf 'fake \377\n'"))
    say(workshop, r"printf 'a.cc:1: error: \377\n' >&2; exit 1")
    plan = build.cpu_plan(source_dir=workshop / "src")
    assert plan.compiler.version == "fake \ufffd"
    with pytest.raises(BuildError, match="first error: a.cc:1: error: \ufffd\n"):
        build.build(plan)


@pytest.mark.parametrize(
    ("lines", "what", "remedy"),
    [
        ("exit 0", r"fake-cxx on a.cc \(wrote no a.cc.o, fake 1.0\)", "use a compiler that fits"),
        ("kill -9 $$", r"fake-cxx on a.cc \(exit code -9, fake 1.0\)", "make sure that nothing ends the compiler"),
        (
            "echo 'ld: final link failed: No space left on device'; echo 'collect2: error: ld returned 1'; exit 1",
            r"on a.cc \(exit code 1, fake 1.0\)\n  first error: ld: final link",
            "the disk is full: make room",
        ),
    ],
    ids=["nothing", "killed", "full"],
)
def test_remedies_fit_what_failed(workshop, lines, what, remedy):
    say(workshop, lines)
    with pytest.raises(BuildError, match=f"failed: .*{what}(?s:.*)\n  remedy: {remedy}"):
        build.build(build.cpu_plan(source_dir=workshop / "src"))


def test_a_full_disk(workshop, monkeypatch):
    """Noticed by what is free as well: a linker that finds no room may die without a word."""
    say(workshop, "kill -7 $$")
    usage = build.shutil.disk_usage(workshop)
    monkeypatch.setattr(build.shutil, "disk_usage", lambda _: usage._replace(free=4096))
    with pytest.raises(BuildError, match="remedy: the disk is full: make room"):
        build.build(build.cpu_plan(source_dir=workshop / "src"))


def test_a_compiler_may_have_arguments(workshop, monkeypatch):
    """`CXX="ccache g++"`, as make allows it: in every call, and in the name of the library."""
    plain = build.cpu_plan(source_dir=workshop / "src")
    wrapper = workshop / "wrapper"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {workshop}/wrapped\nexec "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", f"{wrapper} '{workshop / 'fake-cxx'}'")
    plan = build.cpu_plan(source_dir=workshop / "src")
    assert build.build(plan).exists() and plan.key != plain.key
    calls = (workshop / "wrapped").read_text().splitlines()
    assert len(calls) == 4  # version, flag, one file, linking
    assert all(call.startswith(str(workshop / "fake-cxx")) for call in calls)
    (workshop / "a compiler").symlink_to(workshop / "fake-cxx")
    monkeypatch.setenv("CXX", str(workshop / "a compiler"))  # a name with a blank
    assert toolchain.find_cxx().command == [str(workshop / "a compiler")]
    monkeypatch.setenv("CXX", "g++ 'unfinished")
    with pytest.raises(BuildError, match="not on the PATH"):
        toolchain.find_cxx()
    monkeypatch.setenv("CXX", " ")
    assert Path(toolchain.find_cxx().path).name == "g++"


def test_architectures(monkeypatch):
    nvcc = toolchain.Compiler("nvcc", "release 13.0", ())
    monkeypatch.setattr(toolchain, "supported_archs", lambda _: [75, 80, 90, 120])
    monkeypatch.setattr(toolchain, "present_archs", lambda: [])
    assert toolchain.choose_archs(nvcc) == [75, 80, 90, 120]  # of 70 to 120 what the toolkit knows
    assert toolchain.choose_archs(nvcc, [90]) == [90]
    monkeypatch.setattr(toolchain, "present_archs", lambda: [80])
    assert toolchain.choose_archs(nvcc) == [80]
    monkeypatch.setattr(toolchain, "present_archs", lambda: [130])
    assert toolchain.choose_archs(nvcc) == [120]  # the driver translates
    with pytest.raises(
        BuildError, match=r"nvcc \(release 13.0\) makes no code for sm_70\n  first error: known: sm_75, sm_80"
    ):
        toolchain.choose_archs(nvcc, [70, 80])
    assert toolchain.arch_flags([80, 90]) == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    ]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="instructions of x86-64")
def test_instructions_that_eigen_cannot_compile_are_left_out():
    cxx = toolchain.find_cxx()
    # A processor that has them: where the compiler knows it, the flags must take AVX512-FP16 away from it again.
    flags = [flag for flag in cxx.flags if flag != "-march=native"]
    command = [cxx.path, "-march=sapphirerapids", *flags, "-dM", "-E", "-x", "c++", os.devnull]
    result = toolchain.run_command(command, 60)
    if result.returncode:
        pytest.skip("the compiler does not know Sapphire Rapids")
    assert "__AVX512BW__" in result.stdout
    assert "__AVX512FP16__" not in result.stdout
