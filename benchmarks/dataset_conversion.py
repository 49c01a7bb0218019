"""Speed and size of conversions into data sets: `python benchmarks/dataset_conversion.py`.

Each row converts the same files with `create_from_images`, and with nothing but Pillow in a plain loop: open, crop,
resize, encode (for raw: all levels, by `Image.reduce`), write to one file. Times are medians of runs that take turns,
so that a ratio compares like with like on a machine whose speed varies.

* of Pillow: images per second of the conversion in one process over those of Pillow.
* two cores: images per second with two worker processes over those with one process, starting them included.
* by CPU time: what two cores would give that run as fast as one does alone: twice the seconds of processors of the
  conversion in one process over those with two worker processes, starting them included.
* Pillow on two: the same of Pillow, in two processes that run already and write a file each: what the machine allows.
* disk: size of the data set over that of the source files.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from training.dataset_build import BuildOptions  # noqa: E402
from training.dataset_sources import ImageOptions, create_from_images  # noqa: E402
from training.encodings import Encoding  # noqa: E402


@dataclass(frozen=True)
class Case:
    """One conversion: what the files are, and what they become."""

    source: str  # format of the files
    size: tuple[int, int]  # of the files, (width, height)
    side: int  # of the result
    encoding: str


CASES = {
    "jpeg 640x480 to raw 256": Case("jpeg", (640, 480), 256, "raw"),
    "jpeg 640x480 to png 256": Case("jpeg", (640, 480), 256, "png"),
    "jpeg 640x480 to jpeg 256": Case("jpeg", (640, 480), 256, "jpeg"),
    "jpeg 1024x1024 to raw 1024": Case("jpeg", (1024, 1024), 1024, "raw"),
    "jpeg 512x512 kept": Case("jpeg", (512, 512), 512, "jpeg"),
    "png 256x256 kept": Case("png", (256, 256), 256, "png"),
}


@dataclass(frozen=True)
class Row:
    """What was measured. Rates in images per second."""

    name: str
    images: int
    pillow: float
    pillow_two: float
    one: float
    two: float
    cpu_one: float  # seconds of processors of one run
    cpu_two: float
    disk: float  # size of the data set / of the source

    @property
    def of_pillow(self) -> float:
        """Rate in one process over that of Pillow."""
        return self.one / self.pillow

    @property
    def pillow_scaling(self) -> float:
        """Rate of Pillow in two processes over that in one."""
        return self.pillow_two / self.pillow

    @property
    def scaling(self) -> float:
        """Rate of two processes over that of one."""
        return self.two / self.one

    @property
    def scaling_by_cpu(self) -> float:
        """The same on cores whose speed does not depend on what else runs."""
        return 2 * self.cpu_one / self.cpu_two


def make_files(folder: Path, case: Case, count: int) -> None:
    """Pictures with the spectrum of photographs: noise of every scale, the coarse the stronger, in related colours."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    width, height = case.size
    for index in range(count):
        picture = np.zeros((height, width, 3), np.float32)
        for scale in (2, 4, 8, 16, 32, 64, 128):
            shape = (-(-height // scale) + 1, -(-width // scale) + 1, 3)
            noise = rng.normal(size=shape) + 2 * rng.normal(size=(*shape[:2], 1))
            small = [Image.fromarray(noise[..., c].astype(np.float32)) for c in range(3)]
            layers = [np.asarray(s.resize((width, height), Image.Resampling.BICUBIC)) for s in small]
            picture += np.dstack(layers) * scale**0.7
        pixels = np.clip(128 + picture * (50 / picture.std()), 0, 255).astype(np.uint8)
        options = {"quality": 90} if case.source == "jpeg" else {}
        Image.fromarray(pixels).save(folder / f"{index:05d}.{case.source}", case.source, **options)


def by_pillow(files: list[Path], out: Path, case: Case) -> int:
    """Bytes of all files, converted with Pillow alone and written one behind the other."""
    with open(out, "wb") as file:
        for path in files:
            with Image.open(path) as image:
                width, height = image.size
                square = min(width, height)
                left, top = (width - square) // 2, (height - square) // 2
                part = image.convert("RGB").crop((left, top, left + square, top + square))
            if square != case.side:
                part = part.resize((case.side, case.side), Image.Resampling.LANCZOS)
            if case.encoding == "raw":
                while part.width >= 4:
                    file.write(part.tobytes())
                    part = part.reduce(2)
                continue
            encoded = io.BytesIO()
            options = {"quality": 95, "subsampling": 0} if case.encoding == "jpeg" else {}
            part.save(encoded, case.encoding, **options)
            file.write(encoded.getvalue())
        file.flush()
        os.fsync(file.fileno())
    return out.stat().st_size


def by_two_pillows(pool: ProcessPoolExecutor, files: list[Path], out: Path, case: Case) -> int:
    """As `by_pillow`, each half of the files by a process of its own."""
    halves = [pool.submit(by_pillow, files[i::2], out.with_suffix(f".{i}"), case) for i in range(2)]
    return sum(half.result() for half in halves)


def by_tool(folder: Path, out: Path, case: Case, workers: int) -> int:
    """Bytes of the data set, converted with the tool."""
    wanted = ImageOptions(size=(case.side, case.side), channels=3)
    options = BuildOptions(encoding=Encoding(case.encoding), workers=workers)
    with redirect_stderr(io.StringIO()):
        create_from_images(out, folder, wanted, options, say=lambda text: None)
    size = sum(path.stat().st_size for path in out.iterdir())
    shutil.rmtree(out)
    return size


def _seconds(work: Callable[[], int]) -> tuple[float, int]:
    start = time.perf_counter()
    size = work()
    return time.perf_counter() - start, size


def _cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def measure(name: str, case: Case, seconds: float, repeats: int, folder: Path) -> Row:
    """One row.

    Args:
        seconds: about how long one run may take; decides how many images there are.
    """
    sample = folder / "sample"
    make_files(sample, case, 16)
    pace = _seconds(lambda: by_pillow(sorted(sample.iterdir()), folder / "pillow", case))[0] / 16
    count = int(np.clip(seconds / pace, 70, 20000))
    images = folder / "images"
    images.mkdir()
    made = sorted(sample.iterdir())
    for index in range(count):  # a few pictures many times: what is measured does not depend on which
        shutil.copy(made[index % len(made)], images / f"{index:05d}{made[0].suffix}")
    files = sorted(images.iterdir())
    source = sum(path.stat().st_size for path in files)
    times: dict[str, list[float]] = {"pillow": [], "pillow_two": [], "one": [], "two": []}
    used: dict[str, list[float]] = {"cpu_one": [], "cpu_two": []}
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        by_two_pillows(pool, files[:4], folder / "pillow", case)  # starts the processes
        for _ in range(repeats):
            times["pillow"].append(_seconds(lambda: by_pillow(files, folder / "pillow", case))[0])
            times["pillow_two"].append(_seconds(lambda: by_two_pillows(pool, files, folder / "pillow", case))[0])
            for workers, key in enumerate(("one", "two"), 1):
                before = _cpu_seconds()
                took, size = _seconds(lambda n=workers: by_tool(images, folder / "out", case, n))
                times[key].append(took)
                used[f"cpu_{key}"].append(_cpu_seconds() - before)
    rates = {key: count / statistics.median(values) for key, values in times.items()}
    return Row(name, count, **rates, **{key: statistics.median(v) for key, v in used.items()}, disk=size / source)


def rows(seconds: float = 8.0, repeats: int = 3, names: tuple[str, ...] = ()) -> list[Row]:
    """All rows, or those of some cases."""
    found = []
    for name, case in CASES.items():
        if not names or name in names:
            with tempfile.TemporaryDirectory(prefix="conversion-") as folder:
                found.append(measure(name, case, seconds, repeats, Path(folder)))
    return found


def report(found: list[Row]) -> None:
    """Prints the table."""
    from rich.console import Console  # not above: worker processes import this file, too
    from rich.table import Table

    table = Table("conversion", "images", "Pillow img/s", "one img/s", "two img/s", "of Pillow", "two cores")
    for title in ("by CPU time", "Pillow on two", "disk"):
        table.add_column(title)
    for row in found:
        rates = (f"{rate:.0f}" for rate in (row.pillow, row.one, row.two))
        ratios = (
            f"{ratio:.2f}" for ratio in (row.of_pillow, row.scaling, row.scaling_by_cpu, row.pillow_scaling, row.disk)
        )
        table.add_row(row.name, str(row.images), *rates, *ratios)
    Console(width=120).print(table)


@click.command()
@click.option("--seconds", type=float, default=8.0, show_default=True, help="Of one run, about.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--case", "names", type=click.Choice(list(CASES)), multiple=True, help="Only this row; may be repeated.")
def main(seconds: float, repeats: int, names: tuple[str, ...]) -> None:
    """Measures conversions against Pillow alone."""
    report(rows(seconds, repeats, names))


if __name__ == "__main__":
    main()
