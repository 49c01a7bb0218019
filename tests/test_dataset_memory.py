"""Lists of very many images take little memory at every stage."""

from __future__ import annotations

import pytest

from benchmarks import dataset_memory


@pytest.mark.parametrize(
    ("stage", "count"),
    [
        ("labels from json", 150_000),
        ("labels from csv", 150_000),
        ("clean", 20_000),
        ("clean and convert", 20_000),
        # Labels of 100 numbers: they alone would take twice what is allowed.
        ("convert with vectors", 60_000),
        ("verify", 60_000),
        ("repair", 60_000),
        ("info", 60_000),
        ("export", 60_000),
    ],
)
def test_memory_grows_by_at_most_200_bytes_for_an_image(stage, count):
    megabytes, _ = dataset_memory.measure(stage, count)
    assert megabytes < 4 + dataset_memory.WANTED_MB * count / 1e6  # what any program's memory varies by


def test_too_much_memory_is_an_exit_code(monkeypatch):
    from click.testing import CliRunner

    monkeypatch.setattr(dataset_memory, "measure", lambda name, count: (250.0, 1.0))
    result = CliRunner().invoke(dataset_memory.main, ["--stage", "list"])
    assert result.exit_code == 1 and "250 MB, wanted 200 MB" in result.output
