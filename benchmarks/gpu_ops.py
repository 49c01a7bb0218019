"""CUDA kernels of the ops against float64 references and against the copy bandwidth of the card.

    python benchmarks/gpu_ops.py [--size 1024] [--check-only] [--cuda-arch 90] [--library FILE]

Builds the CUDA library (nvcc, no TensorFlow headers; or takes one that was built elsewhere), calls its C launchers
through ctypes on PyTorch's memory, compares with float64 (computed by CuPy where that is installed, else by numpy,
which takes minutes at 1024x1024), and times every kernel. A kernel should reach 85% of the bandwidth of a
device-to-device copy measured in the same run.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu_case import DTYPES, Case, errors_of, load_library  # noqa: E402
from benchmarks.gpu_cases import all_cases  # noqa: E402
from benchmarks.gpu_odd_cases import odd_cases  # noqa: E402

TARGET = 0.85
MIN_CALLS = 8  # of a kernel in a measurement
OUT_OF_CACHE = 256 << 20  # bytes, several times the cache of any card


@dataclass
class Gpu:
    """PyTorch's memory and clock."""

    torch: Any
    library: ctypes.CDLL
    xp: Any = np  # numpy or cupy
    bandwidth: float = 0.0  # bytes per second of a copy, reading and writing
    rows: list[tuple[str, str, float]] = field(default_factory=list)

    def time(self, calls: Sequence[Callable[[int], object]], repeats: int = 7) -> float:
        """Median seconds of one of the calls, made one after the other on the stream that they get.

        They are replayed as a graph: launched from Python, short kernels would wait for the interpreter.
        """
        torch = self.torch
        for call in calls:
            call(torch.cuda.current_stream().cuda_stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        count = -(-MIN_CALLS // len(calls)) * len(calls)
        with torch.cuda.graph(graph):
            stream = torch.cuda.current_stream().cuda_stream
            for i in range(count):
                calls[i % len(calls)](stream)
        return self.clock(graph.replay, count, repeats)

    def clock(self, play: Callable[[], object], count: int, repeats: int = 7) -> float:
        """Median seconds of one of the `count` calls that are made by `play`."""
        torch, times = self.torch, []
        for _ in range(repeats):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            play()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end) / 1000 / count)
        return float(np.median(times))

    def measure_copy(self) -> None:
        """Bandwidth of copying 1 GiB, launched one after the other: in a graph copies take a slower way."""
        source = self.torch.empty(1 << 28, dtype=self.torch.float32, device="cuda").normal_()
        target = self.torch.empty_like(source)
        seconds = self.clock(lambda: [target.copy_(source) for _ in range(MIN_CALLS)], MIN_CALLS)
        self.bandwidth = 2 * source.nbytes / seconds

    def tensor(self, a: Any) -> Any:
        """An array as a tensor on the GPU."""
        a = self.xp.ascontiguousarray(a)
        return self.torch.from_numpy(a).cuda() if self.xp is np else self.torch.from_dlpack(a)

    def array(self, t: Any) -> Any:
        """A tensor as an array of `xp`."""
        return t.cpu().numpy() if self.xp is np else self.xp.from_dlpack(t)

    def run(self, case: Case, dtype: str, check_only: bool) -> list[str]:
        """Launch a case, compare, time; returns what is wrong."""
        torch, kind = self.torch, getattr(self.torch, dtype)
        tensors = {
            name: self.tensor(a).to(torch.float32 if name in case.wide else kind) for name, a in case.inputs.items()
        }
        for name, a in case.expected.items():
            tensors[name] = torch.full(a.shape, float("nan"), dtype=torch.float32 if name in case.wide else kind).cuda()
        tensors["workspace"] = torch.empty(max(case.workspace, 1), dtype=torch.float32, device="cuda")
        pointers = {name: t.data_ptr() for name, t in tensors.items()}
        stream = torch.cuda.current_stream().cuda_stream
        code = case.call(self.library, DTYPES.index(dtype), pointers, stream)
        if code:
            return [f"{case.name} {dtype}: {self.library.ops_cuda_error(code).decode()}"]
        torch.cuda.synchronize()
        wrong = errors_of(case, {n: self.array(tensors[n].double()) for n in case.expected}, dtype)
        if not check_only:
            # Numbers of small cases would stay in the cache from call to call: they take turns with copies.
            sets = [tensors]
            for _ in range(min(OUT_OF_CACHE // case.traffic(dtype), MIN_CALLS - 1)):
                sets.append({name: t.clone() for name, t in tensors.items()})

            def launch(tensors: dict[str, Any]) -> Callable[[int], object]:
                pointers = {name: t.data_ptr() for name, t in tensors.items()}
                return lambda stream: case.call(self.library, DTYPES.index(dtype), pointers, stream)

            seconds = self.time([launch(tensors) for tensors in sets])
            self.rows.append((case.name, dtype, case.traffic(dtype) / seconds / self.bandwidth))
        return wrong


def array_module() -> Any:
    """CuPy, which computes the references on the GPU, or numpy."""
    try:
        import cupy
    except ImportError:
        return np
    return cupy


def build_library(torch: Any, archs: tuple[int, ...]) -> Path:
    """Compile the CUDA kernels for the GPU that is there, or for what was asked."""
    from dnnlib.tflib.ops.build import build, cuda_plan

    major, minor = torch.cuda.get_device_capability()
    return build(cuda_plan(archs or [10 * major + minor]))


@click.command()
@click.option("--size", type=int, default=1024, show_default=True, help="Height and width of the images.")
@click.option("--channels", type=int, default=32, show_default=True)
@click.option("--samples", type=int, default=4, show_default=True, help="Images of a minibatch.")
@click.option("--check-only", is_flag=True, help="Compare with float64 at a small size, no timing.")
@click.option("--cuda-arch", "archs", type=int, multiple=True, help="Compute capability, e.g. 90.")
@click.option("--library", "built", type=click.Path(exists=True), help="The CUDA library, where it is built already.")
@click.option("--only", default="", help="Only kernels whose name contains this.")
def main(
    size: int, channels: int, samples: int, check_only: bool, archs: tuple[int, ...], built: str | None, only: str
) -> None:
    """Check and time the CUDA kernels; needs a GPU, nvcc and PyTorch."""
    try:
        import torch
    except ImportError:
        sys.exit("error: PyTorch is not installed: it provides the memory and the clock here (pip install torch)")
    if not torch.cuda.is_available():
        sys.exit("error: PyTorch sees no GPU")
    gpu = Gpu(torch, load_library(built or build_library(torch, archs)), array_module())
    gpu.measure_copy()
    print(f"{torch.cuda.get_device_name()}: copy {gpu.bandwidth / 1e9:.0f} GB/s (read + write)")
    wrong = []
    for shape in [(37, 24, 24, 2)] + ([] if check_only else [(size, channels, 512, samples)]):
        for dtype in DTYPES:
            for case in all_cases(dtype, *shape, gpu.xp):
                if only in case.name:
                    wrong += gpu.run(case, dtype, check_only or shape[0] < 100)
    for dtype in DTYPES:
        for case in odd_cases(dtype, gpu.xp):
            if only in case.name:
                wrong += gpu.run(case, dtype, check_only=True)
    for name, dtype, share in gpu.rows:
        print(f"{name:55s} {dtype:9s} {share:6.1%} of copy{'' if share >= TARGET else '  below target'}")
    for line in wrong:
        print("WRONG:", line)
    print(f"{len(wrong)} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
