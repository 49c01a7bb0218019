"""Files made to hang, to fill the memory, or to end in a traceback: by nests of references, options, and archives."""

import gzip
import io
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import run_surgery
from dnnlib.snapshot import NetworkState, load_state
from dnnlib.snapshot.arrays import PickleError
from dnnlib.snapshot.instructions import MAX_OPS
from dnnlib.snapshot.scan import scan_pickle
from dnnlib.snapshot.state import plain_options
from dnnlib.snapshot.torch_pickle import read_pickle
from dnnlib.snapshot.torch_reader import read_checkpoint
from dnnlib.snapshot.writer import dump_states
from dnnlib.tflib import pickles
from dnnlib.util import UserError, open_url
from training.export.arrays import read_npz, write_npz
from training.surgery.states import flat_variables

ROOT = Path(__file__).parents[2]
# A list of 60 levels, each twice the one below; a tuple likewise, which takes for ever to hash or to write out.
LISTS = b"\x80\x04]" + b"".join(b"q%c0](h%ch%ce" % (i, i, i) for i in range(60)) + b"."
TUPLES = b"\x80\x02K\x01" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60))


def test_nest_of_references(tmp_path: Path) -> None:
    (tmp_path / "nest.pkl").write_bytes(LISTS)
    with pytest.raises(UserError, match="nest.pkl: refused: data of more than 5000000 parts"):
        load_state(tmp_path / "nest.pkl")
    result = CliRunner().invoke(run_surgery.cli, ["info", str(tmp_path / "nest.pkl")])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1


def test_numbers_in_shared_lists_count() -> None:
    """A few kilobytes that whoever walks through them meets as 25 million numbers."""
    data = pickle.dumps([list(range(5000))] * 5000, 4)
    assert len(data) < 30_000
    with pytest.raises(UserError, match="refused: data of more than 5000000 parts"):
        load_state(io.BytesIO(data))
    assert load_state(io.BytesIO(pickle.dumps([list(range(5000))] * 900, 4)))[899][4999] == 4999


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80\x02}" + TUPLES[2:] + b"Ns.", "a dictionary key of type tuple"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + TUPLES[2:] + b"\x85R.", "arguments that no tensor has"),
        (TUPLES + b"Q.", "persistent id"),
        (b"\x80\x02(" + b"}" * (MAX_OPS + 1) + b"t.", "instructions; refused"),
    ],
    ids=["hash", "text of arguments", "text of an id", "many objects"],
)
def test_pickles_in_checkpoints(data: bytes, message: str) -> None:
    start = time.process_time()
    with pytest.raises(UserError, match=message):
        read_pickle(io.BytesIO(data))
    assert time.process_time() - start < 20


def test_scan_of_many_program_texts() -> None:
    data = b"\x80\x04\x8c\nmodule_src\x94" + b"".join(b"h\x00\x8c\x06%06d00" % i for i in range(150_000)) + b"."
    start = time.process_time()
    scan = scan_pickle(io.BytesIO(data))
    assert len(scan.sources) >= 150_000 and scan.damage is None and time.process_time() - start < 20


