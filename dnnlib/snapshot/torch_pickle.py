"""The pickles inside PyTorch checkpoints, read by an interpreter that can only build data.

Python's own unpickler calls what a file names and writes into the attributes of what it is told to. This one knows 36
opcodes, four names that mean something (a dictionary, two ways of writing a tensor, a storage type) and no objects, so
that there is nothing in it that a file could reach. Whatever else a file asks for is refused by its name.
"""

from __future__ import annotations

import io
import pickletools
import reprlib
import warnings
from typing import Any, NamedTuple

import numpy as np

from dnnlib.util import UserError

MAX_PICKLE_BYTES = 64 << 20
_MAX_OPS = 1_000_000  # weights take some thousands
_SHORT = reprlib.Repr()  # a nest of references can be of any length when it is written out
_SHORT.maxlevel = 2

#: Storage types by their PyTorch names. bfloat16, which numpy has not, is read as integers and widened later.
STORAGE_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}

_ORDERED_DICT = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_NAMES = frozenset({_ORDERED_DICT, _TENSOR, _PARAMETER, *(f"torch.{name}" for name in STORAGE_DTYPES)})

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
# The last two are the text of Python 2.
_VALUES = frozenset(
    [
        "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINSTRING",
        "BINSTRING",
    ]
)  # fmt: skip


class Storage(NamedTuple):
    """Where numbers lie: the name of an entry of `STORAGE_DTYPES`, the key of the bytes, how many numbers."""

    kind: str
    key: str
    numel: int


class TensorRecord(NamedTuple):
    """A tensor as the pickle describes it, in elements. Not yet checked against the storage's bytes."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Name(NamedTuple):
    text: str


class _Mark:
    pass


_MARK = _Mark()


def read_pickle(stream: io.BytesIO) -> Any:
    """Interprets one pickle; the stream is left behind its end.

    Returns dicts, lists, tuples, strings, numbers, booleans, None and `TensorRecord`s. A container may occur twice or
    hold itself, as in any pickle.
    Raises `UserError` for anything that is not data, and `ValueError`, `IndexError`, `TypeError` or `KeyError` where
    the pickle is damaged.
    """
    start, machine = stream.tell(), _Machine()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of backslashes in damaged text
        for count, (opcode, arg, position) in enumerate(pickletools.genops(stream)):
            if count >= _MAX_OPS:
                raise UserError(f"its pickle has more than {_MAX_OPS} instructions; refused")
            if stream.tell() - start > MAX_PICKLE_BYTES:
                raise UserError(f"its pickle is longer than {MAX_PICKLE_BYTES} bytes")
            machine.step(opcode.name, arg, position)
    return machine.pop()


class _Machine:
    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value is expected")
        return value

    def _pop_to_mark(self) -> list[Any]:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:  # an empty stack raises IndexError
            at -= 1
            if at < 0:
                raise ValueError("a mark is missing")
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items

    def _top(self, kind: type) -> Any:
        value = self._stack[-1]
        if not isinstance(value, kind):
            raise ValueError(f"a {kind.__name__} is expected, found a {type(value).__name__}")
        return value

    def step(self, name: str, arg: Any, position: int) -> None:
        """Executes one opcode."""
        push, pop = self._stack.append, self.pop
        if name in ("PROTO", "FRAME", "STOP"):
            pass
        elif name in _CONSTANTS:
            push(_CONSTANTS[name])
        elif name in _VALUES:
            push(arg)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else arg] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            push(self._memo[arg])
        elif name == "MARK":
            push(_MARK)
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            push({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
        elif name == "TUPLE":
            push(tuple(self._pop_to_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            items = [pop() for _ in range(int(name[-1]))]
            push(tuple(reversed(items)))
        elif name in ("APPEND", "APPENDS"):
            items = [pop()] if name == "APPEND" else self._pop_to_mark()
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [pop(), pop()][::-1] if name == "SETITEM" else self._pop_to_mark()
            target = self._top(dict)
            for key, value in zip(items[::2], items[1::2], strict=True):
                # Keys are hashed, and the hash of nested tuples can be made to take for ever.
                if not isinstance(key, (str, int, float, type(None))):
                    raise UserError(f"it has a dictionary key of type {type(key).__name__}; refused")
                target[key] = value
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            parts = arg.split(" ", 1) if name == "GLOBAL" else [pop(), pop()][::-1]
            push(_name(".".join(parts)))
        elif name == "REDUCE":
            args, function = pop(), pop()
            push(_call(function, args))
        elif name == "BUILD":
            # The attributes of a state dict (`_metadata`: versions of modules) say nothing about tensors.
            pop()
            self._top(dict)
        elif name == "BINPERSID":
            push(_storage(pop()))
        else:
            raise UserError(f"its pickle has the opcode {name} at byte {position}; refused")


def _name(text: str) -> _Name:
    if text not in _NAMES:
        raise UserError(f"it refers to {text}, which is no tensor data; refused")
    return _Name(text)


def _call(function: Any, args: Any) -> Any:
    name = function.text if isinstance(function, _Name) else f"a {type(function).__name__}"
    if name == _ORDERED_DICT and args == ():
        return {}
    if name == _ORDERED_DICT and isinstance(args, tuple) and len(args) == 1 and _are_pairs(args[0]):
        return dict(args[0])
    if name == _TENSOR and isinstance(args, tuple) and len(args) >= 4:
        return make_tensor(*args[:4])
    if name == _PARAMETER and isinstance(args, tuple) and args and isinstance(args[0], TensorRecord):
        return args[0]
    raise UserError(f"it calls {name} with arguments that no tensor has: {shorten(args):.80}; refused")


def _are_pairs(value: Any) -> bool:
    """Whether it is [[name, item], ...], the content of a dictionary as Python 2 writes it."""
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in value
    )


def shorten(value: Any) -> str:
    """A value from a file as text for a message, deep parts left out."""
    return _SHORT.repr(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def make_tensor(storage: Any, offset: Any, size: Any, stride: Any) -> TensorRecord:
    """The record of a tensor, counted in elements. Raises `UserError` for arguments that no tensor has."""
    shaped = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= 32
    if not isinstance(storage, Storage) or not shaped or not all(map(_is_count, (offset, *size, *stride))):
        parts = f"storage {shorten(storage):.60}, offset {shorten(offset):.20}, size {shorten(size):.60}"
        raise UserError(f"it has a tensor with {parts}")
    return TensorRecord(storage, offset, size, stride)


def _storage(pid: Any) -> Storage:
    if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage"):
        raise UserError(
            f"it has the persistent id {shorten(pid):.80}; expected ('storage', type, key, location, count)"
        )
    _, kind, key, _location, numel = pid[:5]
    kind = kind.text.removeprefix("torch.") if isinstance(kind, _Name) else None
    if kind not in STORAGE_DTYPES or not isinstance(key, str) or not _is_count(numel):
        raise UserError(f"it has the persistent id {shorten(pid):.80} with a bad type, key or count")
    if pid[5:] not in ((), (None,)):
        raise UserError(f"storage {key!r} is a view of another one, a form that PyTorch has not written since 0.4")
    return Storage(kind, key, numel)
