"""Pickles that nobody should be able to use: `python -m tests.hostile_pickles DIR` writes them as files.

Name -> (content, what the refusal says). Those that call something would leave the file MARKER behind.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.util import EasyDict
from tests.torch_pickles import Call, Module, Name, dumps, generator, saved_storage


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
#: Made by what would be executed.
MARKER = os.path.join(tempfile.gettempdir(), "dnnlib-test-was-executed")
_BIG = struct.pack("<q", 1 << 40)
_SAME_BLOCK = _raw_array(b"J\x00\x00\x10\x00\x85", b"i1", b"h\x00")[2:-1]

HOSTILE = {
    "os.system": (pickle.dumps(_Call(os.system, f"touch {MARKER}")), r"asks for (posix|nt)\.system"),
    "eval": (pickle.dumps(_Call(eval, f"open({MARKER!r}, 'w')")), r"asks for builtins\.eval"),
    "exec, protocol 0": (pickle.dumps(_Call(exec, f"open({MARKER!r}, 'w')"), 0), r"asks for __builtin__\.exec"),
    "getattr": (pickle.dumps(_Call(getattr, 1, "real")), r"asks for builtins\.getattr"),
    "dotted name": (b"\x80\x04\x8c\x0bdnnlib.util\x8c\x0cEasyDict.get\x93.", r"asks for dnnlib\.util\.EasyDict\.get"),
    "module attribute": (b"\x80\x04cdnnlib.util\nos\n.", r"asks for dnnlib\.util\.os"),
    "nested call": (pickle.dumps([{"a": (1, _Call(os.system, f"touch {MARKER}"))}]), r"asks for (posix|nt)\.system"),
    "call in a state": (pickle.dumps(EasyDict(x=_Call(os.system, f"touch {MARKER}"))), r"asks for (posix|nt)\.sys"),
    "foreign class": (pickle.dumps(io.BytesIO(b"x")), r"asks for _io\.BytesIO"),
    "unprintable name": (b"\x80\x04\x8c\x03a\nb\x8c\x02\x1b[\x93.", r"asks for a\?b\.\?\["),
    "old-style instance": (f"(S'touch {MARKER}'\nios\nsystem\n.".encode(), r"asks for os\.system"),
    "old-style network": (b"(idnnlib.tflib.network\nNetwork\n.", "old-style instance of dnnlib.tflib.network.Network"),
    "object": (b"(cos\nsystem\no.", r"asks for os\.system"),
    "object of the right class": (b"(cdnnlib.util\nEasyDict\no.", "the file uses OBJ"),
    "numpy loader": (b"\x80\x04cnumpy\nload\n\x8c\x01x\x85R.", r"asks for numpy\.load"),
    "extension": (b"\x80\x02\x82\x01.", r"damaged or not a network file|the file uses EXT1"),
    "persistent id": (b"\x80\x02\x8c\x01xQ.", "the file uses BINPERSID"),
    "out of band": (b"\x80\x05\x97.", "the file uses NEXT_BUFFER"),
    "frozen set": (pickle.dumps(frozenset({1, 2})), "the file uses FROZENSET"),
    "set of a set": (b"\x80\x02c__builtin__\nset\n(K\x01K\x02t\x85R.", "unexpected call of __builtin__.set"),
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
    "zip": (b"PK\x03\x04rest", r"not a network pickle but a zip archive \(perhaps a PyTorch checkpoint, or arrays in"),
    "safetensors": (b"\x40" + bytes(7) + b'{"a": {}}', r"a \.safetensors file: run_surgery\.py convert FILE net\.pkl"),
    "safetensors, pickle-like": (b"\x80\x02" + bytes(6) + b'{"a": {}}', r"a \.safetensors file: run_surgery\.py"),
    "safetensors, page-like": (b"\x20<" + bytes(6) + b'{"a": {}}', r"a \.safetensors file: run_surgery\.py"),
    "onnx": (b"\x08\x08\x12\x07pytorch", "an ONNX model, which holds no trainable network"),
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


# ---------------------------------------------------------------- PyTorch: tensors, storages, modules

_REBUILD = Name("torch._utils", "_rebuild_tensor_v2")
_LOAD = Name("torch.storage", "_load_from_bytes")
_MODULE = Name("torch_utils.persistence", "_reconstruct_persistent_obj")
_FOUR = Call(_LOAD, saved_storage(np.arange(4, dtype=np.float32)))


def _tensor(*args: Any) -> bytes:
    return dumps([Call(_REBUILD, *args)])


def _nested(data: bytes) -> bytes:
    """A storage whose bytes are `data`."""
    return dumps([Call(_REBUILD, Call(_LOAD, data), 0, (1,), (1,), False, OrderedDict())])


def _module(**changes: Any) -> bytes:
    meta = dict(type="class", version=6, module_src="raise 1", class_name="Generator", state={}) | changes
    return dumps(Call(_MODULE, EasyDict(meta)))


def _loop() -> bytes:
    module = Module("Generator")
    module.attributes["again"] = [module]
    return (
        b"\x80\x03ctorch_utils.persistence\n_reconstruct_persistent_obj\n}q\x00(X\x04\0\0\0typeX\x05\0\0\0class"
        b"X\x0a\0\0\0module_srcX\x00\0\0\0X\x0a\0\0\0class_nameX\x01\0\0\0GX\x05\0\0\0state}q\x01(X\x01\0\0\0xh\x01uu\x85R."
    )


def _shared(count: int) -> bytes:
    """One storage of a megabyte, as so many tensors."""
    block = Call(_LOAD, saved_storage(np.zeros(1 << 18, np.float32)))
    return dumps([Call(_REBUILD, block, 0, (1 << 18,), (1,), False, OrderedDict()) for _ in range(count)])


def _tiny_generator() -> dict[str, np.ndarray]:
    shapes = {"dlatent_avg": (2,), "G_mapping/Dense0/weight": (2, 2), "G_mapping/Dense0/bias": (2,),
              "G_synthesis/4x4/Const/const": (1, 2, 4, 4)}  # fmt: skip
    for scope, kernel in (("4x4/Conv", 3), ("4x4/ToRGB", 1), ("8x8/Conv0_up", 3), ("8x8/Conv1", 3), ("8x8/ToRGB", 1)):
        out = 3 if kernel == 1 else 2
        shapes |= {f"G_synthesis/{scope}/weight": (kernel, kernel, 2, out), f"G_synthesis/{scope}/bias": (out,),
                   f"G_synthesis/{scope}/mod_weight": (2, 2), f"G_synthesis/{scope}/mod_bias": (2,)}  # fmt: skip
    return {name: np.ones(shape, np.float32) for name, shape in shapes.items()}


def _generator(change: Any) -> bytes:
    module = generator(_tiny_generator())
    change(module)
    return dumps(dict(G_ema=module))


_ones = np.ones((2, 2), np.float32)

HOSTILE |= {
    "torch.load": (dumps(Call(Name("torch", "load"), "x")), r"this PyTorch file asks for torch\.load, which networks"),
    "torch.hub": (dumps(Call(Name("torch.hub", "load"), "x")), r"this PyTorch file asks for torch\.hub\.load"),
    "torch function": (dumps(Call(Name("torch._utils", "_import_dotted_name"), "os.system")), r"asks for torch\._ut"),
    "persistence helper": (dumps(Call(Name("torch_utils.persistence", "_src_to_module"), "import os")), "asks for tor"),
    "checkpoint in the outer pickle": (dumps(dict(a=Name("torch", "FloatStorage"))), r"asks for torch\.FloatStorage"),
    "tensor as data": (dumps([_REBUILD]), "refused: torch._utils._rebuild_tensor_v2 where data belongs"),
    "storage as data": (dumps([_FOUR]), "refused: something of type StorageRecord where data belongs"),
    "tensor of text": (_tensor("os.system", 0, (1,), (1,)), "a PyTorch tensor without its storage"),
    "tensor too few": (_tensor(_FOUR, 0), "a PyTorch tensor without its storage"),
    "tensor too large": (_tensor(_FOUR, 0, (1 << 40,), (1,)), r"a tensor of size \[1099511627776\].*does not fit"),
    "tensor of repeats": (_tensor(_FOUR, 0, (1 << 20, 1 << 20), (0, 0)), "does not fit its storage"),
    "tensor behind its end": (_tensor(_FOUR, 3, (2,), (1,)), "offset 3 does not fit its storage"),
    "tensor before its start": (_tensor(_FOUR, -1, (2,), (1,)), "a tensor with storage .*offset -1"),
    "tensor with negative stride": (_tensor(_FOUR, 3, (2,), (-1,)), "a tensor with storage"),
    "tensor with too many axes": (_tensor(_FOUR, 0, (1,) * 40, (1,) * 40), "a tensor with storage"),
    "tensor of floats as size": (_tensor(_FOUR, 0, (1.5,), (1,)), "a tensor with storage"),
    "one storage, many tensors": (_shared(40), "take far more memory than the file has bytes"),
    "parameter of a list": (dumps([Call(Name("torch._utils", "_rebuild_parameter"), [1], True, None)]), "not a tensor"),
    "storage of text": (dumps([Call(_LOAD, "text")]), "a PyTorch storage that is not made of bytes"),
    "storage, empty": (_nested(b""), "neither a zip archive nor the older layout of torch.save"),
    "storage, cut": (_nested(saved_storage(np.ones(9, np.float32))[:-3]), "it is cut short"),
    "storage, a zip archive": (_nested(b"PK\x03\x04" + b"x" * 99), "neither a zip archive nor the older layout"),
    "storage that calls": (_nested(pickle.dumps(_Call(os.system, f"touch {MARKER}"))), "older layout of torch"),
    "storage with a call behind its head": (
        _nested(dumps(0x1950A86A20F9469CFC6C, 2) + dumps(1001, 2) + pickle.dumps(_Call(os.system, f"touch {MARKER}"))),
        r"refers to (posix|nt)\.system, which is no tensor data",
    ),
    "module without a class": (_module(class_name=None), "a PyTorch module needs a class name, a source text and a st"),
    "module of another type": (_module(type="func"), "a PyTorch module without a description"),
    "module without arguments": (dumps(Call(_MODULE)), "a PyTorch module without a description"),
    "module with attributes set": (dumps(Call(_MODULE, EasyDict(type="class", state=1))), "needs a class name"),
    "module of itself": (_loop(), "data that contains itself"),
    "module without tensors": (_module(), r"no resolution, expected 8, 16, 32"),
    "generator without a tensor": (
        _generator(lambda g: g.at("synthesis.b4").parameters.pop("const")), "no tensor 'synthesis.b4.const'",
    ),
    "generator with a path for a name": (
        _generator(lambda g: g.add("mapping.fc0.../../x", _ones)), "damaged: the name of a variable of network 'Gs'",
    ),
    "generator of whole numbers": (
        _generator(lambda g: g.add("mapping.fc0.bias", np.ones(2, int))), "fc0.bias' is int64, expected fl",
    ),
    "generator with a wrong number of axes": (
        _generator(lambda g: g.add("mapping.fc0.weight", np.ones(2, np.float32))), r"has shape \[2\], expected 2 axes",
    ),
}  # fmt: skip


def main() -> None:
    """Writes the corpus into the directory that the command line names."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for number, (name, (data, _)) in enumerate(HOSTILE.items()):
        (directory / f"{number:02d}-{name.replace(' ', '-').replace(',', '')}.pkl").write_bytes(data)
    print(f"{len(HOSTILE)} files in {directory}")


if __name__ == "__main__":
    main()
