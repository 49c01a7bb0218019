"""What filters think of a great many images, on the disk: eight bytes of memory for each image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from training.blob_file import BlobFile
from training.clean.verdicts import Verdict
from training.dataset_items import Item


class Judgement(NamedTuple):
    """What all filters think of one image."""

    item: Item
    verdicts: tuple[Verdict | None, ...]  # one per filter; None: not asked, an earlier filter dropped the image
    unreadable: str = ""  # why the file cannot be decoded

    @property
    def keep(self) -> bool:
        """Whether no filter drops it."""
        return not self.unreadable and all(verdict is None or verdict.keep for verdict in self.verdicts)

    @property
    def reason(self) -> str:
        """Why it is dropped: all reasons, the first filter's first."""
        reasons = [verdict.reason for verdict in self.verdicts if verdict is not None and not verdict.keep]
        return self.unreadable or "; ".join(reasons)


class Chosen(Sequence):
    """Some elements of a sequence, in an order of their own, taken from it when asked for."""

    def __init__(self, whole: Sequence, indices: Sequence[int]) -> None:
        self._whole, self._indices = whole, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> object:
        return self._whole[self._indices[index]]


class Names(Sequence[str]):
    """The names of items."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> str:
        return self._items[index].name


class Judgements(Sequence[Judgement]):
    """The judgements of all items, in order. The verdicts stand in a `BlobFile`.

    Attributes:
        items: what is judged.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self._rows = BlobFile()

    def append(self, verdicts: Sequence[Verdict | None], unreadable: str = "") -> None:
        """The judgement of the next item."""
        self._rows.append(_packed(verdicts, unreadable))

    def set_verdict(self, index: int, place: int, verdict: Verdict) -> None:
        """Replaces what the filter at `place` thinks of an image."""
        verdicts, unreadable = _unpacked(self._rows[index])
        self._rows[index] = _packed([*verdicts[:place], verdict, *verdicts[place + 1 :]], unreadable)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Judgement:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return Judgement(self.items[index], *_unpacked(self._rows[index]))

    def __iter__(self) -> Iterator[Judgement]:
        return map(self.__getitem__, range(len(self)))

    def all_verdicts(self) -> Iterator[tuple[tuple[Verdict | None, ...], str]]:
        """(verdicts, unreadable) of all judgements, for whoever does not ask for the items."""
        return map(_unpacked, map(self._rows.__getitem__, range(len(self))))


def _unpacked(row: bytes) -> tuple[tuple[Verdict | None, ...], str]:
    verdicts, unreadable = json.loads(row.decode("ascii"))  # of bytes, json would guess the encoding each time
    return tuple(None if one is None else Verdict(*one) for one in verdicts), unreadable


def _packed(verdicts: Sequence[Verdict | None], unreadable: str) -> bytes:
    # Booleans and numbers may come from NumPy.
    rows = [one and (bool(one.keep), float(one.score), one.reason, one.twin) for one in verdicts]
    return json.dumps((rows, unreadable)).encode("ascii")
