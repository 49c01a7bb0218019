"""The benchmark of reading measures what it says; reading is never what training waits for."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from benchmarks import bench_dataset, dataset_conversion, dataset_reading
from training.dataset import TFRecordDataset
from training.encodings import ENCODINGS


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_row_holds_what_was_measured(tmp_path, encoding, monkeypatch):
    """By a clock that counts images: read at 500 a second, decoded at 2000 and 1000, with some threads or others."""
    done: list[int] = []

    def rate(work: Callable[[], int], seconds: float) -> float:
        done.append(work())
        if done[-1] == dataset_reading.BATCH:
            return 500.0
        return 2000.0 if len(done) % 3 else 1000.0

    monkeypatch.setattr(dataset_reading, "_rate", rate)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    row = dataset_reading.measure(encoding, 32, tmp_path / "set", seconds=0.1, training=50)
    dataset = TFRecordDataset(tmp_path / "set")
    assert (dataset.encoding, dataset.shape, dataset.num_images) == (encoding, (3, 32, 32), 4096)
    size = (tmp_path / "set" / "a.tfrecords").stat().st_size
    assert row.file_bytes == pytest.approx(size / dataset.num_images - 16)
    turns = [dataset_reading.BATCH] + ([] if encoding == "raw" else [256, 256])
    assert done == turns * 2  # to warm up, and measured
    assert (row.reading, row.decoding) == (500.0, None if encoding == "raw" else 2000.0)
    assert (row.times_training, row.of_decode) == (10.0, None if encoding == "raw" else 0.25)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_training_does_not_wait_for_reading(tmp_path, encoding):
    row = dataset_reading.measure(encoding, 32, tmp_path / "set", seconds=0.1)
    assert row.reading >= dataset_reading.WANTED * dataset_reading.TRAINING_RATE


def test_too_slow_is_an_exit_code(monkeypatch):
    slow = dataset_reading.Row("png", 32, 2000.0, 500.0, 1000.0, 60.0)
    monkeypatch.setattr(dataset_reading, "rows", lambda *options: [slow])
    result = CliRunner().invoke(dataset_reading.main, [])
    assert result.exit_code == 1
    assert "png is read at 8.3 times the training rate, wanted 10" in result.output
    assert "0.50" in result.output


def test_one_command_measures_writing_and_reading(monkeypatch):
    written = dataset_conversion.Row(
        "png 256x256 kept", 70, pillow=100.0, pillow_two=187.0, one=90.0, two=171.0, cpu_one=8.0, cpu_two=8.6, disk=1.02
    )
    read = dataset_reading.Row("png", 32, 2000.0, 5000.0, 10000.0, 50.0)
    asked = []
    monkeypatch.setattr(dataset_conversion, "rows", lambda *options: asked.append(options) or [written])
    monkeypatch.setattr(dataset_reading, "rows", lambda sizes, seconds: asked.append((sizes, seconds)) or [read])
    command = ["--seconds", "2", "--repeats", "1", "--reading-seconds", "0.5", "--size", "32", "--case"]
    result = CliRunner().invoke(bench_dataset.main, [*command, written.name])
    assert result.exit_code == 0, result.output
    assert asked == [(2.0, 1, (written.name,)), ((32,), 0.5)]
    for shown in (
        "0.90",
        "1.90",
        "1.86",
        "1.87",
        "1.02",
        "100.0",
    ):  # of Pillow, two cores, by CPU, Pillow on two, disk, x training
        assert shown in result.output
