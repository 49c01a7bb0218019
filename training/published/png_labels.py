"""Labels of PNG folders: `dataset.json` as stylegan2-ada-pytorch has it, and `pack_extras.npz`; for many files, too.

`dataset.json` is {"labels": [[file name, class or vector], ...] or null}, with "class_names" if there are some. The
extras are `num_images`, and `labels` [N, label_size] as uint8 (float32 if that cannot hold them).
"""

from __future__ import annotations

import json
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import ijson
import numpy as np

from dnnlib.util import UserError
from training.dataset_inspect import label_kind
from training.dataset_items import Item, printable
from training.dataset_labels import (
    check_finite,
    give_back,
    label_parts,
    one_hot_labels,
    scattered_rows,
    scratch_labels,
    write_label_header,
)
from training.label_json import NUMBERS, common_class_names
from training.label_sources import MOST_CLASSES

EXTRAS_NAME = "pack_extras.npz"
JSON_NAME = "dataset.json"
_EXPECTED = "expected {'labels': [[file, class or vector], ...]}, or delete it"
_MOST = float(np.finfo(np.float32).max)
_DELETE = "delete it to pack without it"


def image_name(index: int) -> str:
    """Name of an image in the layout: a thousand of them share a folder."""
    name = f"{index:08d}"
    return f"{name[:5]}/img{name}.png"


# ---------------------------------------------------------------- writing


def write_description(file: BinaryIO, labels: np.ndarray, class_names: tuple[str, ...] = ()) -> None:
    """Writes the content of `dataset.json`.

    Args:
        labels: float32 [N, label_size].
        class_names: go along under a key of their own.
    Raises:
        UserError: labels that are not finite; JSON has no word for them.
    """
    check_finite(labels, "the data set")
    file.write(b'{"labels": ')
    if labels.shape[1]:
        # Readers take the largest class for the number of classes, so the last one has to occur.
        classes = label_kind(labels) == "one-hot" and any(part[:, -1].any() for part in label_parts(labels))
        index = 0
        for part in label_parts(labels):
            rows = (part.argmax(axis=1) if classes else part).tolist()
            text = "".join(
                (", " if number else "[") + json.dumps([image_name(number), row])
                for number, row in enumerate(rows, index)
            )
            file.write(text.encode())
            index += len(rows)
        file.write(b"]")
    else:
        file.write(b"null")
    if class_names:
        file.write(b', "class_names": ' + json.dumps(list(class_names), ensure_ascii=False).encode())
    file.write(b"}")


def write_extras(file: BinaryIO, labels: np.ndarray) -> None:
    """Writes the content of `pack_extras.npz`. Labels float32 [N, label_size]."""
    small = all(((part >= 0) & (part <= 255) & (part == np.rint(part))).all() for part in label_parts(labels))
    descr = "|u1" if small else "<f4"
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open(zipfile.ZipInfo("num_images.npy"), "w") as out:
            np.lib.format.write_array(out, np.array(len(labels), np.int64))
        with archive.open(zipfile.ZipInfo("labels.npy"), "w", force_zip64=True) as out:
            write_label_header(out, *labels.shape, descr)
            for part in label_parts(labels):
                out.write(np.ascontiguousarray(part, descr).tobytes())


# ---------------------------------------------------------------- reading


