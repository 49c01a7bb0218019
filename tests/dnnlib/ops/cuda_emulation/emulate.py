"""CUDA sources as C++ for the emulation next to this file, and its libraries."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from dnnlib.tflib.ops import build, toolchain


def split_arguments(text: str) -> list[str]:
    """Split at the commas outside of brackets."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return parts


def shared_variables(match: re.Match[str]) -> str:
    """__shared__ float a[N], b[M]; as static variables, each declared to the emulation."""
    plain, inner = match.group(1), 1
    while inner:  # commas between arguments of templates
        plain, inner = re.subn(r"(?<!<)<[^<>]*>", "", plain)
    names = [re.search(r"(\w+)\s*(\[.*\])?$", part.strip(), re.DOTALL).group(1) for part in split_arguments(plain)]
    return f"static {match.group(1)};" + "".join(f" emulation::declare_shared({name});" for name in names)


def rewrite(source: str) -> str:
    """kernel<<<grid, block, ...>>>(...) and shared memory as C++."""

    def launch(match: re.Match[str]) -> str:
        kernel = match.group(1)
        grid, block, shared = split_arguments(match.group(2))[:3]
        name = kernel.partition("<")[0]
        return f'emulation::launch("{name}", {grid}, {block}, {shared}, [&](auto... a) {{ {kernel}(a...); }})'

    source = re.sub(
        r"extern __shared__ (\w+) (\w+)\[\]", r"\1* const \2 = static_cast<\1*>(emulation::dynamic_shared())", source
    )
    source = re.sub(r"__shared__ ([^;]*);", shared_variables, source)
    return re.sub(r"([A-Za-z_]\w*(?:<[^;{}]*?>)?)\s*<<<(.*?)>>>", launch, source, flags=re.DOTALL)


def emulate(folder: Path, sources: Iterable[Path], *flags: str) -> ctypes.CDLL:
    """These files of kernels, rewritten to the folder and compiled there by g++."""
    for path in [*sources, *build.SOURCE_DIR.glob("*.cuh")]:
        name = folder / path.name
        (name.with_suffix(".cc") if path.suffix == ".cu" else name).write_text(rewrite(path.read_text()))
    command = [toolchain.find_cxx().path, "-std=c++17", "-O1", "-U_FORTIFY_SOURCE", "-fPIC", "-shared", "-w", *flags]
    command += [f"-I{folder}", f"-I{Path(__file__).parent}", f"-I{build.SOURCE_DIR}", *map(str, folder.glob("*.cc"))]
    result = subprocess.run([*command, "-o", str(folder / "emulated.so")], capture_output=True, text=True, check=False)
    assert result.returncode == 0, toolchain.first_error(result.stderr)
    return declare(ctypes.CDLL(str(folder / "emulated.so")))


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Types of what the emulation adds to a library."""
    library.emulation_launched.restype = ctypes.c_char_p
    library.emulation_meetings.restype = ctypes.c_int64
    return library
