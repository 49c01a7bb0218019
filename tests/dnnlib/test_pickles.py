"""Network files: what published ones hold, and that hostile ones end in one line and execute nothing."""

import collections
import gzip
import io
import os
import pickle
import pickletools
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.snapshot import NetworkState, PickleError, load_state
from dnnlib.util import EasyDict, UserError

# ---------------------------------------------------------------- files of this package and of the published one


def _variables(state: NetworkState) -> dict[str, np.ndarray]:
    own = dict(state["variables"])
    for component in state["components"].values():
        own.update((f"{component['name']}/{name}", value) for name, value in component["variables"])
    return own


@pytest.mark.parametrize(
    ("file", "arrays", "version", "builders"),
    [
        ("official_sg2_uncond.pkl", "sg2_uncond_Gskip_Dresnet.npz", 4, ("G_main", "D_stylegan2", "G_main")),
        ("official_ada_uncond.pkl", "ada_uncond_Gskip_Dresnet.npz", 5, ("G_main", "D_main", "G_main")),
    ],
)
class TestPublished:
    def test_structure(self, golden: Any, file: str, arrays: str, version: int, builders: tuple[str, ...]) -> None:
        states = load_state(golden.path(file))
        assert isinstance(states, tuple) and [s["name"] for s in states] == ["G", "D", "Gs"]
        assert tuple(s["build_func_name"] for s in states) == builders
        assert {s["version"] for s in states} == {version}
        assert all(s["static_kwargs"]["resolution"] == 32 and s["static_kwargs"]["label_size"] == 0 for s in states)
        for i in (0, 2):
            assert list(states[i]["components"]) == ["synthesis", "mapping"]
            assert [c["name"] for c in states[i]["components"].values()] == ["G_synthesis", "G_mapping"]
        noise = [(n, v.shape) for n, v in states[0]["components"]["synthesis"]["variables"] if n.startswith("noise")]
        assert noise == [(f"noise{i}", (1, 1, 2 ** ((i + 5) // 2), 2 ** ((i + 5) // 2))) for i in range(7)]

    def test_values(self, golden: Any, file: str, arrays: str, version: int, builders: tuple[str, ...]) -> None:
        expected = golden(arrays)
        for state, prefix in zip(load_state(golden.path(file))[:2], ("vars/G/", "vars/D/"), strict=True):
            found = _variables(state)
            assert {prefix + name for name in found} == {key for key in expected if key.startswith(prefix)}
            for name, value in found.items():
                array = np.asarray(value)
                assert array.dtype == np.float32 and array.shape == expected[prefix + name].shape
                np.testing.assert_array_equal(array, expected[prefix + name], err_msg=name)

    def test_gzip_and_file_objects(
        self, golden: Any, tmp_path: Path, file: str, arrays: str, version: int, builders: tuple[str, ...]
    ) -> None:
        data = golden.path(file).read_bytes()
        with gzip.open(tmp_path / "net.pkl.gz", "wb") as packed:
            packed.write(data)
        plain = load_state(io.BytesIO(data))
        again = load_state(tmp_path / "net.pkl.gz")
        assert [s["name"] for s in plain] == [s["name"] for s in again]
        np.testing.assert_array_equal(plain[1]["variables"][0][1], again[1]["variables"][0][1])

    def test_cut_or_flipped(
        self, golden: Any, file: str, arrays: str, version: int, builders: tuple[str, ...], tmp_path: Path
    ) -> None:
        """Whatever happens to a file, it is either still readable or refused with one line that names it."""
        data = golden.path(file).read_bytes()
        rng = np.random.RandomState(version)
        path = tmp_path / "net.pkl"
        refused = 0
        for i in range(40):
            mutant = bytearray(data[: rng.randint(len(data))] if i % 2 else data)
            # Flips close to the names and numbers that describe the arrays; their content is as good as any.
            for _ in range(3):
                mutant[rng.randint(min(len(mutant), 60000))] ^= 1 << rng.randint(8)
            path.write_bytes(mutant)
            try:
                load_state(path)
            except UserError as err:
                assert str(err).startswith(f"{path}: ") and "\n" not in str(err)
                refused += 1
        assert refused >= 20  # the cut ones at least


def _state(**changes: Any) -> dict[str, Any]:
    state = {
        "version": 4,
        "name": "D",
        "static_kwargs": {"num_channels": 3, "fmaps": EasyDict(base=16)},
        "components": {},
        "build_module_src": "raise SystemExit('executed')",
        "build_func_name": "D_stylegan2",
        "variables": [("4x4/Conv/weight", np.arange(6, dtype=np.float32).reshape(2, 3)), ("lod", np.float32(0.5))],
    }
    state.update(changes)
    return state


def _dump_network(state: Any, protocol: int = 4, more: tuple[Any, ...] = ()) -> bytes:
    """A pickle of a network with this state (and more objects after it), written by a stand-in for the real class."""
    tflib, network = types.ModuleType("dnnlib.tflib"), types.ModuleType("dnnlib.tflib.network")

    class Network:
        def __getstate__(self) -> Any:
            return state

    Network.__module__, Network.__qualname__ = network.__name__, "Network"
    network.Network = Network
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, tflib.__name__, tflib)
        patch.setitem(sys.modules, network.__name__, network)
        return pickle.dumps((Network(), *more) if more else Network(), protocol)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_since_2(protocol: int) -> None:
    order = collections.OrderedDict(a=1, b=(2, [3.5, None, True, b"raw", "ü"]))
    data = _dump_network(_state(static_kwargs={"o": order}), protocol, more=(EasyDict(x=1),))
    net, easy = load_state(io.BytesIO(data))
    assert type(net) is NetworkState and type(easy) is EasyDict and easy.x == 1
    assert net["static_kwargs"]["o"] == order and type(net["static_kwargs"]["o"]) is collections.OrderedDict
    (_, weight), (_, lod) = net["variables"]
    np.testing.assert_array_equal(weight, [[0, 1, 2], [3, 4, 5]])
    assert weight.dtype == np.float32 and weight.flags.writeable and lod == 0.5 and type(lod) is np.float32


class TestArrays:
    @settings(deadline=None)
    @given(
        st.sampled_from(["<f4", ">f4", "f2", ">f8", "i1", "<u2", ">i4", "u8", "?"]),
        st.lists(st.integers(0, 3), max_size=4),
        st.booleans(),
        st.sampled_from([2, 3, 4, 5]),
    )
    def test_any_array(self, dtype: str, shape: list[int], fortran: bool, protocol: int) -> None:
        array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
        array = np.asfortranarray(array) if fortran and array.ndim else array
        (found,) = load_state(io.BytesIO(pickle.dumps([array], protocol)))
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype.newbyteorder("=") and found.shape == array.shape

    def test_text_of_python_2(self) -> None:
        """Python 2 wrote raw bytes and names as one kind of text."""
        raw = np.array([1.0, -2.0], "<f4").tobytes()
        data = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        data += b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        data += b"J\xff\xff\xff\xffK\x00tb\x89U" + bytes([len(raw)]) + raw + b"tb."
        np.testing.assert_array_equal(load_state(io.BytesIO(data)), [1.0, -2.0])
        np.testing.assert_array_equal(pickle.loads(data, encoding="latin1"), [1.0, -2.0])

    def test_shared_objects_stay_shared(self) -> None:
        array = np.ones(3)
        a, b = load_state(io.BytesIO(pickle.dumps([array, array])))
        assert a is b


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variables": None}, "'variables' of a network's state is NoneType, expected list"),
        ({"version": True}, "'version' of a network's state is bool, expected int"),
        ({"version": 6}, r"network 'D' has state version 6, readable are \(2, 3, 4, 5\)"),
        ({"version": 1}, "state version 1"),
        ({"name": "../../etc"}, r"the name of a network is '\.\./\.\./etc'"),
        ({"name": "/G"}, "the name of a network is '/G'"),
        ({"components": {"mapping": 1}}, "the components of network 'D' are not networks"),
        ({"static_kwargs": {1: 2}}, "an option or a component of network 'D' is called int, expected printable text"),
        ({"variables": [("a",)]}, "a variable of network 'D' is not a pair of name and value"),
        ({"variables": [("a/../b", np.float32(1))]}, r"the name of a variable of network 'D' is 'a/\.\./b'"),
        ({"variables": [("", np.float32(1))]}, "the name of a variable of network 'D' is ''"),
        ({"variables": [("a", np.ones(2)), ("a", np.ones(2))]}, "variable 'a' of network 'D' is there twice"),
        ({"variables": [("a", np.ones(2, int))]}, "variable 'a' of network 'D' is int64, expected an array of floats"),
        ({"variables": [("a", "x")]}, "variable 'a' of network 'D' is str, expected an array of floats"),
        ({"variables": [("a", [1.0])]}, "variable 'a' of network 'D' is list, expected an array of floats"),
    ],
)
def test_states_that_cannot_be_built(changes: dict[str, Any], message: str) -> None:
    data = _dump_network(_state(**changes))
    with pytest.raises(PickleError, match=message) as info:
        load_state(io.BytesIO(data))
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("key", ["version", "name", "static_kwargs", "build_func_name", "variables"])
def test_a_missing_key(key: str) -> None:
    state = _state()
    del state[key]
    with pytest.raises(PickleError, match=f"a network's state lacks '{key}', it has "):
        load_state(io.BytesIO(_dump_network(state)))


def test_older_versions_may_lack_components() -> None:
    state = _state(version=2)
    del state["components"]
    assert load_state(io.BytesIO(_dump_network(state)))["version"] == 2


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a directory without network-snapshot-\*\.pkl, expected a network"):
        load_state(tmp_path)
    with pytest.raises(UserError, match=r"cannot open .*none\.pkl: No such file"):
        load_state(tmp_path / "none.pkl")


# ---------------------------------------------------------------- building and writing, with TensorFlow


class TestSaveAndLoad:
    @pytest.fixture
    def loaded(self, golden: Any, session: Any) -> tuple[Any, ...]:
        pytest.importorskip("training.networks_stylegan2")
        from dnnlib.tflib import pickles

        return pickles.load(golden.path("official_sg2_uncond.pkl"))

    def test_round_trip_is_exact(self, loaded: tuple[Any, ...], golden: Any, tmp_path: Path) -> None:
        from dnnlib.tflib import pickles

        pickles.save(loaded, tmp_path / "again.pkl")
        for first, second in zip(
            load_state(golden.path("official_sg2_uncond.pkl")), load_state(tmp_path / "again.pkl"), strict=True
        ):
            assert list(first) == list(second) and first["static_kwargs"] == second["static_kwargs"]
            a, b = _variables(first), _variables(second)
            assert list(a) == list(b)
            for name in a:
                np.testing.assert_array_equal(a[name], b[name])
                assert type(a[name]) is type(b[name])

    def test_layout_of_the_file(self, loaded: tuple[Any, ...], tmp_path: Path) -> None:
        """The names in the file are those that the published loaders, on numpy 1, can resolve."""
        from dnnlib.tflib import pickles

        pickles.save(loaded, tmp_path / "net.pkl")
        data = (tmp_path / "net.pkl").read_bytes()
        assert data[:2] == b"\x80\x04"
        texts = [arg for op, arg, _ in pickletools.genops(data) if op.name == "SHORT_BINUNICODE"]
        modules = {t for t in texts if t.startswith(("numpy", "dnnlib"))}
        assert modules == {"numpy", "numpy.core.multiarray", "dnnlib.tflib.network"}

    def test_plain_pickle_reads_it(self, loaded: tuple[Any, ...], tmp_path: Path) -> None:
        from dnnlib.tflib import pickles
        from dnnlib.tflib.network import Network

        pickles.save(loaded[1], tmp_path / "d.pkl")
        with open(tmp_path / "d.pkl", "rb") as file:
            net = pickle.load(file)
        assert isinstance(net, Network)
        value = net.get_var("4x4/Conv/weight")
        np.testing.assert_array_equal(value, loaded[1].get_var("4x4/Conv/weight"))

    def test_what_cannot_be_built_names_the_file(self, tmp_path: Path, session: Any) -> None:
        from dnnlib.tflib import pickles

        (tmp_path / "odd.pkl").write_bytes(_dump_network(_state(build_func_name="G_nobody_knows")))
        net = pickles.load(tmp_path / "odd.pkl")
        np.testing.assert_array_equal(net.get_var("4x4/Conv/weight"), [[0, 1, 2], [3, 4, 5]])
        with pytest.raises(UserError, match=r"odd\.pkl: .*G_nobody_knows"):
            net.run(np.zeros([1, 3, 8, 8]), None)

    def test_a_failed_write_keeps_the_old_file(self, tmp_path: Path) -> None:
        from dnnlib.tflib import pickles

        (tmp_path / "net.pkl").write_bytes(b"old")
        with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
            pickles.save(lambda: None, tmp_path / "net.pkl")
        assert (tmp_path / "net.pkl").read_bytes() == b"old" and os.listdir(tmp_path) == ["net.pkl"]
