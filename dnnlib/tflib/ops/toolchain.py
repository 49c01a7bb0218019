"""The compilers on this machine and the flags they are given."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError, cpu_flags, find_program

# Real architectures that kernels are compiled for unless told otherwise, as far as the toolkit knows them.
CUDA_ARCHS = (70, 75, 80, 86, 89, 90, 100, 120)
_CUDA_HOMES = ("/usr/local/cuda", "/opt/cuda")

# `a.cc:3:1: fatal error: ...`, `a.cu(3): error #20: ...`, `ptxas a.ptx, line 3; error   : ...`, `nvcc fatal   : ...`
_MESSAGE_KIND = re.compile(
    r"(?:[:;]|^(?:nvcc|ptxas|nvlink)) (?P<kind>(?:\w+ ){0,2}error|fatal|(?:\w+ )?warning|note|remark)(?: #\S+)?\s*:",
    re.IGNORECASE,
)
_LINKER_ERROR = re.compile(
    r"undefined reference|undefined symbol|multiple definition|\bld\S*: cannot find|no space left on device",
    re.IGNORECASE,
)
_LOOSE_ERROR = re.compile(rf"\berror\b|{_LINKER_ERROR.pattern}", re.IGNORECASE)


class OpsError(UserError):
    """The ops cannot be had as they were asked for: no fault of the network, or the file, that was being built."""


class BuildError(OpsError):
    """Three lines: what failed, the compiler's first error, the remedy."""

    keeps_lines = True

    def __init__(self, what: str, detail: str, remedy: str) -> None:
        super().__init__(f"building the compiled ops failed: {what}\n  first error: {detail}\n  remedy: {remedy}")


@dataclass(frozen=True)
class Compiler:
    """A compiler: its path, the first words of its version, flags for all files, and what stands between the path and
    any flags (`g++` after `ccache`, `-m64` after `g++`)."""

    path: str
    version: str
    flags: tuple[str, ...]
    arguments: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """What every call begins with."""
        return [self.path, *self.arguments]

    @property
    def name(self) -> str:
        """For messages: the command without the folder."""
        return " ".join([Path(self.path).name, *self.arguments])


def run_command(command: Sequence[str], timeout_sec: float = 1800) -> subprocess.CompletedProcess[str]:
    """Run a program, its output captured as text, messages in English. Raises `BuildError` if it does not run."""
    env = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout_sec, env=env, check=False
        )
    except OSError as error:
        reason = error.strerror or str(error)
    except subprocess.TimeoutExpired:
        reason = f"no answer in {timeout_sec:g} s"
    raise BuildError(
        f"the compiler {command[0]} does not run",
        f"{' '.join(command[:3])}: {reason}",
        "install a compiler that runs here, or name one (CXX=g++, or CUDA_HOME for nvcc), or set SG2_OPS=ref to use "
        "the reference ops",
    )


def first_error(output: str) -> str:
    """The first line of a compiler's output that reports an error, else one that speaks of errors, else its last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for reports in (_reports_error, _LOOSE_ERROR.search):
        for line in lines:
            if reports(line):
                return line
    return lines[-1] if lines else "no output"


def _reports_error(line: str) -> bool:
    """Not a warning, nor a path, nor a quoted line of the source that has the word in it."""
    kind = _MESSAGE_KIND.search(line)
    return kind["kind"].lower().endswith(("error", "fatal")) if kind else bool(_LINKER_ERROR.search(line))


def cpu_identity() -> str:
    """What `-march=native` depends on: the machine type and the processor's instruction sets."""
    return f"{platform.machine()} {platform.processor()} {' '.join(sorted(cpu_flags()))}"


