"""Checkpoints written by PyTorch itself (see torch_samples.py), and files that nobody should be able to use as one."""

from __future__ import annotations

import copy
import io
import pickle
import re
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnnlib.snapshot.torch_reader import read_checkpoint, read_state_dict
from dnnlib.util import UserError

DATA = Path(__file__).parent / "data"
LAYOUTS = ("zip", "legacy")

# A pickle by hand: enough of the language to say what the tests need.
UTF8 = lambda text: b"X" + struct.pack("<I", len(text.encode())) + text.encode()  # noqa: E731
INT = lambda n: b"\x8a\x08" + struct.pack("<q", n)  # noqa: E731
NAME = lambda module, name: f"c{module}\n{name}\n".encode()  # noqa: E731
TUPLE = lambda *items: b"(" + b"".join(items) + b"t"  # noqa: E731
CALL = lambda function, *args: function + TUPLE(*args) + b"R"  # noqa: E731
REBUILD = NAME("torch._utils", "_rebuild_tensor_v2")


def storage(key="0", numel=4, kind="FloatStorage"):
    return TUPLE(UTF8("storage"), NAME("torch", kind), UTF8(key), UTF8("cpu"), INT(numel)) + b"Q"


def tensor(offset=0, size=(4,), stride=(1,), source=None):
    sizes, strides = (TUPLE(*map(INT, s)) for s in (size, stride))
    source = storage() if source is None else source
    return CALL(REBUILD, source, INT(offset), sizes, strides, b"\x89", CALL(NAME("collections", "OrderedDict")))


