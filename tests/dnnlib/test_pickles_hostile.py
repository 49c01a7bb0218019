"""Hostile and damaged network files: each ends in one line, executes nothing, and takes no memory to speak of."""

import json
import os
import pickletools
import subprocess
import sys
from pathlib import Path

import pytest

from dnnlib.snapshot import load_state
from dnnlib.util import UserError
from tests.hostile_pickles import HOSTILE, MARKER

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str, tmp_path: Path) -> None:
    data, message = HOSTILE[name]
    path = tmp_path / "net.pkl"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as info:
        load_state(path)
    text = str(info.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and len(text) < 600 and text.isprintable()
    assert not os.path.exists(MARKER)


_ALONE = """
import json, sys, time
from dnnlib.snapshot import load_state
from dnnlib.util import UserError
from tests.fuzz_pickles import peak_bytes
from tests.hostile_pickles import HOSTILE
from pathlib import Path

path, slowest, refused = Path(sys.argv[1]), 0.0, 0
for data, _ in HOSTILE.values():
    path.write_bytes(data)
    start = time.process_time()
    try:
        load_state(path)
    except UserError:
        refused += 1
    slowest = max(slowest, time.process_time() - start)
print(json.dumps(dict(refused=refused, total=len(HOSTILE), slowest=slowest, peak_mib=peak_bytes() / 2**20)))
"""


def test_memory_and_time_of_the_whole_corpus(tmp_path: Path) -> None:
    """In a process of its own, whose peak is theirs: a gigabyte would be far too much, half of one is."""
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, str(tmp_path / "net.pkl")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["refused"] == found["total"] >= 30
    assert found["peak_mib"] < 500 and found["slowest"] < 5
    assert not os.path.exists(MARKER)


def test_the_corpus_would_do_something_elsewhere() -> None:
    """Python's own unpickler executes it: the corpus is not harmless."""
    code = "import pickle; from tests.hostile_pickles import HOSTILE; pickle.loads(HOSTILE['os.system'][0])"
    try:
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        assert os.path.exists(MARKER)
    finally:
        if os.path.exists(MARKER):
            os.remove(MARKER)


def test_every_instruction_of_pickle_is_handled_or_refused() -> None:
    """A new instruction of a future Python must not slip through unseen."""
    from dnnlib.snapshot import machine

    handled = {n for n in dir(machine._Machine) if n.startswith("_op_")}
    plain = machine._PUSH_ARG | set(machine._PUSH_NEW) | set(machine._TUPLE_SIZE)
    refused = {"FROZENSET", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "OBJ"}
    refused |= {"NEXT_BUFFER", "READONLY_BUFFER"}
    for op in pickletools.opcodes:
        assert (f"_op_{op.name.lower()}" in handled) + (op.name in plain) + (op.name in refused) == 1, op.name
