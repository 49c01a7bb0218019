"""Where the labels of images come from: names of folders, `dataset.json`, or a table.

Names in label files are those of the images below the input (`cats/1.png`); for images on a list, below the folder that
all of these share, or as the list writes them. An image that has no label is left out.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnnlib.util import UserError, list_nearest
from training.archives import open_regular
from training.dataset_items import Item, counted, printable
from training.dataset_labels import give_back, scattered_rows, scratch_labels
from training.label_json import common_class_names, has_labels, json_rows, short
from training.label_names import Finder, InnerNames
from training.source_listing import LABEL_FILE, Listing, has_image_ending

LABEL_SOURCES = ("folders", "json", "csv")
MOST_CLASSES = 1 << 16  # a label has a number for each
_NONE = -1
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True)
class Labels:
    """What `label_items` found out.

    size: numbers per label. class_names: of one-hot or multi-hot labels, () if they have no names.
    """

    size: int = 0
    class_names: tuple[str, ...] = ()


def label_items(
    listing: Listing, source: str | None, file: str | None = None, say: Callable[[str], None] = print
) -> Labels:
    """Sets the labels of the items of a listing; those without one move to the others.

    Args:
        source: of `LABEL_SOURCES`, None: no labels.
        file: of labels, for json and csv. For json None means `dataset.json` at the root of the inputs, each for the
            images of its own input.
    Raises:
        UserError: unknown source, no or unreadable file, labels that make no sense.
    """
    if source is None:
        if file is not None:
            raise UserError(f"a file of labels ({file}) without --labels-from json or csv")
        unused = next((item for item in listing.label_files.values() if has_labels(item)), None)
        if unused is not None:
            say(f"{printable(unused.name)} has labels, which are not used; --labels-from json uses them.")
        return Labels()
    if source not in LABEL_SOURCES:
        raise UserError(f"labels from {source!r}; {list_nearest(source, LABEL_SOURCES)}")
    if source == "folders":
        if file is not None:
            raise UserError(f"labels from folders need no file, found {file}; expected --labels-from json or csv")
        return _label_by_folder(listing)
    finder = Finder(listing.items, listing.lists, each_input=source == "json" and file is None)
    labels = _from_json(listing, finder, file, say) if source == "json" else _from_csv(finder, file)
    if finder.unknown:
        what = f"{counted(finder.unknown, 'label')} {'belongs' if finder.unknown == 1 else 'belong'}"
        say(f"{what} to no image (the first: {printable(finder.first_unknown)}).")
    _drop_unlabelled(listing, finder.found, file or LABEL_FILE)
    return labels


# ---------------------------------------------------------------- folders


def _label_by_folder(listing: Listing) -> Labels:
    """The class is the first folder below the input, or below the folder that all images of a list share."""
    listing.items.labels, names = _first_folders(InnerNames(listing.items, listing.lists))
    return Labels(len(names), tuple(map(printable, names)))


def _first_folders(paths: InnerNames) -> tuple[np.ndarray, tuple[str, ...]]:
    """int32 [N], classes, and their names, sorted."""
    ids: dict[str, int] = {}
    of = np.empty(len(paths), np.int32)
    outside = 0
    first = ""
    for index, path in enumerate(paths):
        folder, slash, _ = path.partition("/")
        if not slash:
            first = first or path
            outside += 1
        else:
            of[index] = ids.setdefault(folder, len(ids))
    if outside:
        raise UserError(
            f"{counted(outside, 'image')} in no sub-folder (the first: {printable(first)}); expected a folder per class"
        )
    names = tuple(sorted(ids))
    if len(names) < 2:
        raise UserError(f"found {len(names)} sub-folders with images, expected at least 2 classes; leave labels out")
    position = {name: index for index, name in enumerate(names)}
    return np.array([position[name] for name in ids], np.int32)[of], names


# ---------------------------------------------------------------- files


def _drop_unlabelled(listing: Listing, found: np.ndarray, file: str) -> None:
    if not found.any():
        names = InnerNames(listing.items, listing.lists)
        example = f" such as {printable(names.name(0))}" if len(names) else ""
        raise UserError(f"{file} has no label for any of the {len(listing.items)} images; expected names{example}")
    for index in map(int, np.flatnonzero(~found)):
        listing.others.append(listing.items[index].name, f"no label in {file}")
    if not found.all():
        listing.items = listing.items.select(np.flatnonzero(found))


def _from_json(listing: Listing, finder: Finder, file: str | None, say: Callable[[str], None]) -> Labels:
    sources = listing.label_files if file is None else {"": Item(file, file)}
    if not sources:
        raise UserError(f"labels from json, but no {LABEL_FILE} at the root of the input; give it with --labels-file")
    rows = ((prefix, item.name, *row) for prefix, item in sources.items() for row in json_rows(item))
    first = next(rows)
    rest = itertools.chain([first], rows)
    names = common_class_names(sources.values(), MOST_CLASSES)
    size = max(_set_classes(finder, rest), len(names)) if _is_class(first[-1]) else _set_vectors(finder, rest).size
    if names and len(names) != size:
        classes = "1 class" if len(names) == 1 else f"{len(names)} classes"
        say(f"{first[1]} has class_names for {classes}, but labels of {size}; classes are numbered instead.")
    return Labels(size, names if len(names) == size else ())


def _set_classes(finder: Finder, rows: Iterable[tuple[str, str, str, Any]]) -> int:
    """Rows: (prefix of the input or "", file of labels, name, class); returns how many classes there are."""
    finder.items.labels = np.full(len(finder.items), _NONE, np.int32)
    most = 0
    for prefix, where, name, label in rows:
        if not _is_class(label):
            raise UserError(f"{where}: label {short(label)} of {printable(name)}, expected a class as of the first")
        if not 0 <= label < MOST_CLASSES:
            least = "from 0 on" if label < 0 else f"below {MOST_CLASSES}"
            raise UserError(f"{where}: class {label}, expected numbers {least}")
        most = max(most, label)
        indices = finder.use(name, prefix)
        _check_new(where, name, finder.items.labels[indices], label, str)
        finder.items.labels[indices] = label
    return most + 1


def _check_new(where: str, name: str, before: np.ndarray, label: int, show: Callable[[int], str]) -> None:
    """Whether images, whose classes are `before`, had none or the same until now.

    Raises:
        UserError: they had another.
    """
    other = before[(before != _NONE) & (before != label)]
    if len(other):
        raise _contradiction(where, name, f"{show(int(other[0]))} and {show(label)}")


def _contradiction(where: str, name: str, labels: str) -> UserError:
    return UserError(f"{where}: {printable(name)} has several labels, {labels}; delete the row that is wrong")


def _is_class(label: Any) -> bool:
    return isinstance(label, int) and not isinstance(label, bool)


def _set_vectors(finder: Finder, rows: Iterable[tuple[str, str, str, Any]]) -> Labels:
    """Rows: (prefix of the input or "", file of labels, name, numbers)."""
    size = 0
    for number, (prefix, where, name, values) in enumerate(rows, 1):
        try:
            vector = np.array([float(value) for value in values], np.float32)
        except (ValueError, TypeError) as err:
            raise UserError(f"{where}: label {short(values)!r} of {printable(name)}, expected numbers") from err
        if not size:
            size = len(vector)
            finder.items.labels = scratch_labels(len(finder.items), size)
        if len(vector) != size or not size or not np.isfinite(vector).all():
            raise UserError(f"{where}: label {short(values)} of {printable(name)}, expected {size} finite numbers")
        _set_vector(finder, (prefix, where, name), vector, values)
        if not number % scattered_rows(size):
            give_back(finder.items.labels)
    return Labels(size)


def _set_vector(finder: Finder, row: tuple[str, str, str], vector: np.ndarray, written: Any) -> None:
    """Sets the label of the images that a row means.

    Args:
        row: prefix of the input or "", file of labels, name.
        written: what the vector is in the file, for messages.
    Raises:
        UserError: they have had another.
    """
    prefix, where, name = row
    indices = finder.find(name, prefix)
    for index in indices[finder.found[indices]]:
        if not np.array_equal(finder.items.labels[index], vector):
            raise _contradiction(where, name, f"the second {short(written)}")
    finder.note(indices, prefix + name)
    finder.items.labels[indices] = vector


def _from_csv(finder: Finder, file: str | None) -> Labels:
    """`file,class`; `file,class;class` for several at once; `file,number,number,...` for vectors.

    One number for each file is a vector of one if any of the numbers has a fraction: nobody numbers classes like that.
    """
    if file is None:
        raise UserError("labels from csv need a table: --labels-file TABLE.csv, with rows such as cats/1.png,cat")
    header = next(_rows(file, False), None)
    # What is named as an image is none that is missing, and no heading.
    skip = header is not None and not len(finder.find(header[0])) and not has_image_ending(header[0])
    columns = 0
    names: set[str] = set()
    several, numbers, fraction = False, True, False
    for row in _rows(file, skip):
        columns = columns or len(row)
        if len(row) != columns or columns < 2:
            raise UserError(f"{file}: found {','.join(row)[:80]!r}, expected {max(columns, 2)} columns: file,label")
        if columns == 2:
            several = several or ";" in row[1]
            if numbers:
                numbers = _NUMBER.fullmatch(row[1].strip()) is not None
                fraction = fraction or (numbers and not float(row[1]).is_integer())
            if len(names) <= MOST_CLASSES:  # one more than there may be, besides ""
                names.update(part.strip() for part in row[1].split(";"))
    if not columns:
        raise UserError(f"{file}: no rows with labels")
    if columns > 2 or (numbers and fraction):
        return _set_vectors(finder, (("", file, row[0], row[1:]) for row in _rows(file, skip)))
    names.discard("")
    if len(names) > MOST_CLASSES:
        raise UserError(f"{file}: more than {MOST_CLASSES} classes; expected fewer, or numbers in all rows")
    ordered = tuple(sorted(names, key=_natural))
    ids = {name: index for index, name in enumerate(ordered)}
    count = len(finder.items)
    labels = scratch_labels(count, len(ordered)) if several else np.full(count, _NONE, np.int32)
    finder.items.labels = labels
    for number, row in enumerate(_rows(file, skip), 1):
        classes = [ids[part.strip()] for part in row[1].split(";") if part.strip()]
        if not several and not classes:
            raise UserError(f"{file}: {printable(row[0])} has an empty label")
        if several:
            vector = np.zeros(len(ordered), np.float32)
            vector[classes] = 1
            _set_vector(finder, ("", file, row[0]), vector, row[1])
            if not number % scattered_rows(len(ordered)):
                give_back(labels)
        else:
            indices = finder.use(row[0])
            _check_new(file, row[0], labels[indices], classes[0], ordered.__getitem__)
            labels[indices] = classes[0]
    return Labels(len(ordered), ordered)


def _natural(name: str) -> tuple[float, str]:
    """Whole numbers in their order, before all that is not one."""
    return (int(name) if re.fullmatch(r"-?\d{1,15}", name) else math.inf), name


def _rows(file: str, skip_first: bool) -> Iterator[Sequence[str]]:
    """Rows of a table, read from the disk again for each pass: it may be larger than the memory."""
    try:
        with open_regular(file) as data:
            text = io.TextIOWrapper(data, "utf-8-sig", "surrogateescape", newline="")
            for index, row in enumerate(csv.reader(text)):
                if row and not (index == 0 and skip_first):
                    yield row
    except csv.Error as err:
        raise UserError(f"{file}: {err}; expected a table with commas") from err
    except UnicodeError as err:
        raise UserError(f"{file}: not text in UTF-8 ({err})") from err
    except OSError as err:
        raise UserError(f"cannot read {file}: {err.strerror or err}") from err
