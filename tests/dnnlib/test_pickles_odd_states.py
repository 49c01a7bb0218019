"""States of networks with more, or stranger, in them than published ones: told, written, and warned of."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import run_surgery
from dnnlib.snapshot import NetworkState, load_state
from dnnlib.snapshot.writer import dump_states, save_states
from dnnlib.tflib import pickles
from dnnlib.util import UserError
from tests.torch_pickles import Name, New, dumps
from training.export.arrays import READERS

_NETWORK = Name("dnnlib.tflib.network", "Network")
PROGRAM = "import os; os.system('true')\nx = 1\n"


def network(protocol: int = 2, **changes: Any) -> bytes:
    """A pickle of D with nothing inside."""
    state = {
        "version": 4,
        "name": "D",
        "static_kwargs": {"num_channels": 3, "resolution": 8, "label_size": 0},
        "components": {},
        "build_module_src": "",
        "build_func_name": "D_custom",
        "variables": [("lod", np.float32(0))],
    }
    return dumps(New(_NETWORK, state | changes), protocol)


def surgery(*words: object) -> Result:
    """The command; it may end in one line, but in no traceback."""
    result = CliRunner().invoke(run_surgery.cli, [*map(str, words)])
    assert isinstance(result.exception, (SystemExit, type(None))), result.exception
    assert len(result.stderr.splitlines()) == (result.exit_code != 0)
    assert all(line.isprintable() for line in result.output.splitlines()), result.output
    return result


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize("extra", [np.float32(1), b"raw", {"a": [(1, {2: np.zeros(2)})]}])
def test_what_arrays_cannot_hold_is_left_out_and_told(tmp_path: Path, kind: str, extra: Any) -> None:
    (tmp_path / "net.pkl").write_bytes(network(4, extra=extra, also=[1, "text"]))
    result = surgery("convert", tmp_path / "net.pkl", tmp_path / f"net.{kind}", "--format", kind)
    assert result.exit_code == 0 and f"left out, because {kind} cannot hold it: D: extra\n" in result.output
    state = READERS[f".{kind}"](tmp_path / f"net.{kind}")["D"]
    assert "extra" not in state and state["also"] == [1, "text"]


def test_an_option_that_arrays_cannot_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pkl").write_bytes(network(4, static_kwargs={"raw": b"x"}))
    result = surgery("convert", tmp_path / "net.pkl", tmp_path / "net.npz", "--format", "npz")
    assert result.exit_code == 2 and "net.pkl: network D: option raw is neither a number nor text" in result.stderr
    assert not (tmp_path / "net.npz").exists()


CODES = "D\n\x1b[31mred\x1b]0;title\x07"


@pytest.mark.parametrize(
    "changes",
    [dict(build_func_name=CODES), dict(static_kwargs={CODES: 1}), dict(static_kwargs={"x" * 3000: 1})],
    ids=["builder", "option", "long option"],
)
def test_names_that_reach_the_terminal(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "net.pkl").write_bytes(network(**changes))
    with pytest.raises(UserError, match="expected printable text of at most 200 characters") as info:
        pickles.load(tmp_path / "net.pkl")
    assert str(info.value).isprintable() and len(str(info.value)) < 500
    assert surgery("info", tmp_path / "net.pkl").exit_code == 2


def test_texts_of_options_are_short(tmp_path: Path) -> None:
    (tmp_path / "net.pkl").write_bytes(network(static_kwargs={"structure": "x" * 3000}))
    with pytest.raises(UserError, match="option 'structure' of network 'D' is beyond anything a network has"):
        load_state(tmp_path / "net.pkl")


TEXTS = ["architecture", "nonlinearity", "resample_kernel", "fp16_dtype", "data_format", "base_shape", "fmap_base"] + [
    "spectral_norm", "attention_resolution", "mbstd_group_size", "conv_clamp", "label_size", "structure", "components",
]  # fmt: skip


@pytest.mark.parametrize("key", TEXTS)
def test_texts_of_options_in_messages(session: Any, golden: Any, key: str) -> None:
    """However a builder comes to refuse a text of a file, it is one line without terminal codes."""
    base = load_state(golden.path("official_sg2_uncond.pkl"))[1]
    state = NetworkState({**base, "static_kwargs": {**base["static_kwargs"], key: CODES}})
    data = io.BytesIO()
    dump_states(state, data)
    data.seek(0)
    try:
        net = pickles.load(data)
        assert net.is_kept or key in ("data_format", "structure", "fp16_dtype")
        text = net.reason
    except UserError as err:
        text = str(err)
    assert text.isprintable()


# ---------------------------------------------------------------- program text, however a file holds it


def _hidden() -> bytes:
    """Something is pushed and taken away between the key and the program."""
    plain = network(build_module_src=PROGRAM)
    key = b"X" + struct.pack("<I", len("build_module_src")) + b"build_module_src"
    at = plain.index(key) + len(key) + 2  # behind what puts it into the memo
    return plain[:at] + b"N0" + plain[at:]


@pytest.mark.parametrize(
    "data",
    [
        network(4, build_module_src=PROGRAM.encode() * 5),
        network(4, build_module_src=PROGRAM.encode() * 500),
        network(2, build_module_src=PROGRAM.encode()),
        _hidden(),
        network(build_module_src="from some_module import x\n"),
        network(build_module_src="from training.networks.other import x\n"),
        network(build_module_src=PROGRAM),
    ],
    ids=["bytes", "many bytes", "bytes of protocol 2", "pushed", "import", "import of a part", "plain"],
)
def test_program_text_is_warned_of(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "net.pkl").write_bytes(data)
    assert surgery("info", tmp_path / "net.pkl").output.count("warning: it carries program text") == 1


def test_import_of_a_published_module_is_none(tmp_path: Path) -> None:
    for module in ("networks", "networks_stylegan2"):
        (tmp_path / "net.pkl").write_bytes(network(build_module_src=f"from training.{module} import D_main\n"))
        assert "warning" not in surgery("info", tmp_path / "net.pkl").output


# ---------------------------------------------------------------- networks that nobody here builds


UNKNOWN = {
    "builder": dict(version=5, build_func_name="D_custom", build_module_src=PROGRAM, input_names=["images_in"]),
    "option": dict(version=5, build_func_name="D_main", build_module_src=PROGRAM, static_kwargs={"far_out": [1]}),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_unknown_networks_are_written_as_they_are(tmp_path: Path, case: str) -> None:
    path, again, arrays = tmp_path / "net.pkl", tmp_path / "again.pkl", tmp_path / "net.npz"
    path.write_bytes(network(3, **UNKNOWN[case]))
    assert surgery("strip", path, again, "--keep", "D").exit_code == 0
    before = load_state(path)
    assert load_state(again) == before and before["build_module_src"] == PROGRAM
    assert surgery("convert", path, arrays, "--format", "npz").exit_code == 0
    found = READERS[".npz"](arrays)["D"]
    assert found == {key: value for key, value in before.items() if key != "build_module_src"}
    result = surgery("convert", path, tmp_path / "tf.pkl", "--format", "ada-tf")
    assert result.exit_code == 2 and ("D_custom" in result.stderr or "far_out" in result.stderr)


def test_an_unknown_network_beside_others_is_kept(golden: Any, tmp_path: Path) -> None:
    G, _, Gs = load_state(golden.path("official_sg2_uncond.pkl"))  # noqa: N806
    (tmp_path / "d.pkl").write_bytes(network(3, **UNKNOWN["builder"]))
    D = load_state(tmp_path / "d.pkl")  # noqa: N806
    save_states((G, D, Gs), tmp_path / "net.pkl")
    result = surgery("grow", tmp_path / "net.pkl", tmp_path / "grown.pkl")
    assert result.exit_code == 0 and "D stays as it is in the file: unknown network builder 'D_custom'" in result.output
    grown = load_state(tmp_path / "grown.pkl")
    assert grown[1] == D and [s["static_kwargs"]["resolution"] for s in grown] == [64, 8, 64]


def test_what_surgery_knows_is_what_is_built() -> None:
    from dnnlib.tflib import registry
    from training.surgery import known

    registry.find_builder("G_main")
    builders = registry._builders.values()
    assert {builder.name for builder in builders} == known.BUILDERS
    options = set().union(*(b.options | b.tolerated | b.aliases.keys() for b in builders))
    assert options == known.OPTIONS
