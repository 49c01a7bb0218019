"""Labels on the disk: the same numbers as in memory, in parts, whatever they were stored as."""

from __future__ import annotations

import io
import os
import tempfile

import numpy as np
import pytest

from dnnlib.util import UserError
from training import dataset_labels, item_table
from training.dataset_labels import (
    check_finite,
    label_parts,
    label_rows,
    one_hot_labels,
    read_labels,
    scratch_labels,
    select_labels,
    write_labels,
)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(dataset_labels, "_PART_BYTES", 64)


def _mapped_mb() -> float:
    """Memory of this process that belongs to files, in MB."""
    with open("/proc/self/status") as file:
        fields = dict(line.split(":") for line in file)
    return sum(int(fields[name].split()[0]) for name in ("RssFile", "RssShmem")) / 1000


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="tells memory of files on Linux only")
@pytest.mark.parametrize("how", ["rows", "select", "write", "items"])
def test_labels_read_in_any_order_take_little_memory(monkeypatch, how):
    """What a kernel maps around each number counts, too."""
    monkeypatch.undo()  # parts as they are
    count, size = 250_000, 100
    labels = scratch_labels(count, size)  # 100 MB
    for part in label_parts(labels):
        part[...] = 0.5
    order = np.random.default_rng(0).permutation(count)[:30_000]
    before = _mapped_mb()
    most, whole = [0.0], dataset_labels.give_back

    def watched(given: np.ndarray) -> None:
        most[0] = max(most[0], _mapped_mb() - before)
        whole(given)

    monkeypatch.setattr(dataset_labels, "give_back", watched)
    monkeypatch.setattr(item_table, "give_back", watched)
    if how == "rows":
        found = sum(float(row[0]) for row in label_rows(labels, order))
    elif how == "select":
        found = float(select_labels(labels, order)[:, 0].sum())
    elif how == "write":
        with tempfile.TemporaryFile() as file:
            write_labels(file, labels, order)
            file.seek(0)
            found = float(np.lib.format.read_array(file)[:, 0].sum())
    else:
        items = item_table.ItemTable()
        items.add_place("", "", False)
        for _ in range(count):
            items.append("")
        items.labels = labels
        found = sum(float(items[int(index)].label[0]) for index in order)
    assert found == 0.5 * len(order) and 0 < most[0] < 40


def numbers(count: int = 23, size: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (count, size)).astype(np.float32)


def test_parts_are_all_there_in_order():
    labels = numbers()
    parts = [part.copy() for part in label_parts(labels)]
    assert len(parts) == 8 and all(len(part) == 3 for part in parts[:-1])
    np.testing.assert_array_equal(np.concatenate(parts), labels)
    assert [part.shape for part in label_parts(labels[:, :0])] == [(16, 0), (7, 0)]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "u1", "<i8"])
@pytest.mark.parametrize("by_columns", [False, True])
def test_files_of_any_numbers(tmp_path, dtype, by_columns):
    stored = numbers().astype(dtype)
    np.save(tmp_path / "x.npy", np.asfortranarray(stored) if by_columns else stored)
    labels = read_labels(tmp_path / "x.npy", 23)
    assert labels.dtype == np.float32
    np.testing.assert_array_equal(labels, numbers())
    if dtype == "<f4" and not by_columns:
        assert not labels.flags.writeable  # the file itself


def test_labels_without_numbers(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 0), np.float32))
    assert read_labels(tmp_path / "x.npy", 4).shape == (4, 0)


def test_scratch_keeps_what_was_written_when_memory_is_given_back():
    labels = scratch_labels(23, 5)
    assert isinstance(labels, np.memmap) and not labels.any()
    for part in label_parts(labels):
        part[...] = 7
    np.testing.assert_array_equal(labels, np.full((23, 5), 7))


def test_classes_as_vectors():
    classes = np.random.default_rng(1).integers(0, 5, 40)
    np.testing.assert_array_equal(one_hot_labels(classes, 6), np.eye(6)[classes])


@pytest.mark.parametrize("keep", [None, np.array([20, 0, 3, 22])])
def test_written_as_numpy_reads_them(keep):
    out = io.BytesIO()
    write_labels(out, numbers(), keep)
    out.seek(0)
    np.testing.assert_array_equal(np.load(out), numbers() if keep is None else numbers()[keep])


def test_the_first_that_is_not_finite_is_named():
    labels = numbers()
    labels[[17, 19], 2] = np.nan
    with pytest.raises(UserError, match="here: label 17 is not finite"):
        check_finite(labels, "here")


def test_no_room_for_scratch_is_one_line(monkeypatch):
    def full(*args: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="23 labels of 5 numbers take 460 bytes .No space left on device.; make room"):
        scratch_labels(23, 5)
