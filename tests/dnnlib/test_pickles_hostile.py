"""Hostile and damaged network files: each ends in one line, executes nothing, and takes no memory to speak of."""

import gzip
import io
import os
import pickle
import pickletools
import resource
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnnlib.snapshot import load_state
from dnnlib.util import EasyDict, UserError


class _Call:
    """Pickles as a call of `func(*args)`."""

    def __init__(self, func: Any, *args: Any) -> None:
        self.call = (func, args)

    def __reduce__(self) -> Any:
        return self.call


def _raw_array(shape: bytes, dtype: bytes, raw: bytes) -> bytes:
    head = b"\x80\x04cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    kind = b"cnumpy\ndtype\n\x8c" + bytes([len(dtype)]) + dtype + b"\x89\x88\x87R"
    return head + b"(K\x01" + shape + kind + b"\x89" + raw + b"tb."


def _nested_tuples(depth: int) -> bytes:
    """A tuple whose hash or text takes 2 to the power of `depth` steps."""
    return b")" + b"2\x86" * depth


_NET = b"\x80\x04cdnnlib.tflib.network\nNetwork\n)\x81"
_MARKER = os.path.join(tempfile.gettempdir(), f"dnnlib-test-was-executed-{os.getpid()}")
_BIG = struct.pack("<q", 1 << 40)
_SAME_BLOCK = _raw_array(b"J\x00\x00\x10\x00\x85", b"i1", b"h\x00")[2:-1]

