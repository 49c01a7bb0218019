"""Labels in `dataset.json`: {"labels": [[file, label], ...] or null}, perhaps with "class_names"."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Any, BinaryIO

import ijson

from dnnlib.util import UserError
from training.archives import open_item
from training.dataset_items import Item, printable

_EXPECTED = 'expected {"labels": [[file, label], ...]}'


def has_labels(item: Item) -> bool:
    """Whether a file has any that could be used."""
    try:
        return next(json_rows(item), None) is not None
    except UserError:
        return False


def json_class_names(item: Item) -> tuple[str, ...]:
    """The names of the classes, () if the file has none.

    Raises:
        UserError: unreadable.
    """
    try:
        with _open_json(item) as file:
            return tuple(printable(str(name)) for name in ijson.items(file, "class_names.item"))
    except (OSError, ijson.JSONError, UnicodeError) as err:
        raise UserError(f"{item.name}: {_EXPECTED}, found {' '.join(str(err).split())[:100]}") from err


def _open_json(item: Item) -> BinaryIO:
    """A file of JSON behind its byte order mark, if it has one."""
    try:
        file = open_item(item)
    except UserError as err:
        raise UserError(f"{item.name}: {err}; repair it, or give labels with --labels-file") from err
    if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        file.seek(0)
    return file


def json_rows(item: Item) -> Iterator[tuple[str, Any]]:
    """(file, label) of `{"labels": [[file, label], ...]}`, one by one: the file may be larger than the memory."""
    try:
        with _open_json(item) as file:
            kind = next((event for prefix, event, _ in ijson.parse(file) if prefix == "labels"), "no such key")
        if kind == "no such key":
            raise UserError(f"{item.name}: {_EXPECTED}, found {kind}")
        empty = True
        if kind == "start_array":
            with _open_json(item) as file:
                for entry in ijson.items(file, "labels.item", use_float=True):
                    if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
                        raise UserError(f"{item.name}: found {str(entry)[:60]}, expected [file, label]")
                    empty = False
                    yield entry[0], entry[1]
        if empty:
            what = "null" if kind == "null" else "empty or no list"
            raise UserError(f'{item.name}: "labels" is {what}, it has no labels')
    except OSError as err:
        raise UserError(f"cannot read {item.name}: {err.strerror or err}") from err
    except (ijson.JSONError, UnicodeError) as err:
        raise UserError(f"{item.name}: {_EXPECTED}, found {' '.join(str(err).split())[:100]}") from err
