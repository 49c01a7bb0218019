"""Images with the same pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

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

    def decide(self, names: Sequence[str], measures: Sequence[bytes]) -> list[Verdict]:
        """The first of each group stays. Score: 0 for copies, none for the others."""
        first: dict[bytes, int] = {}
        verdicts = []
        for index, digest in enumerate(measures):
            twin = first.setdefault(digest, index)
            if twin == index:
                verdicts.append(Verdict(True, float("nan")))
            else:
                verdicts.append(Verdict(False, 0.0, f"same pixels as {names[twin]}", twin))
        return verdicts
