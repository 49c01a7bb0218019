"""A pickle interpreter that can only make data: numbers, text, containers, arrays, and records of networks.

Python's own unpickler calls what a file names. This one calls nothing: `instructions.py` decodes the file, and the
class below interprets what network files need. The few names such files refer to map to
fixed actions (`names.py`, `_call`); any other name ends the reading. No TensorFlow is loaded.
"""

import io
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

from dnnlib.snapshot.arrays import ArrayBudget, PickledArray, PickledDtype, PickleError, encode_latin1, make_scalar
from dnnlib.snapshot.instructions import Take, TooManyInstructions, instructions, take_from, take_outline
from dnnlib.snapshot.names import Global, describe, look_up
from dnnlib.snapshot.torch_records import TORCH_CALLS
from dnnlib.util import EasyDict

_MAX_INT_BITS = 128


class NetworkRecord:
    """What a file holds in place of a `Network`: the state dict that would have been given to it."""

    def __init__(self) -> None:
        self.state: dict[str, Any] | None = None


class PickledSet(list):
    """A set as the list of its members, which need not be hashed."""


_NEW: dict[str, Callable[[], Any]] = {"network": NetworkRecord, "easydict": EasyDict, "ordereddict": OrderedDict}

_PUSH_ARG = frozenset(
    ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
    + ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
    + ("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8")
)
_PUSH_NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": PickledSet,
}
_TUPLE_SIZE = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def interpret(data: bytes, kind_of_file: str = "network file") -> Any:
    """What a pickle of any protocol builds, with arrays and networks as the records of this package.

    Args:
        data: the whole file, uncompressed.
        kind_of_file: what it should be, for error texts.
    Raises:
        PickleError: damaged data, or anything that network files do not use. Memory stays in proportion to `len(data)`.
    """
    return _interpret(io.BytesIO(data), take_from(data), len(data), kind_of_file)


def outline(file: BinaryIO, size: int) -> Any:
    """`interpret` of a network file that is not read as a whole: arrays of more than 4096 bytes have their shape and
    type but no content, and take no memory.

    Args:
        file: seekable, at its start; size: its length in bytes.
    """
    return _interpret(file, take_outline(file), size, "network file", skip_text=True)


def _interpret(file: BinaryIO, take: Take, size: int, kind_of_file: str, skip_text: bool = False) -> Any:
    machine = _Machine(ArrayBudget(2 * size + (1 << 20)), kind_of_file)
    try:
        for name, arg, _ in instructions(file, take, skip_text):
            machine.step(name, arg)
    except TooManyInstructions as err:
        raise PickleError(f"refused: {err}") from err
    except (ValueError, OverflowError, struct.error, IndexError, KeyError, MemoryError) as err:
        # IndexError: an empty stack, KeyError: an unset memo entry; the others come from decoding an argument.
        reason = " ".join(str(err).split())[:120]
        raise PickleError(f"damaged or not a {kind_of_file} ({type(err).__name__}: {reason})") from err
    return machine.result