def find_cxx() -> Compiler:
    """The C++ compiler: `$CXX`, which may have arguments as in `ccache g++`, or g++. Raises `BuildError` if there is
    none, or it does not run."""
    path, *arguments = _cxx_command()
    command = [path, *arguments]
    result = run_command([*command, "--version"], 60)
    version = result.stdout.splitlines()[0] if result.stdout else "unknown"
    # Nobody looks at traps of floating point; minding them keeps loops with conditions from being vectorised, except
    # for AVX-512.
    flags = ["-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
    flags += tf.sysconfig.get_compile_flags()
    if not any("std=" in flag for flag in flags):
        flags.append("-std=c++17")
    if platform.machine() in ("x86_64", "AMD64", "aarch64", "arm64"):
        flags.append("-march=native")
    # TensorFlow's copy of Eigen does not compile for processors with AVX512-FP16 (Sapphire Rapids and later); compilers
    # that do not know the instructions do not know the flag.
    if run_command([*command, "-mno-avx512fp16", "-E", "-x", "c++", os.devnull], 60).returncode == 0:
        flags.append("-mno-avx512fp16")
    return Compiler(path, version, tuple(flags), tuple(arguments))


def _cxx_command() -> list[str]:
    """Path and arguments. Raises `BuildError` if there is no such program."""
    name, path, arguments = find_program(os.environ.get("CXX", "").strip() or "g++")
    if path is None:
        raise BuildError(
            f"no C++ compiler ({name!r} is not on the PATH)",
            f"{name}: command not found",
            "install g++ (Debian, Ubuntu: apt-get install g++), or set SG2_OPS=ref to use the reference ops",
        )
    return [path, *arguments]


def find_nvcc() -> Compiler | None:
    """nvcc from the PATH, `$CUDA_HOME` or the usual folders; None if there is none."""
    homes = [os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "", *_CUDA_HOMES]
    candidates = [shutil.which("nvcc")] + [os.path.join(home, "bin", "nvcc") for home in homes if home]
    path = next((p for p in candidates if p and os.access(p, os.X_OK)), None)
    if path is None:
        return None
    release = re.search(r"release .*", run_command([path, "--version"], 60).stdout)
    flags = ("-O3", "-std=c++17", "--expt-relaxed-constexpr", "-Xcompiler", "-fPIC", "-cudart", "static")
    return Compiler(path, release.group(0) if release else "unknown", flags)


def supported_archs(nvcc: Compiler) -> list[int]:
    """Compute capabilities (80 for 8.0) that this nvcc makes code for."""
    output = run_command([nvcc.path, "--list-gpu-code"], 60).stdout
    return sorted({int(n) for n in re.findall(r"sm_(\d+)\b", output)})


def present_archs() -> list[int]:
    """Compute capabilities of the GPUs that TensorFlow sees."""
    details = [tf.config.experimental.get_device_details(d) for d in tf.config.list_physical_devices("GPU")]
    capabilities = [d.get("compute_capability") for d in details]
    return sorted({10 * c[0] + c[1] for c in capabilities if c})


def choose_archs(nvcc: Compiler, asked: Sequence[int] = ()) -> list[int]:
    """The architectures to compile for: those asked for, else those of the GPUs present, else the whole range.

    Raises `BuildError` where the toolkit knows none of them.
    """
    known = supported_archs(nvcc)
    wanted = list(asked) or present_archs() or list(CUDA_ARCHS)
    archs = [a for a in wanted if a in known]
    unknown = [a for a in asked if a not in known]
    if unknown or not archs:
        # A newer GPU than the toolkit: code for the newest known one is translated by the driver at load time.
        if not asked and known and min(wanted) > max(known):
            return [max(known)]
        raise BuildError(
            f"nvcc ({nvcc.version}) makes no code for {', '.join(f'sm_{a}' for a in unknown or wanted)}",
            f"known: {', '.join(f'sm_{a}' for a in known)}",
            "choose with --cuda-arch, install a CUDA toolkit that knows the GPU, or set SG2_OPS=ref",
        )
    return archs


def arch_flags(archs: Sequence[int]) -> list[str]:
    """nvcc flags: machine code for every architecture, and PTX of the newest for GPUs to come."""
    flags = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in archs]
    newest = max(archs)
    return [*flags, f"-gencode=arch=compute_{newest},code=compute_{newest}"]
