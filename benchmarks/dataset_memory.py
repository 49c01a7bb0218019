"""Memory that lists of a million images take: `python benchmarks/dataset_memory.py`.

Each row is a stage of `dataset_tool.py` in a process of its own, over a list of names for which there are no files
(where pixels are needed, they are made up), or over a data set with labels of 100 numbers that another process made.
What is shown is by how much the peak of the process is above what it was when everything had been imported. Limit: 200
MB for a million images.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click  # noqa: E402
import numpy as np  # noqa: E402
from click.testing import CliRunner  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import dataset_tool  # noqa: E402
from training.clean import apply
from training.clean.cascade import Box
from training.clean.crops import write_crops
from training.clean.exact import ExactDuplicates  # noqa: E402
from training.clean.judgements import Chosen
from training.clean.near import NearDuplicates, NearMeasure  # noqa: E402
from training.clean.options import CleanOptions
from training.clean.picture import Picture  # noqa: E402
from training.clean.pipeline import find_dropped, judge
from training.clean.rank import rank
from training.clean.rank_report import write_rank_report, write_rank_table  # noqa: E402
from training.clean.report import write_report  # noqa: E402
from training.clean.size import SizeFilter  # noqa: E402
from training.clean.table import write_table  # noqa: E402
from training.dataset import TFRecordDataset  # noqa: E402
from training.dataset_build import BuildOptions, Item, build  # noqa: E402
from training.dataset_inspect import compare  # noqa: E402
from training.dataset_repair import repair  # noqa: E402
from training.dataset_verify import verify  # noqa: E402
from training.dataset_writer import DatasetWriter  # noqa: E402
from training.encodings import Encoding  # noqa: E402
from training.item_table import ItemTable  # noqa: E402
from training.label_sources import label_items  # noqa: E402
from training.published.packing import PackOptions, pack  # noqa: E402
from training.published.png_labels import EXTRAS_NAME  # noqa: E402
from training.published.png_layout import export_zip, unpack  # noqa: E402
from training.source_listing import Listing  # noqa: E402

WANTED_MB = 200.0  # for a million images
_CLASSES = 100


@dataclass(frozen=True)
class NearByName(NearDuplicates):
    """Near duplicates of made-up measures: hashing a million pictures would take hours, and no more memory."""

    name: ClassVar[str] = "near_by_name"

    def measure(self, picture: Picture) -> NearMeasure:
        """A hash of the name in place of that of the picture."""
        number = int.from_bytes(hashlib.blake2b(picture.name.encode(), digest_size=8).digest(), "little")
        return NearMeasure(number, number, 16, 1.0, bytes(48))


def make_list(count: int) -> Listing:
    """A folder of so many images, as names."""
    items = ItemTable()
    items.add_place("", "pictures", False)
    for index in range(count):
        items.append(_name(index))
    return Listing(items)


def _name(index: int) -> str:
    return f"class{index % _CLASSES:03d}/picture{index:09d}.jpg"


def made_up(item: Item) -> np.ndarray:
    """An image of 4x4 that depends on the name, uint8 [3, 4, 4]."""
    return np.frombuffer(hashlib.sha512(item.name.encode()).digest()[:48], np.uint8).reshape(3, 4, 4)


def _list(count: int, folder: Path) -> None:
    make_list(count)


def _json_labels(count: int, folder: Path) -> None:
    with open(folder / "labels.json", "w", encoding="utf-8") as file:
        file.write('{"labels": [')
        for index in range(count):
            file.write((", " if index else "") + json.dumps([_name(index), index % _CLASSES]))
        file.write("]}")
    label_items(make_list(count), "json", str(folder / "labels.json"))


def _csv_labels(count: int, folder: Path) -> None:
    with open(folder / "labels.csv", "w", encoding="utf-8") as file:
        file.writelines(f"{_name(index)},class{index % _CLASSES}\n" for index in range(count))
    label_items(make_list(count), "csv", str(folder / "labels.csv"))


def _convert_with_vectors(count: int, folder: Path) -> None:
    numbers = "," + ",".join(["0.25"] * _CLASSES)
    with open(folder / "labels.csv", "w", encoding="utf-8") as file:
        file.writelines(f"{_name(index)}{numbers}\n" for index in range(count) if index % 10)
    listing = make_list(count)
    labels = label_items(listing, "csv", str(folder / "labels.csv"))
    options = BuildOptions((3, 4, 4), label_size=labels.size, workers=1)
    build(folder / "out", listing.items, made_up, options, listing.others, lambda text: None)


def _clean(count: int, folder: Path) -> None:
    filters = [SizeFilter(3), ExactDuplicates(), NearByName(4)]
    judgements = judge(make_list(count).items, filters, 1, made_up)
    write_table(folder / "clean.csv", judgements, filters)
    write_report(folder / "clean.html", "million", judgements, filters, 10, 1, made_up)


def _clean_and_convert(count: int, folder: Path) -> None:
    # Each picture twice: as many copies as can be, and each is left out for a reason of its own.
    listing = make_list(count)
    twice = Chosen(listing.items, np.arange(count) % -(-count // 2))
    dropped = find_dropped(twice, CleanOptions(drop_duplicates=True), 1, lambda text: None, made_up)
    listing.items = listing.items.select(np.flatnonzero(~np.isin(np.arange(count), dropped.positions)))
    for name, reason in dropped.reasons:
        listing.others.append(name, reason)
    options = BuildOptions((3, 4, 4), workers=1)
    build(folder / "out", listing.items, made_up, options, listing.others, lambda text: None)


class _Pixel:
    """Stands for a discriminator: an image's score is its first pixel."""

    input_shape = (None, 3, 4, 4)
    input_shapes = ((None, 3, 4, 4), (None, 0))
    static_kwargs: ClassVar[dict[str, int]] = {"mbstd_group_size": 4}

    def run(self, images: np.ndarray, labels: None) -> np.ndarray:
        """float32 [N, 1]."""
        return images[:, :, 0, 0][:, :1]


