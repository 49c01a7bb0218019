"""What a pickle asks for, without reading it: the names it refers to, and the program text that it carries."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from dnnlib.snapshot.instructions import TooManyInstructions, instructions, take_outline
from dnnlib.snapshot.names import is_known

_MOST_NAMES, _LONGEST_PART = 10_000, 100  # of the names that are asked for; each may be made of long texts
_SOURCE_KEYS = ("build_module_src", "module_src")
_TEXT = frozenset(
    ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
)
# Python executes bytes as well as text.
_BYTES = frozenset(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"))
_PUT, _GET = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), ("GET", "BINGET", "LONG_BINGET")


@dataclass
class Scan:
    """protocol: of the pickle; names: dotted name -> how often it is asked for, of the first 10,000 different ones,
    long ones cut; sources: program texts as keys, each once; damage: why the end was not reached, None if it was.
    """

    protocol: int = 0
    names: Counter[str] = field(default_factory=Counter)
    sources: dict[str, None] = field(default_factory=dict)
    damage: str | None = None

    @property
    def foreign(self) -> list[str]:
        """Names that network files have no use for, in the order of the file."""
        return [name for name in self.names if not is_known(*name.rpartition(".")[::2])]


def scan_pickle(file: BinaryIO) -> Scan:
    """Goes through the instructions of a pickle, from where the file is, interpreting none and reading no weights."""
    scan, texts, memo = Scan(), [None, None], {}
    try:
        for name, arg, _ in instructions(file, take_outline(file), skip_text=True):
            _look(scan, name, arg, texts, memo)
    except (ValueError, OverflowError, struct.error, IndexError, MemoryError, TooManyInstructions) as err:
        scan.damage = " ".join(str(err).split())[:120]
    return scan


def _look(scan: Scan, op: str, arg: Any, texts: list[Any], memo: dict[int, Any]) -> None:
    if op in _TEXT or op in _GET or op in _BYTES:
        text = memo.get(arg) if op in _GET else arg
        if texts[-1] in _SOURCE_KEYS and text is not None:
            scan.sources.setdefault(_as_text(text))
        texts[:] = [texts[-1], text]  # the two last values, as far as they are text: a name and its module
    elif op in _PUT:
        # MEMOIZE numbers what it stores; what is no text is stored too, to keep count.
        number = len(memo) if op == "MEMOIZE" else arg
        if number >> 32:
            raise ValueError(f"stores something as number {number}")
        memo[number] = texts[-1]
    elif op == "PROTO":
        scan.protocol = arg
    elif op in ("GLOBAL", "INST"):
        _count_name(scan, *arg.partition(" ")[::2])
        texts[:] = [None, None]
    elif op == "STACK_GLOBAL":
        _count_name(scan, *(text if isinstance(text, str) else "?" for text in texts))
        texts[:] = [None, None]
    elif op != "FRAME":
        texts[:] = [texts[-1], None]


def _as_text(value: Any) -> str:
    """Text, and bytes as text; of bytes that are not read, how many they are."""
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _count_name(scan: Scan, *parts: str) -> None:
    name = ".".join(part if len(part) <= _LONGEST_PART else f"{part[:_LONGEST_PART]}..." for part in parts)
    if name in scan.names or len(scan.names) < _MOST_NAMES:
        scan.names[name] += 1