def checkpoint(path, body, storages=None, compression=zipfile.ZIP_STORED, prefix="m/"):
    """A zip checkpoint with the pickle `body` and the bytes of its storages: 16 bytes under "0" by default."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{prefix}data.pkl", b"\x80\x02" + body + b".")
        for key, data in ({"0": np.arange(4, dtype="<f4").tobytes()} if storages is None else storages).items():
            archive.writestr(f"{prefix}data/{key}", data)
    return path


def refused(path, text):
    with pytest.raises(UserError, match=text) as info:
        read_checkpoint(path)
    assert str(path) in str(info.value) and "\n" not in str(info.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reads_what_pytorch_wrote(layout):
    content = read_checkpoint(DATA / f"torch_{layout}.pt")
    expected = np.load(DATA / "torch_expected.npz")
    found = {**content["tensors"], **{f"state.{k}": v for k, v in content["state"].items()}}
    assert list(found) == expected.files
    for name in expected.files:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
        assert found[name].dtype == expected[name].dtype and found[name].flags["C_CONTIGUOUS"], name
    del content["tensors"], content["state"]
    flags = [True, False, None, (1, 2, 3, 4)]
    assert content == {"epoch": 7, "lr": 0.25, "big": 2**70, "name": "é", "flags": flags}


def test_handmade_checkpoint(tmp_path):
    assert read_checkpoint(checkpoint(tmp_path / "a", tensor())).tolist() == [0, 1, 2, 3]
    transposed = read_checkpoint(checkpoint(tmp_path / "b", tensor(0, (2, 2), (1, 2))))
    assert transposed.tolist() == [[0, 2], [1, 3]]
    parameter = CALL(NAME("torch._utils", "_rebuild_parameter"), tensor(), b"\x88", b"}")
    assert read_checkpoint(checkpoint(tmp_path / "c", parameter)).tolist() == [0, 1, 2, 3]


def test_nothing_a_file_names_is_called(tmp_path):
    target = tmp_path / "made"
    refused(checkpoint(tmp_path / "a", CALL(NAME("os", "system"), UTF8(f"touch {target}"))), r"os\.system.*refused")
    refused(checkpoint(tmp_path / "b", CALL(NAME("builtins", "eval"), UTF8("1"))), r"builtins\.eval")
    stacked = UTF8("posix") + UTF8("system") + b"\x93"
    refused(checkpoint(tmp_path / "c", CALL(stacked, UTF8("true"))), r"posix\.system")
    refused(checkpoint(tmp_path / "d", NAME("torch", "load")), r"torch\.load")
    assert not target.exists()


@pytest.mark.parametrize(
    ("body", "opcode"),
    [
        (b"(S'touch x'\nios\nsystem\n", "STRING"),
        (b"(ios\nsystem\n", "INST"),
        (b"cos\nsystem\n", "os.system"),
        (b"\x82\x01", "EXT1"),
        (b"Ppid\n", "PERSID"),
        (b"]}\x81", "NEWOBJ"),
        (b"\x97", "NEXT_BUFFER"),
    ],
)
def test_other_opcodes_are_refused_by_name(tmp_path, body, opcode):
    refused(checkpoint(tmp_path / "a", body), f"{re.escape(opcode)}.*refused")


def test_names_alone_are_no_data(tmp_path):
    refused(checkpoint(tmp_path / "a", REBUILD), "holds a Name where data is expected")
    refused(checkpoint(tmp_path / "b", storage()), "holds a Storage where data is expected")
    refused(checkpoint(tmp_path / "c", CALL(NAME("torch", "FloatStorage"), INT(1))), r"calls torch\.FloatStorage")
    refused(checkpoint(tmp_path / "d", CALL(NAME("collections", "OrderedDict"), INT(1))), "calls collections")
    refused(checkpoint(tmp_path / "e", CALL(INT(3), INT(1))), "calls a int")


def test_attributes_cannot_be_set(tmp_path):
    # A state dict has attributes, which are dropped; on anything else this opcode has no meaning.
    ordered = CALL(NAME("collections", "OrderedDict")) + b"}" + UTF8("_metadata") + INT(1) + b"sb"
    assert read_checkpoint(checkpoint(tmp_path / "a", ordered)) == {}
    refused(checkpoint(tmp_path / "b", tensor() + b"}b"), "not a readable PyTorch checkpoint: a dict is expected")
    refused(checkpoint(tmp_path / "c", REBUILD + b"}b"), "a dict is expected")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(1, (4,), (1,)), (0, (5,), (1,)), (0, (2, 2), (2, 2)), (4, (1,), (1,)), (0, (2**40, 2**40), (0, 0))],
)
def test_tensors_stay_within_their_storage(tmp_path, offset, size, stride):
    refused(checkpoint(tmp_path / "a", tensor(offset, size, stride)), "does not fit its storage '0' of 4 elements")


def test_bad_numbers(tmp_path):
    refused(checkpoint(tmp_path / "a", tensor(-1, (1,), (1,))), "a tensor with storage")
    refused(checkpoint(tmp_path / "b", tensor(0, (-4,), (1,))), "a tensor with storage")
    refused(checkpoint(tmp_path / "c", tensor(3, (4,), (-1,))), "a tensor with storage")
    refused(checkpoint(tmp_path / "d", tensor(0, (2, 2), (1,))), "a tensor with storage")
    refused(checkpoint(tmp_path / "e", tensor(source=INT(3))), "a tensor with storage")


def test_storages_must_be_there_and_as_long_as_they_say(tmp_path):
    refused(checkpoint(tmp_path / "a", tensor(), {}), "storage '0' is missing")
    refused(checkpoint(tmp_path / "b", tensor(), {"0": bytes(15)}), "has 15 bytes, expected 4 x 4")
    refused(checkpoint(tmp_path / "c", tensor(source=storage(numel=2**40))), "has 16 bytes, expected 1099511627776 x 4")
    refused(checkpoint(tmp_path / "d", INT(1) + b"Q"), "persistent id 1; expected")
    refused(checkpoint(tmp_path / "e", storage(kind="StringStorage")), r"torch\.StringStorage")
    view = (
        TUPLE(UTF8("storage"), NAME("torch", "FloatStorage"), UTF8("0"), UTF8("cpu"), INT(4), TUPLE(UTF8("v"))) + b"Q"
    )
    refused(checkpoint(tmp_path / "f", view), "view of another one")


def test_small_files_cannot_fill_the_memory(tmp_path):
    # 4000 tensors that share one storage of 4 MB.
    shared = tensor(size=(1 << 20,), source=storage(numel=1 << 20))
    body = b"](" + shared * 4000 + b"e"
    refused(checkpoint(tmp_path / "a", body, {"0": bytes(4 << 20)}), "more than 4 times the size of the file")
    # Lists of twice the same list, 60 deep.
    bomb = b"]" + b"".join(b"q" + bytes([i]) + b"]h" + bytes([i]) + b"ah" + bytes([i]) + b"a" for i in range(60))
    refused(checkpoint(tmp_path / "b", bomb), "nested more than 50 deep")
    # The same, 40 deep: 2^40 leaves, resolved once each.
    bomb = b"]" + b"".join(b"q" + bytes([i]) + b"]h" + bytes([i]) + b"ah" + bytes([i]) + b"a" for i in range(40))
    assert len(read_checkpoint(checkpoint(tmp_path / "c", bomb))) == 2
    refused(checkpoint(tmp_path / "d", b"]q\x00h\x00a"), "hold themselves")
    refused(checkpoint(tmp_path / "e", b"K\x01r\xff\xff\xff\x7fj\xff\xff\xff\x70"), "not a readable PyTorch checkpoint")


def test_archives_that_pytorch_does_not_write(tmp_path):
    compressed = checkpoint(tmp_path / "a", tensor(), {"0": bytes(1000)}, zipfile.ZIP_DEFLATED)
    refused(compressed, "compressed; PyTorch stores entries as they are")
    with zipfile.ZipFile(tmp_path / "b", "w") as archive:
        archive.writestr("other", b"")
    refused(tmp_path / "b", "expected one data.pkl in the archive, found 0")
    with zipfile.ZipFile(tmp_path / "c", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02N.")
        archive.writestr("y/data.pkl", b"\x80\x02N.")
    refused(tmp_path / "c", "found 2")
    path = checkpoint(tmp_path / "d", tensor())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("m/byteorder", b"big")
    refused(path, "big-endian")


def test_entries_that_are_the_same_bytes_of_the_file(tmp_path):
    """Each would be read on its own: many of them are more memory than the file has bytes."""
    path = checkpoint(tmp_path / "a", tensor(), {"0": bytes(1 << 16)})
    with zipfile.ZipFile(path, "a") as archive:
        again = copy.copy(archive.getinfo("m/data/0"))
        again.filename = "m/data/1"
        archive.filelist.append(again)
        archive.comment = b"so that the directory is written anew"
    with zipfile.ZipFile(path) as archive:
        assert [info.filename for info in archive.infolist()] == ["m/data.pkl", "m/data/0", "m/data/1"]
    refused(path, "together longer than the file: they overlap")


def test_other_files(tmp_path):
    refused(tmp_path / "missing", "cannot open .*missing: No such file")
    refused(tmp_path, "cannot open")
    for name, data in {
        "empty": b"",
        "text": b"hello",
        "pickle": pickle.dumps({"a": 1}),
        "half": b"PK\x03\x04xx",
    }.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, "neither a zip archive nor|not a readable")


def test_legacy_layout_is_checked(tmp_path):
    data = (DATA / "torch_legacy.pt").read_bytes()
    path = tmp_path / "a"
    path.write_bytes(data[:-1])
    refused(path, "it is cut short")
    path.write_bytes(data.replace(b"\x4d\xe9\x03", b"\x4d\xe8\x03", 1))
    refused(path, "expected protocol 1001 .* found 1000")
    path.write_bytes(data.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89", 1))
    refused(path, "big-endian")


def test_backslashes_in_damaged_text(tmp_path):
    """Python's decoder warns of them, of Python code in mind."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(checkpoint(tmp_path / "a", b"c\\X\ny\n"), r"it refers to .*X\.y, which is no tensor data")


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_gives_an_error_of_one_line_or_data(tmp_path, layout, data):
    original = (DATA / f"torch_{layout}.pt").read_bytes()
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    path = tmp_path / "damaged"
    path.write_bytes(damaged)
    try:
        read_checkpoint(path)
    except UserError as err:
        assert str(err).startswith(str(path)) and "\n" not in str(err)


