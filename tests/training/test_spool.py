"""Large records on their way between processes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from training.spool import Spooled, SpoolReader
from training.workers import ordered_map


def _spooled(folder, *records: bytes) -> Spooled:
    path = folder / f"spool-{len(os.listdir(folder))}"
    path.write_bytes(b"".join(records))
    return Spooled(str(path), tuple(map(len, records)))


def test_reader_gives_records_of_any_size_and_removes_their_files(tmp_path):
    reader = SpoolReader()
    for sizes in ((3, 0, 5), (70_000, 9), (1,)):  # grows, then has room to spare
        records = [os.urandom(size) for size in sizes]
        taken = reader.take(_spooled(tmp_path, *records))
        assert [bytes(record) for record in taken] == records
        assert not list(tmp_path.iterdir())


def test_reader_names_a_file_that_lost_its_end(tmp_path):
    spooled = _spooled(tmp_path, b"abcdef")
    os.truncate(spooled.path, 4)
    with pytest.raises(OSError, match="2 bytes are missing"):
        SpoolReader().take(spooled)


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
