"""Build the compiled ops: `python -m dnnlib.tflib.ops.build [--cuda] [--cuda-arch 80 ...]`.

Libraries lie in the cache folder (`$DNNLIB_CACHE_DIR` or ~/.cache/dnnlib) under a name made of the sources, the
TensorFlow version, the compilers, their flags and the processor, so that nothing is ever out of date or overwritten.
A file lock that dies with its process lets one of several processes build; the file appears complete or not at all.
One that was damaged since is built anew; those that nobody has used for two months are removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click

from dnnlib.tflib.ops import cache, passed, toolchain
from dnnlib.tflib.ops.toolchain import BuildError, Compiler
from dnnlib.tflib.tfutil import num_gpus, tf
from dnnlib.util import UserError, make_cache_dir_path

SOURCE_DIR = Path(__file__).parent / "csrc"
_SUFFIXES = (".cc", ".cu", ".cuh", ".h")
_FORMAT = "1"  # of the cache
_FULL_DISK = 1 << 20  # bytes free
_OTHER_FOLDER = "set DNNLIB_CACHE_DIR to a folder that can be written"
_OR_REFERENCE = "or set SG2_OPS=ref to use the reference ops"
_OTHER_COMPILER = f"use a compiler that fits this TensorFlow (CXX=g++-12, or CUDA_HOME for nvcc), {_OR_REFERENCE}"
_MORE_MEMORY = f"make sure that nothing ends the compiler, as systems do that run out of memory, {_OR_REFERENCE}"
_MORE_ROOM = (
    "the disk is full: make room, set DNNLIB_CACHE_DIR (and TMPDIR, the compiler's) to a folder that has some, "
    f"{_OR_REFERENCE}"
)


@dataclass(frozen=True)
class Plan:
    """One library: sources in `source_dir`, compiler, what to link, and its place in the cache."""

    name: str
    source_dir: Path
    sources: tuple[str, ...]
    compiler: Compiler
    flags: tuple[str, ...]
    link_flags: tuple[str, ...]

    @property
    def key(self) -> str:
        """Hash of everything that the library depends on. Raises `BuildError` if a source cannot be read."""
        digest = hashlib.sha256()
        parts = [
            _FORMAT,
            self.name,
            tf.__version__,
            *self.compiler.command,
            self.compiler.version,
            toolchain.cpu_identity(),
        ]
        for text in [*parts, *self.compiler.flags, *self.flags, *self.link_flags]:
            digest.update(text.encode() + b"\0")
        for path in _source_files(self.source_dir, *_SUFFIXES):
            with _readable(self.source_dir):
                digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()[:20]

    @property
    def output(self) -> Path:
        """Where the library will be. Raises `BuildError` if a source cannot be read."""
        return Path(make_cache_dir_path("ops")) / f"{self.name}-{self.key}.so"


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = f"put the sources of the ops back and let this user read them, {_OR_REFERENCE}"
        raise BuildError(f"cannot read the sources in {folder}", str(error), remedy) from None


def _source_files(folder: Path, *suffixes: str) -> list[Path]:
    """Not what editors and notebooks leave beside them: locks (links to nowhere), backups, hidden files, folders."""
    with _readable(folder):
        paths = sorted(p for p in folder.iterdir() if p.suffix in suffixes and not p.name.startswith("."))
        return [p for p in paths if p.is_file()]


def cuda_plan(archs: Sequence[int] = (), source_dir: Path = SOURCE_DIR) -> Plan:
    """The CUDA kernels with their C launchers: no TensorFlow in it.

    Raises `BuildError` without nvcc, or where the sources cannot be read.
    """
    nvcc = toolchain.find_nvcc()
    if nvcc is None:
        raise BuildError(
            "no CUDA compiler (nvcc is neither on the PATH nor in $CUDA_HOME)",
            "nvcc: command not found",
            "install a CUDA toolkit and set CUDA_HOME, or set SG2_OPS=ref to use the reference ops",
        )
    sources = tuple(p.name for p in _source_files(source_dir, ".cu"))
    flags = tuple(toolchain.arch_flags(toolchain.choose_archs(nvcc, archs)))
    return Plan("ops_cuda", source_dir, sources, nvcc, flags, ("-shared",))


def cpu_plan(cuda: Plan | None = None, source_dir: Path = SOURCE_DIR) -> Plan:
    """The library that TensorFlow loads: CPU kernels, and with `cuda` the glue to those launchers.

    Raises `BuildError` without a compiler, or where the sources cannot be read.
    """
    cxx = toolchain.find_cxx()
    sources = tuple(p.name for p in _source_files(source_dir, ".cc"))
    link_flags = ["-shared", *tf.sysconfig.get_link_flags()]
    if cuda is None:
        return Plan("ops", source_dir, sources, cxx, (), tuple(link_flags))
    link_flags += [str(cuda.output), "-Wl,-rpath,$ORIGIN"]
    return Plan("ops_gpu", source_dir, sources, cxx, ("-DOPS_WITH_CUDA",), tuple(link_flags))


def build(plan: Plan, verbose: bool = False) -> Path:
    """Path of the library, compiled now unless the cache has it. Raises `BuildError`."""
    output = plan.output
    if cache.is_intact(output) and cache.use(output).exists():  # else it was removed between the two
        return output
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with cache.build_lock(output) as locked:
            if not cache.is_intact(output):
                _compile(plan, output, verbose)
                cache.sweep(output, locked)
            return cache.use(output)
    except OSError as error:
        # Not Path.exists(), which raises in a folder that one may not enter.
        place = output if os.path.exists(output) else output.parent
        raise BuildError(f"cannot write to {place}", str(error), _room(output) or _OTHER_FOLDER) from None


def _compile(plan: Plan, output: Path, verbose: bool) -> None:
    start = time.monotonic()
    print(f"Compiling {plan.name} ({plan.compiler.version}) ...", file=sys.stderr, flush=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{output.stem}-", dir=output.parent))
    try:
        commands, objects = [], []
        for source in plan.sources:
            objects.append(str(folder / (source + ".o")))
            flags = [*plan.compiler.flags, *plan.flags]
            commands.append([*plan.compiler.command, *flags, "-c", str(plan.source_dir / source), "-o", objects[-1]])
        with ThreadPoolExecutor(max_workers=min(len(commands), os.cpu_count() or 1)) as pool:
            list(pool.map(lambda command: _execute(plan, command, verbose), commands))
        library = folder / output.name
        compile_flags = plan.flags if plan.name == "ops_cuda" else ()
        link = [*plan.compiler.command, *compile_flags, *objects, *plan.link_flags, "-o", str(library)]
        _execute(plan, link, verbose)
        passed.forget(output)
        _install(library, output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"Compiled {output} in {time.monotonic() - start:.0f}s", file=sys.stderr, flush=True)


def _install(built: Path, output: Path) -> None:
    try:
        cache.install(built, output)
    except UserError as error:  # a full disk
        raise BuildError(f"cannot write to {output.parent}", str(error), _MORE_ROOM) from None


def _execute(plan: Plan, command: list[str], verbose: bool) -> None:
    """Runs a command that ends in the name of the file that it makes."""
    if verbose:
        print(" ".join(command), file=sys.stderr, flush=True)
    result = toolchain.run_command(command)
    made = Path(command[-1])
    if result.returncode == 0 and made.exists():
        return
    how = f"exit code {result.returncode}" if result.returncode else f"wrote no {made.name}"
    step = next((Path(part).name for part in command if part.endswith((".cc", ".cu"))), "linking")
    output = result.stderr + result.stdout
    remedy = _room(made, output) or _OTHER_COMPILER
    if remedy == _OTHER_COMPILER and (result.returncode < 0 or "Killed signal" in output):
        remedy = _MORE_MEMORY
    raise BuildError(
        f"{plan.compiler.name} on {step} ({how}, {plan.compiler.version})", toolchain.first_error(output), remedy
    )


def _room(file: Path, output: str = "") -> str:
    """The remedy where the disk of a file is full, by what a program wrote or by what is free there, else ''."""
    texts = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
    try:
        full = shutil.disk_usage(file.parent).free < _FULL_DISK
    except OSError:
        full = False
    return _MORE_ROOM if full or any(text in output for text in texts) else ""


def build_library(cuda: bool | None = None, archs: Sequence[int] = (), verbose: bool = False) -> Path:
    """Build what this machine needs and return the library for TensorFlow.

    cuda: with GPU kernels; None for where TensorFlow sees a GPU. archs: compute capabilities, e.g. [80, 90]; empty
    for those of the GPUs present. Raises `BuildError`.
    """
    if cuda is None:
        cuda = bool(archs) or num_gpus() > 0
    if not cuda:
        return build(cpu_plan(), verbose)
    plan = cuda_plan(archs)
    build(plan, verbose)
    return build(cpu_plan(plan), verbose)


def is_built() -> bool:
    """Whether `build_library` would have nothing to do: starts no build, writes nothing."""
    try:
        cuda = cuda_plan() if num_gpus() else None
        return all(cache.is_intact(plan.output) for plan in (cuda, cpu_plan(cuda)) if plan is not None)
    except UserError:
        return False


@click.command()
@click.option("--cuda/--no-cuda", default=None, help="With CUDA kernels [default: if TensorFlow sees a GPU].")
@click.option("--cuda-arch", "archs", type=int, multiple=True, help="Compute capability, e.g. 80; may be repeated.")
@click.option("--verbose", is_flag=True, help="Show the commands.")
def main(cuda: bool | None, archs: tuple[int, ...], verbose: bool) -> None:
    """Build the compiled ops for this machine and test them; needs g++, and nvcc for GPUs."""
    from dnnlib.tflib.ops import library

    try:
        path = build_library(cuda, archs, verbose)
        print(path)
        if path != build_library():
            print("not tested: this machine itself uses another build")
            return
        for device, error in (library.get().tested or {}).items():
            print(f"{device}: {error or 'correct'}")
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
