"""Labels in `dataset.json`: {"labels": [[file, label], ...] or null}, perhaps with "class_names"."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import ijson

from dnnlib.util import UserError
from training.archives import open_item
from training.dataset_items import Item, printable

NUMBERS = {"use_float": True}  # the decoder crashes at whole numbers of thousands of digits without it
_SHOWN = 60  # characters
_EXPECTED = 'expected {"labels": [[file, label], ...]}'


def has_labels(item: Item) -> bool:
    """Whether a file has any that could be used."""
    try:
        return next(json_rows(item), None) is not None
    except UserError:
        return False


def common_class_names(sources: Iterable[Item], most: int) -> tuple[str, ...]:
    """The names of classes, () if no file has some.

    Raises:
        UserError: a file has one twice, or more than `most`; files have different ones, so that a number means
            different things.
    """
    found = {names: item.name for item in sources if (names := _class_names(item))}
    for names, where in found.items():
        if len(names) > most:
            raise UserError(f"{where}: {len(names)} class_names, expected at most {most}")
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            raise UserError(f"{where}: class_names has {twice!r} twice, expected different names")
    if len(found) > 1:
        one, other, *_ = found.values()
        raise UserError(
            f"{one} and {other} have different class_names, which would be mixed; make them equal, or give one "
            f"file for all with --labels-file"
        )
    return next(iter(found), ())


def _class_names(item: Item) -> tuple[str, ...]:
    """The names of the classes, () if the file has none.

    Raises:
        UserError: unreadable, or one of them is neither text nor a number.
    """
    try:
        with _open_json(item) as file:
            return tuple(_class_name(item, name) for name in ijson.items(file, "class_names.item", **NUMBERS))
    except (OSError, ijson.JSONError, UnicodeError) as err:
        raise UserError(f"{item.name}: {_EXPECTED}, found {' '.join(str(err).split())[:100]}") from err


def _class_name(item: Item, name: Any) -> str:
    if isinstance(name, bool) or not isinstance(name, str | int | float):
        kind = {bool: str(name is True).lower(), type(None): "null", list: "a list"}.get(type(name), "an object")
        raise UserError(f"{item.name}: class_names has {kind}, expected names")
    return printable(str(name))


def short(value: Any) -> str:
    """What begins like a value of JSON as Python writes it, for messages."""
    try:
        return str(value)[:_SHOWN]
    except RecursionError:
        return "lists in lists without end"


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
            kind = next(
                (event for prefix, event, _ in ijson.parse(file, **NUMBERS) if prefix == "labels"), "no such key"
            )
        if kind == "no such key":
            raise UserError(f"{item.name}: {_EXPECTED}, found {kind}")
        empty = True
        if kind == "start_array":
            with _open_json(item) as file:
                for entry in ijson.items(file, "labels.item", **NUMBERS):
                    if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
                        raise UserError(f"{item.name}: found {short(entry)}, expected [file, label]")
                    empty = False
                    yield entry[0], entry[1]
        if empty:
            what = "null" if kind == "null" else "empty or no list"
            raise UserError(f'{item.name}: "labels" is {what}, it has no labels')
    except OSError as err:
        raise UserError(f"cannot read {item.name}: {err.strerror or err}") from err
    except (ijson.JSONError, UnicodeError) as err:
        raise UserError(f"{item.name}: {_EXPECTED}, found {' '.join(str(err).split())[:100]}") from err
