"""Arrays of a pickle, made from checked parts: no object arrays, no more memory than the file has bytes for."""

import math
import re
from typing import Any

import numpy as np

from dnnlib.snapshot.instructions import Payload
from dnnlib.util import UserError

_DTYPE_NAME = re.compile(r"[<>=|]?(f[248]|[iu][1248]|b1)")
_MAX_DIMS = 16


def printable(text: str) -> str:
    """A text that may hold what a file says, line ends and terminal codes included, with question marks for these."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


class PickleError(UserError):
    """What is wrong with a pickle, in one line without the file's name."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


class ArrayBudget:
    """Bytes that arrays may still take. A file can name one block of bytes many times; this bounds what it becomes."""

    def __init__(self, left: int) -> None:
        self._left = left

    def spend(self, count: int) -> None:
        """Takes `count` bytes; raises PickleError if that is more than is left."""
        self._left -= count
        if self._left < 0:
            raise PickleError("refused: its arrays take far more memory than the file has bytes")


class PickledDtype:
    """A number type under construction; `value` is the numpy dtype."""

    def __init__(self, name: Any) -> None:
        if not isinstance(name, str) or not _DTYPE_NAME.fullmatch(name):
            shown = name[:40] if isinstance(name, str) else type(name).__name__
            raise PickleError(f"refused: an array of type {shown!r}, expected plain numbers")
        self.value = np.dtype(name)

    def set_state(self, state: Any) -> None:
        """Takes numpy's state tuple: (version, byte order, no subarray, no names, no fields, ...)."""
        if not isinstance(state, tuple) or not 5 <= len(state) <= 9 or any(part is not None for part in state[2:5]):
            raise PickleError("refused: a structured array type")
        if state[1] not in ("<", ">", "=", "|"):
            raise PickleError("damaged: byte order of an array type")
        self.value = self.value.newbyteorder(state[1])


class PickledArray:
    """An array under construction."""

    def __init__(self, budget: ArrayBudget) -> None:
        self._budget = budget
        self._value: np.ndarray | None = None

    @classmethod
    def of(cls, value: np.ndarray, budget: ArrayBudget, stored: int) -> "PickledArray":
        """A finished one, of `stored` bytes in the file."""
        budget.spend(stored)
        made = cls(budget)
        made._value = value
        return made

    def set_state(self, state: Any) -> None:
        """Takes numpy's state tuple: ([version,] shape, dtype, is Fortran order, raw bytes)."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise PickleError("damaged: state of an array")
        self.fill(*state[-4:])

    def fill(self, shape: Any, dtype: Any, fortran: Any, raw: Any) -> "PickledArray":
        """Sets shape, type and content; raises PickleError unless they agree."""
        if self._value is not None:
            raise PickleError("refused: an array is filled twice")
        if not isinstance(dtype, PickledDtype):
            raise PickleError("damaged: type of an array")
        if not isinstance(shape, tuple) or len(shape) > _MAX_DIMS or not all(_is_size(n) for n in shape):
            raise PickleError("damaged: shape of an array")
        if isinstance(raw, str):
            raw = encode_latin1(raw, self._budget)  # text of Python 2
        if not isinstance(raw, (bytes, memoryview, Payload)):
            raise PickleError("refused: an array that is not made of numbers")
        expected = math.prod(shape) * dtype.value.itemsize
        if len(raw) != expected:
            raise PickleError(f"damaged: an array of shape {list(shape)} needs {expected} bytes, found {len(raw)}")
        self._budget.spend(expected)
        if isinstance(raw, Payload):
            self._value = without_content(shape, dtype.value)
            return self
        value = np.frombuffer(raw, dtype.value).reshape(shape, order="F" if fortran else "C")
        self._value = np.array(value, dtype=np.dtype(value.dtype.type), order="C")
        return self

    def finish(self) -> np.ndarray:
        """The array: native byte order, C order; writable unless it is `without_content`."""
        if self._value is None:
            raise PickleError("damaged: an array without content")
        return self._value


def without_content(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros in the native byte order that take no memory and cannot be written to: shape and type alone count."""
    return np.broadcast_to(np.zeros((), dtype.newbyteorder("=")), shape)


def _is_size(n: Any) -> bool:
    return isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 31


def encode_latin1(text: Any, budget: ArrayBudget) -> bytes | Payload:
    """Bytes from text that stands for them, one character each. What is not read stays so."""
    if isinstance(text, Payload):
        return text
    if not isinstance(text, str):
        raise PickleError(f"damaged: bytes written as {type(text).__name__}")
    budget.spend(len(text))
    try:
        return text.encode("latin1")
    except UnicodeEncodeError as err:
        raise PickleError("damaged: text that does not stand for bytes") from err


def make_scalar(dtype: Any, raw: Any) -> np.generic:
    """A numpy number from its type and bytes."""
    if isinstance(raw, str):
        raw = encode_latin1(raw, ArrayBudget(16))
    if (
        not isinstance(dtype, PickledDtype)
        or not isinstance(raw, (bytes, memoryview))
        or len(raw) != dtype.value.itemsize
    ):
        raise PickleError("damaged: a numpy number")
    return np.frombuffer(raw, dtype.value).astype(dtype.value.newbyteorder("="))[0]