def test_memory_of_as_many_objects_as_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "many.pkl").write_bytes(b"\x80\x04](" + b"}\x94" * (MAX_OPS // 2 - 10) + b"e.")
    code = (
        "import sys; from dnnlib.snapshot import load_state; from tests.fuzz_pickles import peak_bytes; "
        "n = len(load_state(sys.argv[1])); print(n, peak_bytes() >> 20)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "many.pkl")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    count, peak = map(int, done.stdout.split())
    assert count == MAX_OPS // 2 - 10 and peak < 700


# ---------------------------------------------------------------- networks with hostile options and odd arrays


def published(golden: Any) -> NetworkState:
    return load_state(golden.path("official_sg2_uncond.pkl"))[2]


def with_option(state: NetworkState, key: str, value: Any) -> NetworkState:
    parts = {name: with_option(part, key, value) for name, part in state["components"].items()}
    return NetworkState({**state, "components": parts, "static_kwargs": {**state["static_kwargs"], key: value}})


def packed(state: NetworkState) -> io.BytesIO:
    data = io.BytesIO()
    dump_states(state, data)
    data.seek(0)
    return data


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mapping_layers", 10**9),
        ("resample_kernel", [1] * 20000),
        ("resample_kernel", [[[[[[1]]]]]]),
        ("fmap_decay", 2000.0),
        ("fmap_decay", float("nan")),
        ("fmap_base", 1 << 100),
        ("fmap_base", "many"),
        ("fmap_max", 1 << 30),
        ("resolution", "high"),
        ("nonlinearity", 5),
        ("nonlinearity", "foo"),
        ("latent_size", -3),
        ("latent_size", 1 << 39),
        ("num_channels", 1 << 31),
        ("label_size", 1 << 33),
        ("mapping_lrmul", 0),
        ("architecture", ["skip"]),
        ("fmap_explicit", {"x": "y"}),
        ("mapping_layers", np.int64(10**9)),
        ("fmap_base", np.float64("nan")),
        ("resample_kernel", np.ones(20000, np.float32)),
        ("resample_kernel", np.ones([1] * 8)),
        ("label_size", [np.array(1 << 50)]),
    ],
)  # fmt: skip
def test_hostile_options(session: Any, golden: Any, tmp_path: Path, key: str, value: Any) -> None:
    state = with_option(published(golden), key, value)
    with pytest.raises(UserError) as info:
        pickles.load(packed(state))
    assert "\n" not in str(info.value) and len(str(info.value)) < 700
    (tmp_path / "net.pkl").write_bytes(packed(state).getvalue())
    for number, command in enumerate((["grow"], ["widen", "--fmaps", "4:600"], ["convert", "--format", "ada-tf"])):
        paths = [str(tmp_path / "net.pkl"), str(tmp_path / f"{number}.pkl")]
        result = CliRunner().invoke(run_surgery.cli, [command[0], *paths, *command[1:]])
        assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1, (command, result.output)
        assert result.stderr.startswith(f"error: {paths[0]}: ") and not Path(paths[1]).exists()
    # What is in the file can be told, if it is moderate.
    result = CliRunner().invoke(run_surgery.cli, ["info", str(tmp_path / "net.pkl")])
    assert result.exit_code == 0 or (result.exit_code == 2 and len(result.stderr.splitlines()) == 1), result.output


@pytest.mark.parametrize("value", [np.ones((1000, 0)), np.ones((0, 1000)), [[np.zeros(100)] * 100] * 100])
def test_options_that_grow_when_they_are_read(value: Any) -> None:
    """A few bytes of a file: rows of nothing, and an array that stands in many places."""
    with pytest.raises(PickleError, match="option 'x' of network 'G' is beyond anything a network has"):
        plain_options({"x": value}, "G")


def test_options_of_numpy(session: Any, golden: Any, tmp_path: Path) -> None:
    """Programs that calculate their options leave numpy's numbers in files."""
    state = published(golden)
    for key, value in (
        ("resolution", np.int64(32)),
        ("mapping_layers", np.int32(4)),
        ("mapping_lrmul", np.float32(0.01)),
        ("resample_kernel", np.array([1, 3, 3, 1])),
        ("use_noise", np.bool_(True)),
    ):
        state = with_option(state, key, value)
    (tmp_path / "net.pkl").write_bytes(packed(state).getvalue())
    found = load_state(tmp_path / "net.pkl")["components"]["synthesis"]["static_kwargs"]
    assert found["resample_kernel"] == [1, 3, 3, 1] and found["use_noise"] is True
    assert {type(value) for value in found.values()} <= {int, float, bool, list, str}
    expected = golden("official_sg2_uncond_expected.npz")
    opened = [pickles.load(tmp_path / "net.pkl"), pickle.loads(packed(state).getvalue())]
    for net in opened:
        images = net.run(expected["in/latents"], None, truncation_psi=0.7, randomize_noise=False)
        np.testing.assert_allclose(images, expected["out/Gs_images_psi_0.7"], rtol=1e-3, atol=1e-3)
    for command in (["grow"], ["convert", "--format", "npz"], ["convert", "--format", "ada-tf"]):
        target = str(tmp_path / f"{command[-1]}.npz" if "npz" in command else tmp_path / f"{command[-1]}.pkl")
        result = CliRunner().invoke(run_surgery.cli, [command[0], str(tmp_path / "net.pkl"), target, *command[1:]])
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("kind", ["<f2", ">f4", "<f8", ">f8", "fortran"])
@pytest.mark.parametrize("protocol", range(6))
def test_odd_arrays_are_read_as_what_they_are(golden: Any, kind: str, protocol: int) -> None:
    rng = np.random.RandomState(0)
    value = rng.randn(3, 4, 5).astype("f4" if kind == "fortran" else kind)
    value = np.asfortranarray(value) if kind == "fortran" else value
    found = load_state(io.BytesIO(pickle.dumps({"x": value, "t": value[::2, :, 1:]}, protocol)))
    np.testing.assert_array_equal(found["x"], value)
    np.testing.assert_array_equal(found["t"], value[::2, :, 1:])
    assert found["x"].dtype.isnative and found["x"].flags.c_contiguous


def test_weights_of_half_precision_and_of_a_wrong_shape(session: Any, golden: Any) -> None:
    state = published(golden)
    mapping = state["components"]["mapping"]
    name, bias = next((n, v) for n, v in mapping["variables"] if n.endswith("bias"))

    def load(value: np.ndarray) -> Any:
        variables = [(n, value if n == name else v) for n, v in mapping["variables"]]
        parts = {**state["components"], "mapping": NetworkState({**mapping, "variables": variables})}
        return pickles.load(packed(NetworkState({**state, "components": parts})))

    half = load(bias.astype(np.float16))
    assert half.get_var(f"G_mapping/{name}").dtype == np.float32
    for wrong in (bias[:1], bias[None], bias[0], bias[:-1]):
        with pytest.raises(UserError) as info:
            load(wrong)
        assert name in str(info.value) and "\n" not in str(info.value)


def test_networks_without_their_parts(
    session: Any, golden: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its components a generator would be made with random ones, as large as the file says."""
    reset = "dnnlib.tflib.network.Network.reset_own_vars"
    monkeypatch.setattr(reset, lambda net: pytest.fail(f"{net.name} was made anew"))
    state = published(golden)
    synthesis, mapping = state["components"]["synthesis"], state["components"]["mapping"]
    bare = NetworkState({**state, "components": {}})
    with pytest.raises(UserError, match="network 'Gs': the file lacks its component synthesis"):
        pickles.load(packed(bare))
    half = NetworkState({**state, "components": {"synthesis": synthesis}})
    with pytest.raises(UserError, match="network 'Gs': the file lacks its component mapping"):
        pickles.load(packed(half))
    swapped = NetworkState({**state, "components": {"synthesis": mapping, "mapping": synthesis}})
    empty = NetworkState({**state, "variables": []})
    for wrong, command, message in (
        (swapped, ["grow"], "component synthesis of network Gs is made by G_mapping, expected G_synthesis"),
        (empty, ["widen", "--fmap-base", "2000"], "Gs has no variable 'dlatent_avg'"),
    ):
        (tmp_path / "net.pkl").write_bytes(packed(wrong).getvalue())
        paths = [str(tmp_path / "net.pkl"), str(tmp_path / "out.pkl")]
        result = CliRunner().invoke(run_surgery.cli, [command[0], *paths, *command[1:]])
        assert result.exit_code == 2 and message in result.stderr, result.output


# ---------------------------------------------------------------- archives and places


def test_archives_of_arrays(tmp_path: Path, golden: Any) -> None:
    write_npz({"Gs": published(golden)}, tmp_path / "good.npz")
    assert flat_variables(read_npz(tmp_path / "good.npz")["Gs"])
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        data = io.BytesIO()
        np.save(data, np.zeros(8 << 20, np.float32))
        archive.writestr("x.npy", data.getvalue())
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    for name, message in (("bomb", "refused: unpacks to more than 20 times"), ("one", "one array, not an archive")):
        with pytest.raises(UserError, match=message):
            read_npz(tmp_path / f"{name}.npz")


def test_checkpoint_with_an_entry_twice(tmp_path: Path) -> None:
    path = tmp_path / "twice.pt"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
        archive.writestr("archive/data.pkl", b"\x80\x02K\x01.")
    with pytest.raises(UserError, match=r"twice.pt: its entry 'archive/data.pkl' is there twice"):
        read_checkpoint(path)


def test_places(tmp_path: Path) -> None:
    (tmp_path / "twice.pkl").write_bytes(gzip.compress(gzip.compress(pickle.dumps([1]))))
    (tmp_path / "empty.pkl").write_bytes(b"")
    for name, message in (
        ("twice.pkl", "{}: not a network pickle but gzip inside of gzip: unpack it once"),
        ("empty.pkl", "{}: empty, expected a network pickle"),
        ("", "{}: a directory without network-snapshot-*.pkl, expected a network file (*.pkl)"),
        ("no.pkl", "cannot open {}: No such file or directory"),
    ):
        with pytest.raises(UserError) as info:
            load_state(tmp_path / name)
        assert str(info.value) == message.format(tmp_path / name if name else tmp_path)
    with pytest.raises(UserError, match=r"cannot make the cache .*empty.pkl"):
        open_url("http://127.0.0.1:9/x.pkl", cache_dir=tmp_path / "empty.pkl", num_attempts=1)
