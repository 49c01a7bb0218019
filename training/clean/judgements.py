"""What filters think of a great many images, on the disk: eight bytes of memory for each image."""

from __future__ import annotations

import json
import tempfile
import weakref
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

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


class BlobFile(Sequence[bytes]):
    """Pieces of bytes in a temporary file that has no name. A piece that is replaced leaves a hole."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=1 << 16)  # noqa: SIM115 (closed with the object)
        weakref.finalize(self, self._file.close)
        self._starts = array("q")
        self._end = 0
        self._writing = True

    def __len__(self) -> int:
        return len(self._starts)

    def append(self, data: bytes) -> None:
        """Adds a piece at the end."""
        self._starts.append(self._put(data))

    def __setitem__(self, index: int, data: bytes) -> None:
        self._starts[index] = self._put(data)

    def _put(self, data: bytes) -> int:
        if not self._writing:
            self._file.seek(self._end)
            self._writing = True
        start = self._end
        self._end += self._file.write(len(data).to_bytes(4, "little") + data)
        return start

    def __getitem__(self, index: int) -> bytes:
        self._writing = False
        self._file.seek(self._starts[index])  # what is buffered is written first
        return self._file.read(int.from_bytes(self._file.read(4), "little"))


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
        _, verdicts, unreadable = self[index]
        self._rows[index] = _packed([*verdicts[:place], verdict, *verdicts[place + 1 :]], unreadable)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Judgement:
        if not 0 <= index < len(self):
            raise IndexError(index)
        verdicts, unreadable = json.loads(self._rows[index])
        return Judgement(
            self.items[index], tuple(None if one is None else Verdict(*one) for one in verdicts), unreadable
        )

    def __iter__(self) -> Iterator[Judgement]:
        return map(self.__getitem__, range(len(self)))


def _packed(verdicts: Sequence[Verdict | None], unreadable: str) -> bytes:
    # Booleans and numbers may come from NumPy.
    rows = [one and (bool(one.keep), float(one.score), one.reason, one.twin) for one in verdicts]
    return json.dumps((rows, unreadable)).encode("ascii")