HOSTILE = {
    "os.system": (pickle.dumps(_Call(os.system, f"touch {_MARKER}")), r"asks for (posix|nt)\.system"),
    "eval": (pickle.dumps(_Call(eval, f"open({_MARKER!r}, 'w')")), r"asks for builtins\.eval"),
    "exec, protocol 0": (pickle.dumps(_Call(exec, f"open({_MARKER!r}, 'w')"), 0), r"asks for __builtin__\.exec"),
    "getattr": (pickle.dumps(_Call(getattr, 1, "real")), r"asks for builtins\.getattr"),
    "dotted name": (b"\x80\x04\x8c\x0bdnnlib.util\x8c\x0cEasyDict.get\x93.", r"asks for dnnlib\.util\.EasyDict\.get"),
    "module attribute": (b"\x80\x04cdnnlib.util\nos\n.", r"asks for dnnlib\.util\.os"),
    "nested call": (pickle.dumps([{"a": (1, _Call(os.system, f"touch {_MARKER}"))}]), r"asks for (posix|nt)\.system"),
    "call in a state": (pickle.dumps(EasyDict(x=_Call(os.system, f"touch {_MARKER}"))), r"asks for (posix|nt)\.sys"),
    "foreign class": (pickle.dumps(io.BytesIO(b"x")), r"asks for _io\.BytesIO"),
    "unprintable name": (b"\x80\x04\x8c\x03a\nb\x8c\x02\x1b[\x93.", r"asks for a\?b\.\?\["),
    "old-style instance": (f"(S'touch {_MARKER}'\nios\nsystem\n.".encode(), r"asks for os\.system"),
    "old-style network": (b"(idnnlib.tflib.network\nNetwork\n.", "old-style instance of dnnlib.tflib.network.Network"),
    "object": (b"(cos\nsystem\no.", r"asks for os\.system"),
    "object of the right class": (b"(cdnnlib.util\nEasyDict\no.", "the file uses OBJ"),
    "numpy loader": (b"\x80\x04cnumpy\nload\n\x8c\x01x\x85R.", r"asks for numpy\.load"),
    "torch": (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n.", r"a PyTorch file \(it asks for torch\._utils\._reb"),
    "ada-pytorch": (
        b"\x80\x04ctorch_utils.persistence\n_reconstruct_persistent_obj\n.",
        r"a PyTorch file .*stylegan2-ada-pytorch files are not read here, expected a network pickle of StyleGAN2",
    ),
    "extension": (b"\x80\x02\x82\x01.", r"damaged or not a network file|the file uses EXT1"),
    "persistent id": (b"\x80\x02\x8c\x01xQ.", "the file uses BINPERSID"),
    "out of band": (b"\x80\x05\x97.", "the file uses NEXT_BUFFER"),
    "set": (pickle.dumps({1, 2}), "the file uses EMPTY_SET"),
    "class as data": (b"\x80\x04cdnnlib.util\nEasyDict\n.", "refused: dnnlib.util.EasyDict where data belongs"),
    "state for a class": (b"\x80\x04cdnnlib.util\nEasyDict\n}b.", "a state for dnnlib.util.EasyDict"),
    "attributes of a class": (b"\x80\x04cdnnlib.util\nEasyDict\nN}\x8c\x03getK\x01s\x86b.", "a state for dnnlib.ut"),
    "ndarray called": (b"\x80\x04cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85\x85R.", "unexpected call of numpy.ndarray"),
    "reconstruct another class": (
        b"\x80\x04cnumpy.core.multiarray\n_reconstruct\ncdnnlib.util\nEasyDict\nK\x00\x85C\x01b\x87R.",
        "unexpected call of numpy.core.multiarray._reconstruct",
    ),
    "reconstruct with a shape": (
        b"\x80\x04cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85C\x01b\x87R.",
        "unexpected call of numpy.core.multiarray._reconstruct",
    ),
    "array of objects": (pickle.dumps(np.array([None, {}], dtype=object)), "an array of type 'O8', expected plain"),
    "array of objects, small": (_raw_array(b"K\x01\x85", b"O", b"]"), "an array of type 'O'"),
    "structured array": (pickle.dumps(np.zeros(2, "i4,f4")), "an array of type 'V8'"),
    "array of a list": (_raw_array(b"K\x01\x85", b"f4", b"]"), "an array that is not made of numbers"),
    "huge declared array": (_raw_array(b"\x8a\x06\0\0\0\0\0\1\x85", b"f4", b"C\x04abcd"), "damaged: shape of an array"),
    "large declared array": (
        _raw_array(b"J\0\0\0\x40\x85", b"f8", b"C\x04abcd"),
        r"shape \[1073741824\] needs 8589934592 bytes, found 4",
    ),
    "negative shape": (_raw_array(b"J\xff\xff\xff\xff\x85", b"f4", b"C\x04abcd"), "damaged: shape of an array"),
    "shape without end": (_raw_array(_nested_tuples(200), b"f4", b"C\x04abcd"), "damaged: shape of an array"),
    "too many axes": (_raw_array(b"(" + b"K\x01" * 40 + b"t", b"f4", b"C\x04abcd"), "damaged: shape of an array"),
    "dtype without end": (b"\x80\x04cnumpy\ndtype\n" + _nested_tuples(200) + b"\x85R.", "an array of type 'tuple'"),
    "key without end": (b"\x80\x04}" + _nested_tuples(200) + b"Ns.", "a dictionary key of type tuple"),
    "list of itself": (b"\x80\x04]q\x00h\x00a.", "data that contains itself"),
    "network of itself": (_NET + b"q\x00}\x8c\x01xh\x00sb.", "data that contains itself"),
    "deep": (b"\x80\x04" + b"]" * 5000 + b"a" * 4999 + b".", "data nested more than 64 deep"),
    "one block, many arrays": (
        b"\x80\x04B\x00\x00\x10\x00" + bytes(1 << 20) + b"q\x000](" + _SAME_BLOCK * 50 + b"e.",
        "take far more memory than the file has bytes",
    ),
    "big number": (b"\x80\x04\x8b" + struct.pack("<i", 1000) + b"\x7f" * 1000 + b".", "an integer of 7999 bits"),
    "big decimal number": (b"I" + b"9" * 5000 + b"\n.", "damaged or not a network file"),
    "long block": (b"\x80\x04\x8e" + _BIG + b"x.", "damaged or not a network file .*1099511627776"),
    "long text": (b"\x80\x04\x8d" + _BIG + b"x.", "damaged or not a network file .*1099511627776"),
    "empty stack": (b"\x80\x04.", "damaged or not a network file"),
    "stack too short": (b"\x80\x04\x87.", "damaged or not a network file .*stack is too short"),
    "no mark": (b"\x80\x04t.", "damaged or not a network file"),
    "memo": (b"\x80\x04h\x07.", "damaged or not a network file .*KeyError: 7"),
    "rest on the stack": (b"\x80\x04NN.", "values are left over"),
    "protocol": (b"\x80\x63N.", "pickle protocol 99 is not known"),
    "no end": (b"\x80\x04N", "damaged or not a network file .*exhausted before seeing STOP"),
    "latin text as bytes": (b"\x80\x02c_codecs\nencode\nX\x03\0\0\0\xe2\x82\xac\x8c\x06latin1\x86R.", "not stand for"),
    "another encoding": (b"\x80\x02c_codecs\nencode\nX\x01\0\0\0x\x8c\x06rot_13\x86R.", "unexpected call of _codecs"),
    "nothing": (b"", "empty, expected a network pickle"),
    "text": (b"hello, this is not a pickle\n", "damaged or not a network file"),
    "web page": (b"\n<!DOCTYPE html><html>", "not a network pickle but a web page"),
    "zip": (b"PK\x03\x04rest", r"not a network pickle but a zip archive \(perhaps a PyTorch checkpoint\)"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "gzip, cut": (gzip.compress(pickle.dumps(list(range(1000))))[:-20], "damaged gzip file"),
    "gzip, damaged": (gzip.compress(b"x" * 100)[:15] + b"\xff" * 20, "damaged gzip file"),
    "gzip bomb": (gzip.compress(bytes(80 << 20), 1), "unpacks to more than 20 times its size"),
    "network without state": (_NET + b".", "a network without state"),
    "network with arguments": (b"\x80\x04cdnnlib.tflib.network\nNetwork\nN\x85\x81.", "a new object of dnnlib.tflib.n"),
    "network called": (b"\x80\x04cdnnlib.tflib.network\nNetwork\n)R.", "unexpected call of dnnlib.tflib.network.Netw"),
    "network with a list": (_NET + b"]b.", "a network's state is list, expected a dict"),
    "network built twice": (_NET + b"}b}b.", "a state for something of type NetworkRecord"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str, tmp_path: Path) -> None:
    data, message = HOSTILE[name]
    path = tmp_path / "net.pkl"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=message) as info:
        load_state(path)
    text = str(info.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and len(text) < 500 and text.isprintable()
    assert not os.path.exists(_MARKER)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10  # KiB


def test_every_instruction_of_pickle_is_handled_or_refused() -> None:
    """A new instruction of a future Python must not slip through unseen."""
    from dnnlib.snapshot import machine

    handled = {n for n in dir(machine._Machine) if n.startswith("_op_")}
    plain = machine._PUSH_ARG | set(machine._PUSH_NEW) | set(machine._TUPLE_SIZE) | set(machine._BYTES_HEAD)
    refused = {"EMPTY_SET", "ADDITEMS", "FROZENSET", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "OBJ"}
    refused |= {"NEXT_BUFFER", "READONLY_BUFFER"}
    for op in pickletools.opcodes:
        assert (f"_op_{op.name.lower()}" in handled) + (op.name in plain) + (op.name in refused) == 1, op.name