def _rank(count: int, folder: Path) -> None:
    items = make_list(count).items
    ranks, bad = rank(items, _Pixel(), 2, 256, workers=1, decode=made_up)
    write_rank_table(folder / "rank.csv", items, ranks)
    write_rank_report(folder / "rank.html", "million", items, ranks, count // 10, bad, 10, 1, made_up)
    apply.write_list(folder / "kept.txt", Chosen(items, ranks.index[count // 10 :]))


@dataclass(frozen=True)
class _Nothing:
    """A cascade that finds nothing: a million files of crops would fill the disk, and no memory."""

    def find(self, grey: np.ndarray) -> list[Box]:
        """No place."""
        return []


def _crop(count: int, folder: Path) -> None:
    write_crops(folder / "crops", make_list(count).items, _Nothing(), workers=1, decode=made_up)


def _convert(count: int, folder: Path) -> None:
    options = BuildOptions((3, 4, 4), workers=1, num_validation=count // 10)
    build(folder / "out", make_list(count).items, made_up, options, say=lambda text: None)


# ---------------------------------------------------------------- data sets that are there


def _make_set(count: int, folder: Path, name: str = "set", value: int = 0) -> None:
    """A data set of images of 4x4, one-hot labels of 100 classes: of a million the labels are 400 MB."""
    record = Encoding().records(np.full((3, 4, 4), value, np.uint8))
    labels = np.eye(_CLASSES, dtype=np.float32)
    with DatasetWriter(folder / name, (3, 4, 4), None, _CLASSES) as writer:
        for index in range(count):
            writer.append(record, labels[index % _CLASSES])


def _make_two_sets(count: int, folder: Path) -> None:
    _make_set(count, folder)
    _make_set(count, folder, "other", 1)


def _make_broken_set(count: int, folder: Path) -> None:
    """Every second record is broken."""
    _make_set(count, folder)
    (path,) = (folder / "set").glob("*.tfrecords")
    step = path.stat().st_size // count
    with open(path, "r+b") as file:
        for index in range(1, count, 2):
            file.seek(index * step + step - 10)
            file.write(b"broken")


def _make_folder(count: int, folder: Path) -> None:
    _make_set(count, folder)
    _unpack(count, folder)


def _verify(count: int, folder: Path) -> None:
    problems = verify(folder / "set", lambda text: None)
    if problems:
        raise RuntimeError(problems[0])


def _repair(count: int, folder: Path) -> None:
    if len(repair(folder / "set", folder / "new", lambda text: None).dropped) != count // 2:
        raise RuntimeError("not every second record was dropped")


def _compare(count: int, folder: Path) -> None:
    if compare(TFRecordDataset(folder / "set"), TFRecordDataset(folder / "other")).images.count != count:
        raise RuntimeError("not all images differ")


def _command(*arguments: object) -> None:
    """A command of dataset_tool.py in this process."""
    result = CliRunner().invoke(dataset_tool.cli, list(map(str, arguments)))
    if result.exit_code:
        raise RuntimeError(result.output) from result.exception


def _info(count: int, folder: Path) -> None:
    _command("info", folder / "set")


def _unpack(count: int, folder: Path) -> None:
    unpack(TFRecordDataset(folder / "set"), folder / "png")


def _pack(count: int, folder: Path) -> None:
    pack(folder / "png", folder / "packed")


def _pack_by_json(count: int, folder: Path) -> None:
    (folder / "png" / EXTRAS_NAME).unlink()
    pack(folder / "png", folder / "packed", PackOptions(seed=1))


def _export(count: int, folder: Path) -> None:
    export_zip(TFRecordDataset(folder / "set"), folder / "set.zip")


@dataclass(frozen=True)
class Stage:
    """What is measured, and what has to be there before: (number of images, folder)."""

    run: Callable[[int, Path], None]
    prepare: Callable[[int, Path], None] | None = None


STAGES: Mapping[str, Stage] = {
    "list": Stage(_list),
    "labels from csv": Stage(_csv_labels),
    "labels from json": Stage(_json_labels),
    "clean": Stage(_clean),
    "clean and convert": Stage(_clean_and_convert),
    "rank": Stage(_rank),
    "crop": Stage(_crop),
    "convert": Stage(_convert),
    "convert with vectors": Stage(_convert_with_vectors),
    "verify": Stage(_verify, _make_set),
    "repair": Stage(_repair, _make_broken_set),
    "compare": Stage(_compare, _make_two_sets),
    "info": Stage(_info, _make_set),
    "unpack": Stage(_unpack, _make_set),
    "pack": Stage(_pack, _make_folder),
    "pack by json": Stage(_pack_by_json, _make_folder),
    "export": Stage(_export, _make_set),
}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _prepare(name: str, count: int, folder: Path) -> None:
    with redirect_stderr(io.StringIO()):
        STAGES[name].prepare(count, folder)


def _run(name: str, count: int, warm_up: int, folder: Path) -> tuple[float, float]:
    with redirect_stderr(io.StringIO()):
        STAGES[name].run(warm_up, folder / "few")  # libraries that are loaded on first use
        before, start = _peak(), time.perf_counter()
        STAGES[name].run(count, folder / "many")
        return (_peak() - before) / 1e6, time.perf_counter() - start


def measure(name: str, count: int) -> tuple[float, float]:
    """(MB by which memory grows, seconds) of a stage for `count` images, in a process of its own."""
    warm_up, context = 100, multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="memory-") as temp:
        folder = Path(temp)
        for part, images in (("few", warm_up), ("many", count)):
            (folder / part).mkdir()
            if STAGES[name].prepare is not None:
                with ProcessPoolExecutor(1, context) as pool:
                    pool.submit(_prepare, name, images, folder / part).result()
        with ProcessPoolExecutor(1, context) as pool:
            return pool.submit(_run, name, count, warm_up, folder).result()


@click.command()
@click.option("--images", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--stage", "names", type=click.Choice(list(STAGES)), multiple=True, help="Only this row; repeatable.")
def main(images: int, names: tuple[str, ...]) -> None:
    """Measures memory; exit code 1 if a stage takes more than 200 MB for a million images."""
    table = Table("stage", "images", "MB", "seconds")
    worst = 0.0
    for name in names or STAGES:
        megabytes, seconds = measure(name, images)
        worst = max(worst, megabytes)
        table.add_row(name, str(images), f"{megabytes:.0f}", f"{seconds:.0f}")
    Console(width=100).print(table)
    if worst > WANTED_MB * max(1.0, images / 1e6):
        click.echo(f"A stage takes {worst:.0f} MB, wanted {WANTED_MB:.0f} MB for a million images")
        sys.exit(1)


if __name__ == "__main__":
    main()
