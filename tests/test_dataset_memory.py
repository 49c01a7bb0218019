"""Lists of very many images take little memory at every stage."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from benchmarks import dataset_memory

COUNT = 60_000  # images of data sets
WARM_UP = 100


def limit(count):
    """MB: beside what is wanted, what any program's memory varies by."""
    return 4 + dataset_memory.WANTED_MB * count / 1e6


@pytest.mark.parametrize(
    ("stage", "count"),
    [
        ("labels from json", 150_000),
        ("labels from csv", 150_000),
        ("clean", 20_000),
        ("clean and convert", 20_000),
        # Labels of 100 numbers: they alone would take twice what is allowed.
        ("convert with vectors", 60_000),
    ],
)
def test_memory_grows_by_at_most_200_bytes_for_an_image(stage, count):
    megabytes, _ = dataset_memory.measure(stage, count)
    assert megabytes < limit(count)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """few and many: places for stages that work on a data set, which is made by the first that needs one."""
    folder = tmp_path_factory.mktemp("memory")
    for part in ("few", "many"):
        (folder / part).mkdir()
    return folder


@pytest.fixture(scope="module")
def data_sets(folder) -> Path:
    """The folder with data sets, made here: what that takes is not measured, and once is enough for all stages."""
    for part, count in (("few", WARM_UP), ("many", COUNT)):
        dataset_memory._make_set(count, folder / part)
    return folder


def measured(stage: str, folder: Path) -> float:
    """As `dataset_memory.measure`, in a process of its own, but of data sets that are there already."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(dataset_memory._run, stage, COUNT, WARM_UP, folder).result()[0]


@pytest.mark.parametrize("stage", ["verify", "info", "export"])
def test_memory_of_what_reads_a_data_set(data_sets, stage):
    assert measured(stage, data_sets) < limit(COUNT)


def test_memory_of_repairing_a_data_set(data_sets, monkeypatch):
    """Last, as it breaks every second record of the set."""
    monkeypatch.setattr(dataset_memory, "_make_set", lambda count, folder: None)  # it is there
    for part, count in (("few", WARM_UP), ("many", COUNT)):
        dataset_memory._make_broken_set(count, data_sets / part)
    assert measured("repair", data_sets) < limit(COUNT)
    assert (data_sets / "many" / "new").is_dir()


def test_a_measurement_prepares_what_its_stage_works_on():
    """As users of the benchmark get it: by name, in a process of its own."""
    megabytes, seconds = dataset_memory.measure("repair", 300)
    assert megabytes < limit(300) and seconds > 0


def test_too_much_memory_is_an_exit_code(monkeypatch):
    from click.testing import CliRunner

    monkeypatch.setattr(dataset_memory, "measure", lambda name, count: (250.0, 1.0))
    result = CliRunner().invoke(dataset_memory.main, ["--stage", "list"])
    assert result.exit_code == 1 and "250 MB, wanted 200 MB" in result.output