def test_state_dict_is_checked_against_names_and_shapes(tmp_path):
    body = b"}" + UTF8("weight") + tensor(0, (2, 2), (2, 1)) + b"s"
    path = checkpoint(tmp_path / "a", body)
    assert read_state_dict(path, {"weight": (2, 2)})["weight"].tolist() == [[0, 1], [2, 3]]
    with pytest.raises(UserError, match=r"weight has shape \[2, 2\], expected \[4\]"):
        read_state_dict(path, {"weight": (4,)})
    with pytest.raises(UserError, match="no tensor 'wight': did you mean 'weight'"):
        read_state_dict(path, {"wight": (4,)})
    with pytest.raises(UserError, match="expected a dictionary of tensors, found a list"):
        read_state_dict(checkpoint(tmp_path / "b", b"]"), {})


def test_reads_from_bytes_that_python_pickles_alike(tmp_path):
    # Cross-check of the interpreter: plain data pickled by Python itself, protocols 2 to 4.
    value = {"a": [1, 2.5, (3, "x", None)], "b": {"c": True, "d": -(2**80)}, "e": list(range(300)), "f": ()}
    for protocol in (2, 3, 4):
        body = io.BytesIO(pickle.dumps(value, protocol)).getvalue()[2:-1]
        assert read_checkpoint(checkpoint(tmp_path / "a", body)) == value


def test_dictionaries_as_python_2_writes_them(tmp_path):
    text = b"U\x01a"  # SHORT_BINSTRING
    pairs = b"](](" + text + INT(1) + b"e" + b"](" + text.replace(b"a", b"b") + INT(2) + b"ee"
    ordered = NAME("collections", "OrderedDict") + pairs + b"\x85R"
    assert read_checkpoint(checkpoint(tmp_path / "a", ordered)) == {"a": 1, "b": 2}
    for bad in (b"](" + INT(1) + b"e", b"](](" + INT(1) + INT(2) + b"ee", b"](](" + text + b"ee"):
        refused(checkpoint(tmp_path / "b", NAME("collections", "OrderedDict") + bad + b"\x85R"), "calls collections")
