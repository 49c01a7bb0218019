"""Names of images below their inputs, and finding images by the names that files of labels give them.

The paths of a list may be absolute, or start with `./`: what counts is where they lie below the folder that all of them
share.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterator, Mapping

import numpy as np

from training.item_table import ItemTable


class InnerNames:
    """Names below the inputs, made one by one: there may be millions.

    Args:
        lists: the folder that the paths of a list start from, by prefix of the input (`Listing.lists`).
    """

    def __init__(self, items: ItemTable, lists: Mapping[str, str]) -> None:
        self.items = items
        self._lists = lists
        self._shared: dict[str, str] = {}  # the folder that the images of a list share, by prefix of the input
        for index in range(len(items)) if lists else ():
            prefix = self.prefix(index)
            if prefix in lists:
                folder = os.path.dirname(self._absolute(prefix, items.inner_name(index)))
                shared = self._shared.setdefault(prefix, folder)
                if shared != folder:
                    self._shared[prefix] = os.path.commonpath((shared, folder))

    def prefix(self, index: int) -> str:
        """That of the input of an item."""
        return self.items[index].name.removesuffix(self.items.inner_name(index))

    def scope(self, index: int) -> str:
        """Prefix of the list that has the item; "" for what is on none."""
        prefix = self.prefix(index) if self._lists else ""
        return prefix if prefix in self._lists else ""

    @property
    def scopes(self) -> tuple[str, ...]:
        """Those that items have."""
        return tuple({"": None, **self._shared})

    def _absolute(self, prefix: str, name: str) -> str:
        return os.path.abspath(os.path.join(self._lists[prefix], name))

    def below(self, scope: str, name: str) -> str | None:
        """A path that a list may write as one below what the list's images share; None: it is not below that."""
        if scope not in self._shared:
            return None
        path, shared = self._absolute(scope, name), self._shared[scope].rstrip(os.sep) + os.sep
        return path[len(shared) :] if path.startswith(shared) else None

    def name(self, index: int) -> str:
        """Of one item."""
        inner = self.items.inner_name(index)
        return self.below(self.scope(index), inner) or inner if self._lists else inner

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[str]:
        return map(self.name, range(len(self)))


class Finder:
    """Finds items by name, in 16 bytes for each; remembers which were found.

    Args:
        items: without labels as yet.
        lists: see `InnerNames`.
        each_input: names belong to one input each, see `find`.
    Attributes:
        found: bool [N]. unknown, first_unknown: how many names that were used have no item, and the first of them.
    """

    def __init__(self, items: ItemTable, lists: Mapping[str, str], each_input: bool = False) -> None:
        self.items = items
        self._names = InnerNames(items, lists)
        self._each_input = each_input
        keys = np.fromiter(map(self._key_of, range(len(items))), np.uint64, len(items))
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        self.found = np.zeros(len(items), bool)
        self.unknown = 0
        self.first_unknown = ""

    def _key_of(self, index: int) -> int:
        scope = self._names.prefix(index) if self._each_input else self._names.scope(index)
        return _hash(self._names.name(index), scope)

    def find(self, name: str, prefix: str = "") -> np.ndarray:
        """Indices of the items of that name, perhaps none.

        Args:
            prefix: that of the input (`Listing.label_files`), if names belong to one each; else every input that has an
                item of that name gives one.
        """
        if self._each_input:
            return self._find(name, prefix)
        found = []
        for scope in self._names.scopes:
            written = self._names.below(scope, name)
            indices = self._find(written, scope) if written else ()
            found.append(indices if len(indices) else self._find(name, scope))
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _find(self, name: str, scope: str) -> np.ndarray:
        key = np.uint64(_hash(name, scope))
        low, high = np.searchsorted(self._keys, key, "left"), np.searchsorted(self._keys, key, "right")
        found = self._order[low:high]
        if len(found) > 1 and not name.isascii():  # names that differ only in how Unicode writes them
            exact = [self._names.name(int(index)) == name for index in found]
            found = found[exact] if any(exact) else found
        return found

    def use(self, name: str, prefix: str = "") -> np.ndarray:
        """As `find`, and keeps count."""
        indices = self.find(name, prefix)
        self.note(indices, prefix + name)
        return indices

    def note(self, indices: np.ndarray, name: str) -> None:
        """Keeps count of what `find` has given for a name."""
        if not len(indices):
            self.unknown += 1
            self.first_unknown = self.first_unknown or name
        self.found[indices] = True


def _hash(name: str, scope: str) -> int:
    # Some systems store letters and their accents apart, whatever was typed.
    normal = unicodedata.normalize("NFC", name.replace("\\", "/").removeprefix("./"))
    both = f"{scope}\0{normal}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(both, digest_size=8).digest(), "little")
