"""How fast data sets are read: `python benchmarks/dataset_reading.py`.

For every encoding and size, images per second through the prefetcher, as training reads them (shuffled, mirrored), and

* of decode: that rate over the rate at which Pillow alone decodes the same bytes out of memory, with threads on all
  cores or with one, whichever is faster; both measured in turns in the same run;
* x training: that rate over the training rate of the preset bench32 (`--training-rate`); at 32 pixels it must be at
  least 10, so that reading is never what training waits for.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from training.dataset import Prefetcher, TFRecordDataset  # noqa: E402
from training.encodings import ENCODINGS, Encoding  # noqa: E402
from training.example import parse_image  # noqa: E402
from training.tfrecord import RecordFile  # noqa: E402

TRAINING_RATE = 55.0  # images per second of bench32 on two CPU cores (bench_training.py)
WANTED = 10.0  # times that, at 32 pixels
SIZES = (32, 64, 256)
BATCH = 16
_POOL_BYTES = 64 << 20  # pixels of the images of a data set, decoded
_BOUT = 0.4  # seconds of each in turn


@dataclass(frozen=True)
class Row:
    """One encoding at one size: images per second read, decoded by Pillow (None for raw), and what follows."""

    encoding: str
    side: int
    file_bytes: float  # per image, as stored
    reading: float
    decoding: float | None
    training: float

    @property
    def of_decode(self) -> float | None:
        """Reading rate over decoding rate."""
        return self.reading / self.decoding if self.decoding else None

    @property
    def times_training(self) -> float:
        """Reading rate over training rate."""
        return self.reading / self.training


def picture(rng: np.random.Generator, side: int) -> np.ndarray:
    """A smooth picture with some noise, uint8 [3, side, side]: compressible about as photographs are."""
    smooth = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth).astype(np.int16) + rng.integers(-4, 5, (side, side, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8).transpose(2, 0, 1)


def write_dataset(folder: Path, encoding: str, side: int, count: int) -> None:
    """A directory of `count` records (of 32 different pictures), the full size alone."""
    rng = np.random.default_rng(side)
    encoder = Encoding(encoding)
    records = [encoder.records(picture(rng, side))[0] for _ in range(min(count, 32))]
    folder.mkdir()
    with open(folder / "a.tfrecords", "wb") as file:
        for index in range(count):
            file.write(records[index % len(records)])


def _rate(work: Callable[[], int], seconds: float) -> float:
    """Images per second of `work`, which returns how many it did."""
    done, begin = 0, time.perf_counter()
    while time.perf_counter() < begin + seconds:
        done += work()
    return done / (time.perf_counter() - begin)


def _decode_all(pool: ThreadPoolExecutor, threads: int, contents: list[bytes], kind: str) -> Callable[[], int]:
    def decode(share: list[bytes]) -> None:
        for content in share:
            with Image.open(io.BytesIO(content), formats=[kind]) as image:
                image.load()

    def work() -> int:
        list(pool.map(decode, [contents[i::threads] for i in range(threads)]))
        return len(contents)

    return work


def measure(encoding: str, side: int, folder: Path, seconds: float = 3.0, training: float = TRAINING_RATE) -> Row:
    """Reads a data set made in `folder` and decodes its bytes, in turns, for `seconds` each; medians of the turns."""
    count = max(min(_POOL_BYTES // (3 * side * side), 4096), 64)
    write_dataset(folder, encoding, side, count)
    records = RecordFile(folder / "a.tfrecords")
    contents = [bytes(parse_image(records.read(i)).data) for i in range(min(count, 256))]
    dataset = TFRecordDataset(folder, mirror_augment=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def read() -> float:
        # A reader of its own each time, so that nothing is read ahead while something else is measured.
        with Prefetcher(dataset, 0, BATCH, bytes_limit=8 * BATCH * 3 * side * side) as prefetcher:
            return _rate(lambda: len(prefetcher.next()[0]), _BOUT)

    reading, decoding = [], []
    with ThreadPoolExecutor(cores) as pool:
        # With all cores, or with one where threads only wait for each other: whichever is faster.
        decoders = [_decode_all(pool, threads, contents, encoding) for threads in {1, cores}]
        for _ in range(1 + max(1, round(seconds / _BOUT))):
            reading.append(read())
            decoding.append([0.0] if encoding == "raw" else [_rate(work, _BOUT) for work in decoders])
    size = float(records.lengths.mean())
    # The first turn warms up.
    decode = float(np.median(decoding[1:], axis=0).max())
    return Row(encoding, side, size, float(np.median(reading[1:])), decode or None, training)


def rows(
    sizes: tuple[int, ...] = SIZES, encodings: tuple[str, ...] = ENCODINGS, seconds: float = 3.0,
    training: float = TRAINING_RATE,
) -> list[Row]:  # fmt: skip
    """Measures every encoding at every size."""
    found = []
    for side in sizes:
        for encoding in encodings:
            with tempfile.TemporaryDirectory() as folder:
                found.append(measure(encoding, side, Path(folder) / "set", seconds, training))
    return found


def report(found: list[Row]) -> bool:
    """Prints the table; whether reading is too slow at 32 pixels."""
    table = Table(title="Reading")
    for column in ("size", "encoding", "bytes/image", "read img/s", "decode img/s", "of decode", "x training"):
        table.add_column(column, justify="right")
    for row in found:
        table.add_row(
            str(row.side), row.encoding, f"{row.file_bytes:.0f}", f"{row.reading:.0f}",
            f"{row.decoding:.0f}" if row.decoding else "-", f"{row.of_decode:.2f}" if row.of_decode else "-",
            f"{row.times_training:.1f}",
        )  # fmt: skip
    Console().print(table)
    slow = [row for row in found if row.side == 32 and row.times_training < WANTED]
    for row in slow:
        click.echo(f"{row.encoding} is read at {row.times_training:.1f} times the training rate, wanted {WANTED:g}")
    return bool(slow)


@click.command()
@click.option("--size", "sizes", type=int, multiple=True, default=SIZES, show_default=True, help="Pixels.")
@click.option("--encoding", "encodings", type=click.Choice(ENCODINGS), multiple=True, default=ENCODINGS)
@click.option("--seconds", default=3.0, show_default=True, help="How long to measure each.")
@click.option("--training-rate", default=TRAINING_RATE, show_default=True, help="Images per second of bench32.")
def main(sizes: tuple[int, ...], encodings: tuple[str, ...], seconds: float, training_rate: float) -> None:
    """Measure how fast data sets are read."""
    sys.exit(1 if report(rows(sizes, encodings, seconds, training_rate)) else 0)


if __name__ == "__main__":
    main()
