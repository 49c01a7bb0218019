"""Small files that would become large when they are read or listed: shared parts, long names, widened numbers."""

from __future__ import annotations

import gzip
import json
import re
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnnlib.snapshot.scan import scan_pickle
from tests import torch_pickles
from tests.torch_pickles import Module, Name, New, dumps

ROOT = Path(__file__).parents[2]
_NETWORK = Name("dnnlib.tflib.network", "Network")

# In a process of its own, whose peak is the file's; the address space ends before the machine's memory does.
_ALONE = """
import json, os, resource, sys, time
from click.testing import CliRunner
import run_surgery
from dnnlib.snapshot import load_state
from dnnlib.util import UserError
from tests.fuzz_pickles import peak_bytes

resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
start, path = time.process_time(), sys.argv[1]
try:
    load_state(path)
    message = ""
except UserError as err:
    message = str(err)
result = CliRunner().invoke(run_surgery.cli, ["info", path])
ok = isinstance(result.exception, (SystemExit, type(None)))
found = dict(message=message, ended_well=ok, code=result.exit_code, shown=len(result.output), error=result.stderr)
print(json.dumps(found | dict(peak_mib=peak_bytes() >> 20, seconds=time.process_time() - start)))
"""


def cost(path: Path) -> dict[str, Any]:
    """What reading and listing a file takes, and how it ends; at most a gigabyte and half a minute."""
    done = subprocess.run([sys.executable, "-c", _ALONE, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["ended_well"] and found["peak_mib"] < 1000 and found["seconds"] < 30, found
    assert len(found["error"].splitlines()) == (found["code"] != 0)
    return found


def state(**changes: Any) -> dict[str, Any]:
    """The state of a network with nothing inside."""
    return {
        "version": 4,
        "name": "D",
        "static_kwargs": {"num_channels": 3, "resolution": 8, "label_size": 0},
        "components": {},
        "build_module_src": "",
        "build_func_name": "D_stylegan2",
        "variables": [("lod", np.float32(0))],
    } | changes


def torch_tree(depth: int, name: str) -> Module:
    """A module that holds the one below twice, and so on: 2 to the power of `depth` tensors."""
    module = Module("Generator")
    module.parameters["w"] = np.zeros(1, np.float32)
    for _ in range(depth):
        above = Module("Layer")
        above.modules = {f"{name}0": module, f"{name}1": module}
        module = above
    return module


@pytest.mark.parametrize(("depth", "length"), [(17, 4000), (4, 4000), (16, 1)])
def test_modules_in_modules(tmp_path: Path, depth: int, length: int) -> None:
    (tmp_path / "net.pkl").write_bytes(dumps(dict(G_ema=torch_tree(depth, "n" * length))))
    found = cost(tmp_path / "net.pkl")
    assert "refused: a PyTorch network of more than" in found["message"] or "the name of a tensor" in found["message"]
    assert found["peak_mib"] < 200 and len(found["message"]) < 500


def test_networks_in_networks(tmp_path: Path) -> None:
    """Each with the one below as two of its parts."""
    inner = New(_NETWORK, state(name="n" * 190))
    for _ in range(13):
        inner = New(_NETWORK, state(name="n" * 190, components={"a": inner, "b": inner}))
    (tmp_path / "net.pkl").write_bytes(dumps(inner, 2))
    assert "has parts in parts, more than any network" in cost(tmp_path / "net.pkl")["message"]


def test_many_networks(tmp_path: Path) -> None:
    """Each would take a second to build."""
    (tmp_path / "net.pkl").write_bytes(dumps([New(_NETWORK, state()) for _ in range(60)]))
    assert "refused: more than 48 networks" in cost(tmp_path / "net.pkl")["message"]


def test_one_network_many_times(tmp_path: Path) -> None:
    """It is listed once."""
    one = dumps(New(_NETWORK, state()), 2)[2:-1]
    (tmp_path / "net.pkl").write_bytes(b"\x80\x02](" + one + b"q\xc8" + b"h\xc8" * 50_000 + b"e.")
    found = cost(tmp_path / "net.pkl")
    assert found["code"] == 0 and found["message"] == "" and found["shown"] < 2000


def scan_bomb(texts: int, size: int, names: int) -> bytes:
    """Long texts of the file, each pair of them asked for as a module and a name."""
    out = b"\x80\x04"
    for i in range(texts):
        out += b"X" + struct.pack("<I", size) + (b"%06d" % i).ljust(size, b"x") + b"q" + bytes([i]) + b"0"
    pairs = (b"h%ch%c\x930" % (i, j) for i in range(texts) for j in range(texts))
    return out + b"".join(pair for pair, _ in zip(pairs, range(names), strict=False)) + b"N."


def test_names_of_any_length(tmp_path: Path) -> None:
    path = tmp_path / "net.pkl"
    path.write_bytes(scan_bomb(200, 5000, 40_000))
    found = cost(path)
    assert "000000xxxx" in found["message"] and found["seconds"] < 10 and found["peak_mib"] < 300
    with path.open("rb") as file:
        scan = scan_pickle(file)
    assert scan.damage is None and max(map(len, scan.names)) < 250 and 1000 <= len(scan.names) <= 10_000


@pytest.mark.parametrize("kind", [np.uint8, np.bool_])
def test_whole_numbers_of_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    """Networks that nobody here knows have floats in place of whole numbers, which take more memory."""
    monkeypatch.setitem(torch_pickles._STORAGES, "uint8", "ByteStorage")
    module = Module("Generator")
    module.buffers["strange"] = np.zeros(60 << 20, kind)
    (tmp_path / "net.pkl").write_bytes(gzip.compress(dumps(dict(G_ema=module)), 1))
    found = cost(tmp_path / "net.pkl")
    assert found["message"] == "" and found["code"] == 0 and found["peak_mib"] < 700


def test_an_outline_of_whole_numbers_takes_no_memory(tmp_path: Path) -> None:
    module = Module("Generator")
    module.buffers["strange"] = np.zeros(100 << 20, bool)
    path = tmp_path / "net.pkl"
    path.write_bytes(dumps(dict(G_ema=module)))
    code = (
        "import sys; from dnnlib.snapshot import parse_outline; from dnnlib.snapshot.source import open_stream\n"
        "from tests.fuzz_pickles import peak_bytes\n"
        "with open_stream(sys.argv[1]) as stream: state = parse_outline(*stream)\n"
        "print(dict(state['variables'])['strange'].shape[0], peak_bytes() >> 20)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    count, peak = map(int, done.stdout.split())
    assert count == 100 << 20 and peak < 200


@pytest.mark.parametrize("kind", ["keys", "numbers"])
def test_numbers_of_the_same_hash(tmp_path: Path, kind: str) -> None:
    """Multiples of 2^61 - 1: each is compared with all before it."""
    numbers = [(i + 1) * ((1 << 61) - 1) for i in range(20_000)]
    if kind == "keys":
        longs = [n.to_bytes(n.bit_length() // 8 + 1, "little") for n in numbers]
        content = b"}(" + b"".join(b"\x8a" + bytes([len(n)]) + n + b"N" for n in longs) + b"u."
    else:
        content = b"N" + b"".join(b"p%d\n" % n for n in numbers) + b"."
    (tmp_path / "net.pkl").write_bytes(b"\x80\x04" + content)
    found = cost(tmp_path / "net.pkl")
    assert re.search("more than 60 bits|stores something as number", found["message"])


def test_many_layers_are_refused_before_they_are_made(session: Any, golden: Any) -> None:
    import io

    from dnnlib.snapshot import load_state
    from dnnlib.snapshot.writer import dump_states
    from dnnlib.tflib import pickles
    from dnnlib.util import UserError

    net = load_state(golden.path("official_sg2_uncond.pkl"))[2]["components"]["mapping"]
    net["static_kwargs"]["mapping_layers"] = 1000
    data = io.BytesIO()
    dump_states(net, data)
    data.seek(0)
    start = time.process_time()
    with pytest.raises(UserError, match="option 'mapping_layers' of network 'G_mapping' is beyond anything"):
        pickles.load(data)
    assert time.process_time() - start < 2
