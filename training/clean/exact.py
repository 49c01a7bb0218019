"""Images with the same pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from training.clean.picture import Picture
from training.clean.verdicts import SetFilter, Verdict


@dataclass(frozen=True)
class ExactDuplicates(SetFilter):
    """Drops images whose decoded pixels equal an earlier one's, whatever their files look like."""

    name: ClassVar[str] = "duplicate"
    high_is_bad: ClassVar[bool] = False

    @property
    def criterion(self) -> str:
        """See `Filter`."""
        return "same pixels as another image"

    def measure(self, picture: Picture) -> bytes:
        """16 bytes of hash of size and pixels."""
        digest = hashlib.blake2b(repr(picture.pixels.shape).encode(), digest_size=16)
        digest.update(picture.pixels)
        return digest.digest()

    def pack(self, measured: bytes) -> bytes:
        """See `SetFilter`."""
        return measured

    def unpack(self, data: bytes) -> bytes:
        """See `SetFilter`."""
        return data

    def decide(self, names: Sequence[str], measures: Sequence[bytes]) -> Iterator[tuple[int, Verdict]]:
        """The first of each group stays. Score: 0 for copies, none for the others."""
        digests = np.empty((len(measures), 2), "<u8")
        for index, measured in enumerate(measures):
            digests[index] = np.frombuffer(measured, "<u8")
        order = np.lexsort(digests.T)  # stable: of equal ones the first is the first
        begins = np.ones(len(order), bool)
        begins[1:] = (digests[order[1:]] != digests[order[:-1]]).any(1)
        twins = np.empty(len(order), np.int64)
        twins[order] = order[begins][np.cumsum(begins) - 1]
        for index in map(int, np.flatnonzero(twins != np.arange(len(order)))):
            twin = int(twins[index])
            yield index, Verdict(False, 0.0, f"same pixels as {names[twin]}", twin)
