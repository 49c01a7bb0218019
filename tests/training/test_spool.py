"""Large records on their way between processes."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from dnnlib.util import UserError
from training.dataset_build import BuildOptions, Item, build
from training.spool import LEAST_BYTES, Spooled, SpoolReader, spool
from training.workers import Workers, ordered_map


def _spooled(path, *records: bytes) -> Spooled:
    path.write_bytes(b"\1" + b"".join(records))
    return Spooled(str(path), tuple(map(len, records)))


def test_reader_gives_records_and_frees_their_file_when_it_goes_on(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    with SpoolReader() as reader:
        for path, sizes in ((first, (3, 0, 5)), (second, (70_000, 9)), (first, (3, 5))):
            records = [os.urandom(size) for size in sizes]
            taken = reader.take(_spooled(path, *records))
            assert [bytes(record) for record in taken] == records
            assert path.read_bytes()[0] == 1
        assert second.read_bytes()[0] == 0
    assert first.read_bytes()[0] == 0


def test_reader_names_a_file_that_is_too_short(tmp_path):
    spooled = _spooled(tmp_path / "a", b"abcdef")
    os.truncate(spooled.path, 5)
    with SpoolReader() as reader, pytest.raises(ValueError, match="2 bytes are missing"):
        reader.take(spooled)


def _records(number: int, folder: str) -> Sequence[bytes] | Spooled:
    return spool([bytes([number]) * (LEAST_BYTES + 1000 * (number % 3)), b"end"], folder)


@pytest.mark.parametrize("most_mapped", [0, 64 << 20])
def test_few_files_serve_many_records(tmp_path, monkeypatch, most_mapped):
    monkeypatch.setattr("training.spool._MOST_MAPPED", most_mapped)
    with Workers(partial(_records, folder=str(tmp_path)), 2, 1) as workers, SpoolReader() as reader:
        for number, spooled in enumerate(workers.map(range(100), 100)):
            large, small = reader.take(spooled)
            assert bytes(large) == bytes([number]) * (LEAST_BYTES + 1000 * (number % 3)) and small == b"end"
    assert 2 <= len(list(tmp_path.iterdir())) <= 16  # three under way per process, and what waits for its turn


def _render(item: Item) -> np.ndarray:
    if item.name == "9":
        raise UserError("broken")
    return np.full((3, 512, 512), int(item.name), np.uint8)


def test_two_processes_write_what_one_writes(tmp_path):
    items = [Item(str(number), "") for number in range(66)]  # few images are done without processes
    written = []
    for workers in (1, 2):
        options = BuildOptions((3, 512, 512), workers=workers, num_validation=2)
        path = build(tmp_path / str(workers) / "set", items, _render, options, say=lambda text: None).path
        assert os.listdir(path.parent) == ["set"]
        written.append({file.name: hashlib.sha256(file.read_bytes()).digest() for file in path.iterdir()})
    assert written[0] == written[1] and "set-r09.tfrecords" in written[0]


def _page_faults(size: int) -> int:
    """Of making blocks of memory again and again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        blocks = [bytearray(size) for _ in range(3)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults of glibc's malloc")
def test_worker_processes_do_not_ask_for_fresh_memory_for_every_image():
    faults = list(ordered_map(_page_faults, [3_000_000] * 65, 2))
    assert sorted(faults)[32] < 1000  # 110,000 pages are written to; some processes have just begun


def test_a_worker_process_imports_no_commands():
    code = "import runpy, sys; runpy.run_path('dataset_tool.py', run_name='__mp_main__'); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in modules if name.startswith("training.dataset_cli")]
