"""Lists of a million names in little memory: text end to end in one buffer, numbers in arrays, objects on demand."""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from training.blob_file import BlobFile
from training.dataset_items import Item, Part
from training.dataset_labels import give_back, rows_per_part, scattered_rows, select_labels

_LENGTH = struct.Struct("<I")  # before a name


def _to_bytes(text: str) -> bytes:
    """Any text: names of files that are not UTF-8 hold lone surrogates, and those of archives may hold others."""
    return text.encode("utf-8", "surrogatepass")


def _to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


class NameTable(Sequence[str]):
    """A sequence of names, of any text, that can only grow."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._ends = array("q")

    def append_name(self, name: str) -> None:
        """Adds a name at the end."""
        self._text += _to_bytes(name)
        self._ends.append(len(self._text))

    def name(self, index: int) -> str:
        """One of the names; index >= 0."""
        start = self._ends[index - 1] if index else 0
        return _to_text(bytes(self._text[start : self._ends[index]]))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        return self.name(index)


class Reasons(Sequence[tuple[str, str]]):
    """(name, reason) of files that are left out, on the disk: a reason may name another file, and all be different."""

    def __init__(self) -> None:
        self._rows: BlobFile | None = None  # most collections have none

    def append(self, name: str, reason: str) -> None:
        """Adds one at the end."""
        if self._rows is None:
            self._rows = BlobFile()
        first = _to_bytes(name)
        self._rows.append(_LENGTH.pack(len(first)) + first + _to_bytes(reason))

    def __len__(self) -> int:
        return 0 if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> tuple[str, str]:
        if self._rows is None:
            raise IndexError(index)
        row = self._rows[index]
        end = _LENGTH.size + _LENGTH.unpack_from(row)[0]
        return _to_text(row[_LENGTH.size : end]), _to_text(row[end:])

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return map(self.__getitem__, range(len(self)))


class Marked:
    """Which of N things have a reason against them, 17 bytes of memory each; the reasons are on the disk.

    Attributes:
        mask: bool [N].
    """

    def __init__(self, count: int) -> None:
        self.mask = np.zeros(count, bool)
        self._indices = array("q")
        self._reasons: BlobFile | None = None

    def add(self, index: int, reason: str) -> None:
        """Marks one, unless it is already: the first reason stays."""
        if self.mask[index]:
            return
        if self._reasons is None:
            self._reasons = BlobFile()
        self.mask[index] = True
        self._indices.append(index)
        self._reasons.append(_to_bytes(reason))

    def __len__(self) -> int:
        return len(self._indices)

    def __contains__(self, index: int) -> bool:
        return bool(self.mask[index])

    def items(self) -> Iterator[tuple[int, str]]:
        """(index, reason) of those marked, by ascending index."""
        for place in np.argsort(np.array(self._indices, np.int64)).tolist():
            yield self._indices[place], _to_text(self._reasons[place])


class Dropped(NamedTuple):
    """Some items of a sequence: their positions, ascending, and as many names and reasons."""

    positions: Sequence[int]
    reasons: Reasons


class ItemTable(Sequence[Item]):
    """A sequence of items. Each belongs to a place: a folder or an archive.

    Attributes:
        labels: int [N] or float32 [N, label_size], None: no labels. To be set when the table is complete.
    """

    def __init__(self) -> None:
        self._names = NameTable()  # below their places
        self._places: list[tuple[str, str, bool]] = []  # (prefix of names, path, whether it is an archive)
        self._place_of = array("i")
        self._parts = {key: array("q") for key in ("start", "size", "method", "full_size", "crc")}
        self._part_of = array("i")
        self.labels: np.ndarray | None = None
        self._near, self._stretches = -1, 0  # where the last vector lay; stretches of the file that were gone to

    def add_place(self, prefix: str, path: str, archive: bool) -> None:
        """Items added from now on have names that begin with `prefix`, and are in this folder or archive."""
        self._places.append((prefix, path, archive))

    def append(self, name: str, part: Part | None = None) -> None:
        """Adds an item at the end; `name` is a path relative to the folder, or any name in an archive."""
        self._names.append_name(name)
        self._place_of.append(len(self._places) - 1)
        if part is None and not self._part_of:
            return
        while len(self._part_of) < len(self._names) - 1:  # the items before had none
            self._part_of.append(-1)
        self._part_of.append(-1 if part is None else len(self._parts["start"]))
        if part is not None:
            for key, values in self._parts.items():
                value = getattr(part, key)
                values.append(-1 if value is None else value)

    def __len__(self) -> int:
        return len(self._names)

    def inner_name(self, index: int) -> str:
        """The name of an item below its place."""
        return self._names.name(index)

    @property
    def inner_names(self) -> NameTable:
        """The names of all items below their places."""
        return self._names

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        prefix, path, archive = self._places[self._place_of[index]]
        inner = self._names.name(index)
        label = -1
        if self.labels is not None:
            label = self._label(index)
        part = None
        if archive:
            row = self._part_of[index]
            values = {key: column[row] for key, column in self._parts.items()}
            part = Part(**{**values, "crc": None if values["crc"] < 0 else values["crc"]})
        return Item(prefix + inner, path if archive else os.path.join(path, inner), label, part)

    def _label(self, index: int) -> int | np.ndarray:
        if self.labels.ndim == 1:
            return int(self.labels[index])
        near = index // rows_per_part(self.labels.shape[1])  # in order, few steps lead elsewhere
        if near != self._near:
            self._near, self._stretches = near, self._stretches + 1
            if not self._stretches % scattered_rows(self.labels.shape[1]):
                give_back(self.labels)
        return np.array(self.labels[index])

    def select(self, indices: Sequence[int]) -> ItemTable:
        """A table of some of the items, in the order of the indices."""
        result = ItemTable()
        result._places = self._places
        result._parts = self._parts
        for index in indices:
            result._names.append_name(self._names.name(index))
            result._place_of.append(self._place_of[index])
            if self._part_of:
                result._part_of.append(self._part_of[index] if index < len(self._part_of) else -1)
        if self.labels is not None:
            result.labels = select_labels(self.labels, np.asarray(indices, np.int64))
        return result
