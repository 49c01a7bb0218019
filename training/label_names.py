"""Finding images by the names that files of labels give them."""

from __future__ import annotations

import hashlib

import numpy as np

from training.item_table import ItemTable


class Finder:
    """Finds items by name, in 16 bytes for each; remembers which were found.

    Args:
        items: without labels as yet.
        each_input: names belong to one input each, see `find`.
    Attributes:
        found: bool [N]. unknown, first_unknown: how many names that were used have no item, and the first of them.
    """

    def __init__(self, items: ItemTable, each_input: bool = False) -> None:
        self.items = items
        self._each_input = each_input
        keys = np.fromiter(map(self._key_of, range(len(items))), np.uint64, len(items))
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        self.found = np.zeros(len(items), bool)
        self.unknown = 0
        self.first_unknown = ""

    def _key_of(self, index: int) -> int:
        inner = self.items.inner_name(index)
        return _hash(inner, self.items[index].name.removesuffix(inner) if self._each_input else "")

    def find(self, name: str, prefix: str = "") -> np.ndarray:
        """Indices of the items of that name, perhaps none.

        Args:
            prefix: that of the input (`Listing.label_files`), if the names belong to one; else every input that has an
                item of that name gives one.
        """
        key = np.uint64(_hash(name, prefix))
        low, high = np.searchsorted(self._keys, key, "left"), np.searchsorted(self._keys, key, "right")
        return self._order[low:high]

    def use(self, name: str, prefix: str = "") -> np.ndarray:
        """As `find`, and keeps count."""
        indices = self.find(name, prefix)
        if not len(indices):
            self.unknown += 1
            self.first_unknown = self.first_unknown or prefix + name
        self.found[indices] = True
        return indices


def _hash(name: str, prefix: str) -> int:
    normal = name.replace("\\", "/").removeprefix("./")
    both = f"{prefix}\0{normal}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(both, digest_size=8).digest(), "little")