def read_folder_labels(folder: Path, names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels float32 [N, label_size] of files, and names of classes: `pack_extras.npz`, else `dataset.json`.

    Args:
        folder: where these are.
        names: of the files, relative to it, sorted.
    Raises:
        UserError: unreadable, or not of these files.
    """
    extras, described = folder / EXTRAS_NAME, folder / JSON_NAME
    class_names: tuple[str, ...] = ()
    labels: np.ndarray | None = None
    if described.is_file():
        labels, class_names = _read_json(described, names)
    if extras.is_file():
        labels = _read_extras(extras, len(names))
    if labels is None:
        labels = np.zeros((len(names), 0), np.float32)
    return labels, class_names if len(class_names) == labels.shape[1] else ()


def _read_extras(path: Path, count: int) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive:
            with archive.open("num_images.npy") as file:
                num_images = int(np.lib.format.read_array(file, allow_pickle=False))
            if num_images != count:
                raise UserError(f"{path}: num_images is {num_images}, but there are {count} PNG files; unpack again")
            with archive.open("labels.npy") as file:
                labels = _read_array(file, path, count)
    except (OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error) as err:
        raise UserError(f"cannot read {path}: {err}; {_DELETE}") from err
    check_finite(labels, path)
    return labels


def _read_array(file: BinaryIO, path: Path, count: int) -> np.ndarray:
    """A *.npy file of labels, part by part."""
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"an array of version {version}")
    shape, by_columns, dtype = read_header[version](file)
    if len(shape) != 2 or dtype.kind not in "fiub" or shape[0] != count or shape[1] > MOST_CLASSES:
        raise UserError(
            f"{path}: labels are {dtype} {list(shape)}, expected numbers [{count}, label_size of at most "
            f"{MOST_CLASSES}]; {_DELETE}"
        )
    labels = scratch_labels(*shape)
    if by_columns:
        for column in range(shape[1]):
            for part in label_parts(labels):
                part[:, column] = _numbers(file, dtype, len(part))
        return labels
    for part in label_parts(labels):
        part[...] = _numbers(file, dtype, part.size).reshape(part.shape)
    return labels


def _numbers(file: BinaryIO, dtype: np.dtype, count: int) -> np.ndarray:
    data = file.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise EOFError("the labels are cut off")
    with np.errstate(over="ignore"):  # what becomes infinite is found later
        return np.frombuffer(data, dtype).astype(np.float32)


def _read_json(path: Path, names: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    try:
        with open(path, "rb") as file:
            kind = next((event for prefix, event, _ in ijson.parse(file, **NUMBERS) if prefix == "labels"), None)
        class_names = common_class_names([Item(str(path), str(path))], MOST_CLASSES)
        if kind == "null":
            return None, class_names
        if kind != "start_array":
            raise UserError(f"{path}: labels: {kind}; {_EXPECTED}")
        with open(path, "rb") as file:
            labels = _place(path, _rows(path, ijson.items(file, "labels.item", **NUMBERS)), names)
    except (OSError, ValueError, ijson.JSONError) as err:
        raise UserError(f"{path}: {' '.join(str(err).split())}; {_EXPECTED}") from err
    except RecursionError as err:  # from showing a label
        raise UserError(f"{path}: lists in lists without end; {_EXPECTED}") from err
    if labels is None or labels.ndim == 2:
        return labels, class_names
    return one_hot_labels(labels, max(int(labels.max()) + 1, len(class_names))), class_names


def _rows(path: Path, entries: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for entry in entries:
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
            raise UserError(f"{path}: found {printable(str(entry)[:60])}, expected [file, class or vector]")
        yield entry[0], entry[1]


def _place(path: Path, rows: Iterable[tuple[str, Any]], names: Sequence[str]) -> np.ndarray | None:
    """int64 [N] or float32 [N, label_size] in the order of the names, from (file, label) one by one; None if empty."""
    found = np.zeros(len(names), bool)
    labels: np.ndarray | None = None
    for number, (name, label) in enumerate(rows):
        value = _checked(label, labels, f"{path}: {printable(name)}")
        if labels is None:
            labels = (
                np.zeros(len(names), np.int64) if isinstance(value, int) else scratch_labels(len(names), len(value))
            )
        place = bisect_left(names, name)
        if place < len(names) and names[place] == name:
            labels[place] = value
            found[place] = True
        if not number % scattered_rows(labels.size // len(labels)):
            give_back(labels)
    if labels is not None and not found.all():
        first, count = names[int(np.argmin(found))], int((~found).sum())
        raise UserError(f"{path}: no label for {printable(first)} ({count} are missing); complete or delete it")
    return labels


def _checked(label: Any, before: np.ndarray | None, where: str) -> int | np.ndarray:
    """A class, or a vector float32, of the same kind as the labels before.

    Raises:
        UserError: another kind, or no label at all.
    """
    if isinstance(label, list):
        odd = [value for value in label if type(value) not in (int, float) or not abs(value) <= _MOST]
        if odd:
            raise UserError(f"{where}: {odd[0]!r:.60} in its vector, expected finite numbers; correct or delete it")
        if not 1 <= len(label) <= MOST_CLASSES or (before is not None and before.shape[1:] != (len(label),)):
            like = "numbers" if before is None else "a class" if before.ndim == 1 else f"{before.shape[1]} numbers"
            raise UserError(
                f"{where}: a vector of {len(label)} numbers, {label!r:.60}, expected {like}; correct or delete it"
            )
        return np.array(label, np.float32)
    if type(label) is not int or not 0 <= label < MOST_CLASSES or (before is not None and before.ndim == 2):
        like = f"a class from 0 to {MOST_CLASSES - 1}, or a vector"
        like = like if before is None or before.ndim == 1 else f"a vector of {before.shape[1]} numbers"
        raise UserError(f"{where}: label {label!r:.60}, expected {like}; correct or delete it")
    return label