class _Machine:
    """Stack and memo of the interpreter."""

    def __init__(self, budget: ArrayBudget, kind_of_file: str) -> None:
        self.kind_of_file = kind_of_file
        self.stack: list[Any] = []
        self.below_marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.result: Any = None
        self.budget = budget

    def step(self, name: str, arg: Any) -> None:
        """Interprets one instruction."""
        if name in _PUSH_ARG:
            if isinstance(arg, int) and arg.bit_length() > _MAX_INT_BITS:
                raise PickleError(f"refused: an integer of {arg.bit_length()} bits")
            self.stack.append(arg)
        elif name in _PUSH_NEW:
            self.stack.append(_PUSH_NEW[name]())
        elif name in _TUPLE_SIZE:
            self.stack.append(tuple(self._pop_many(_TUPLE_SIZE[name])))
        else:
            handler = getattr(self, f"_op_{name.lower()}", None)
            if handler is None:
                raise PickleError(f"refused: the file uses {name}, which {self.kind_of_file}s do not")
            handler(arg)

    def _pop_many(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("the stack is too short")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def _pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below_marks.pop()
        return items

    # ---- stack, memo, framing

    def _op_proto(self, arg: int) -> None:
        if arg > 5:
            raise PickleError(f"pickle protocol {arg} is not known, expected at most 5")

    def _op_frame(self, arg: int) -> None:
        """Frames only help streaming."""

    def _op_stop(self, arg: None) -> None:
        self.result = self.stack.pop()
        if self.stack or self.below_marks:
            raise ValueError("values are left over at the end")

    def _op_mark(self, arg: None) -> None:
        self.below_marks.append(self.stack)
        self.stack = []

    def _op_pop(self, arg: None) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._pop_mark()

    def _op_pop_mark(self, arg: None) -> None:
        self._pop_mark()

    def _op_dup(self, arg: None) -> None:
        self.stack.append(self.stack[-1])

    def _op_put(self, arg: int) -> None:
        if arg >> 32:
            raise ValueError(f"stores something as number {arg}")
        self.memo[arg] = self.stack[-1]

    _op_binput = _op_long_binput = _op_put

    def _op_memoize(self, arg: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _op_get(self, arg: int) -> None:
        self.stack.append(self.memo[arg])

    _op_binget = _op_long_binget = _op_get

    # ---- containers

    def _op_list(self, arg: None) -> None:
        self._push_after_mark(list)

    def _op_tuple(self, arg: None) -> None:
        self._push_after_mark(tuple)

    def _push_after_mark(self, kind: type) -> None:
        items = self._pop_mark()
        self.stack.append(kind(items))

    def _op_dict(self, arg: None) -> None:
        items = self._pop_mark()
        self.stack.append({})
        self._set_items(items)

    def _op_append(self, arg: None) -> None:
        self._extend(self._pop_many(1))

    def _op_appends(self, arg: None) -> None:
        self._extend(self._pop_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError(f"append to {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(items)

    _op_additems = _op_appends

    def _op_setitem(self, arg: None) -> None:
        self._set_items(self._pop_many(2))

    def _op_setitems(self, arg: None) -> None:
        self._set_items(self._pop_mark())

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError(f"items set on {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Keys are hashed here, and the hash of nested tuples can be made to take for ever.
            if isinstance(key, memoryview):  # a copy, of what the file may name many times
                self.budget.spend(len(key))
                key = bytes(key)
            if not isinstance(key, (str, bytes, int, float, type(None))):
                raise PickleError(f"refused: a dictionary key of type {type(key).__name__}")
            # Any number of larger ones can have the same hash, and each is then compared with all before it.
            if isinstance(key, int) and abs(key) >> 60:
                raise PickleError("refused: a dictionary key of more than 60 bits")
            target[key] = value

    # ---- names, and what is made from them

    def _op_global(self, arg: str) -> None:
        module, _, name = arg.partition(" ")
        self.stack.append(look_up(module, name, self.kind_of_file))

    def _op_stack_global(self, arg: None) -> None:
        module, name = self._pop_many(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name that is not text")
        self.stack.append(look_up(module, name, self.kind_of_file))

    def _op_inst(self, arg: str) -> None:
        module, _, name = arg.partition(" ")
        look_up(module, name, self.kind_of_file)
        raise PickleError(f"refused: old-style instance of {module}.{name}")

    def _op_newobj(self, arg: None) -> None:
        cls, args = self._pop_many(2)
        self._new(cls, args)

    def _op_newobj_ex(self, arg: None) -> None:
        cls, args, kwargs = self._pop_many(3)
        if kwargs != {}:
            raise PickleError("refused: an object made with keyword arguments")
        self._new(cls, args)

    def _new(self, cls: Any, args: Any) -> None:
        if not isinstance(cls, Global) or cls.kind not in _NEW or args != ():
            raise PickleError(f"refused: a new object of {describe(cls)}")
        self.stack.append(_NEW[cls.kind]())

    def _op_reduce(self, arg: None) -> None:
        func, args = self._pop_many(2)
        if not isinstance(func, Global) or not isinstance(args, tuple):
            raise PickleError(f"refused: a call of {describe(func)}")
        self.stack.append(self._call(func, args))

    def _call(self, func: Global, args: tuple[Any, ...]) -> Any:
        kind = func.kind
        if kind == "reconstruct" and len(args) == 3:
            if isinstance(args[0], Global) and args[0].kind == "ndarray" and args[1] == (0,):
                return PickledArray(self.budget)
        elif kind == "dtype" and 1 <= len(args) <= 3:
            return PickledDtype(args[0])
        elif kind == "scalar" and len(args) == 2:
            return make_scalar(*args)
        elif kind == "frombuffer" and len(args) == 4:
            return PickledArray(self.budget).fill(args[2], args[1], args[3] == "F", args[0])
        elif kind == "encode" and len(args) == 2 and args[1] in ("latin1", "latin-1"):
            return encode_latin1(args[0], self.budget)
        elif kind == "bytes" and not args:
            return b""
        elif kind in ("easydict", "ordereddict") and not args:
            return _NEW[kind]()
        elif kind == "ordereddict" and len(args) == 1:
            return self._ordered_dict(args[0])
        elif kind == "set" and len(args) == 1 and isinstance(args[0], list):
            self.budget.spend(8 * len(args[0]))
            return PickledSet(args[0])
        elif kind in TORCH_CALLS:
            return TORCH_CALLS[kind](args, self.budget)
        raise PickleError(f"refused: an unexpected call of {func.name}")

    def _ordered_dict(self, pairs: Any) -> OrderedDict:
        """Python 2 gives an OrderedDict its items as a list of [key, value]."""
        if not isinstance(pairs, list) or not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in pairs):
            raise ValueError("a malformed OrderedDict")
        self.budget.spend(64 * len(pairs))
        self.stack.append(OrderedDict())
        self._set_items([item for pair in pairs for item in pair])
        return self.stack.pop()

    def _op_build(self, arg: None) -> None:
        (state,) = self._pop_many(1)
        target = self.stack[-1]
        if isinstance(target, NetworkRecord) and target.state is None:
            if not isinstance(state, dict):
                raise PickleError(f"a network's state is {type(state).__name__}, expected a dict")
            target.state = state
        elif isinstance(target, (PickledArray, PickledDtype)):
            target.set_state(state)
        elif not (isinstance(target, dict) and state in (None, {})):
            raise PickleError(f"refused: a state for {describe(target)}")
