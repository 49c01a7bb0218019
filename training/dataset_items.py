"""What a conversion is made of: named images that are somewhere, with labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Part:
    """Where in an archive file the bytes of a member are."""

    start: int  # of the compressed bytes
    size: int  # of the compressed bytes
    method: int = 0  # of compression, with the numbers of zip; 0: none
    full_size: int = -1  # of the member, -1: `size`
    crc: int | None = None  # CRC-32 of the member


@dataclass(frozen=True)
class Item:
    """One image to convert."""

    name: str  # shown in messages, unique
    path: str  # a file, or the archive that holds `part`
    label: int | np.ndarray = -1  # class, -1: none; or a vector, float32 [label_size]
    part: Part | None = None


@dataclass(frozen=True)
class StoredFile:
    """An image file that can be taken over as it is.

    data: its bytes. pixels: uint8 [C, H, W], what a reader makes of them.
    """

    data: bytes
    pixels: np.ndarray


def printable(name: str) -> str:
    """A name as one line of text that any terminal shows: control and undecodable characters are escaped."""
    plain = "".join(c if c.isprintable() or c == "\u200d" else c.encode("unicode_escape").decode() for c in name)
    return plain.encode("utf-8", "backslashreplace").decode()


def counted(number: int, thing: str) -> str:
    """`1 file` or `2 files`, for things whose plural has an s."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
