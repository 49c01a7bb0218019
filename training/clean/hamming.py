"""Looking up 64-bit hashes that differ by a few bits from a given one."""

from __future__ import annotations

from array import array
from collections import defaultdict

import numpy as np

MOST_BITS = 16  # beyond, the parts of a hash get so short that the index finds nearly everything
_MOST_PART = 13  # bits: every different part has arrays of its own, which must not outweigh what is in them


def popcount(values: np.ndarray) -> np.ndarray:
    """Number of bits set in each of uint64 [n], as uint64 [n]."""
    v = values - ((values >> np.uint64(1)) & np.uint64(0x5555555555555555))
    v = (v & np.uint64(0x3333333333333333)) + ((v >> np.uint64(2)) & np.uint64(0x3333333333333333))
    v = (v + (v >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (v * np.uint64(0x0101010101010101)) >> np.uint64(56)


class HammingIndex:
    """Finds stored hashes within `bits` bits of another.

    A hash is cut into bits + 1 parts. Two hashes that differ by at most `bits` bits agree in at least one part
    (pigeonhole principle), so only those that share a part (or its lowest bits, if it is long) are compared.
    """

    def __init__(self, bits: int) -> None:
        if not 0 <= bits <= MOST_BITS:
            raise ValueError(f"bits is {bits}, expected 0 to {MOST_BITS}")
        self.bits = bits
        edges = [round(64 * part / (bits + 1)) for part in range(bits + 2)]
        self._parts = [
            (low, (1 << min(high - low, _MOST_PART)) - 1) for low, high in zip(edges[:-1], edges[1:], strict=True)
        ]  # (shift, mask)
        self._values, self._keys = array("Q"), array("q")  # in the order in which they came
        self._with: list[dict[int, array]] = [defaultdict(lambda: array("I")) for _ in self._parts]  # positions

    def add(self, value: int, key: int) -> None:
        """Stores a hash (64 bits, unsigned) under a key (64 bits, signed)."""
        for (shift, mask), places in zip(self._parts, self._with, strict=True):
            places[(value >> shift) & mask].append(len(self._values))
        self._values.append(value)
        self._keys.append(key)

    def near(self, value: int) -> list[tuple[int, int]]:
        """(distance in bits, key) of every stored hash within `bits`, nearest first, then by key."""
        found: set[tuple[int, int]] = set()
        for (shift, mask), places in zip(self._parts, self._with, strict=True):
            part = (value >> shift) & mask
            if part not in places:
                continue
            positions = np.array(places[part], np.uint32)
            distances = popcount(np.frombuffer(self._values, np.uint64)[positions] ^ np.uint64(value))
            close = np.flatnonzero(distances <= self.bits)
            found.update((int(distances[i]), self._keys[positions[i]]) for i in close)
        return sorted(found)
