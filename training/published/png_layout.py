"""Data sets as PNG files: NNNNN/imgNNNNNNNN.png with `dataset.json`, the layout of stylegan2-ada-pytorch.

In a folder there is `pack_extras.npz` besides, from which `pack` takes the labels: `num_images`, and `labels` [N,
label_size] as uint8 (float32 if that cannot hold them).
"""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from bisect import bisect_left
from collections.abc import Callable, Iterable
from pathlib import Path

import ijson
import numpy as np
import tqdm
from PIL import Image

from dnnlib.util import UserError, atomic_write
from training.dataset import TFRecordDataset
from training.dataset_inspect import label_kind, to_pil
from training.item_table import NameTable
from training.published.stored_zip import StoredZip
from training.source_listing import walk_files
from training.unfinished import make_temp_beside

EXTRAS_NAME = "pack_extras.npz"
JSON_NAME = "dataset.json"
_PNG_CHANNELS = (1, 3, 4)
_NO_LABELS = "labels are neither classes from 0 nor vectors of one length; correct or delete it"


def image_name(index: int) -> str:
    """Name of an image in the layout: a thousand of them share a folder."""
    name = f"{index:08d}"
    return f"{name[:5]}/img{name}.png"


def png_bytes(image: np.ndarray) -> bytes:
    """A PNG file, not compressed, as the layout has them: they are read faster so. uint8 [C, H, W], C 1, 3 or 4."""
    out = io.BytesIO()
    to_pil(image).save(out, "png", compress_level=0, optimize=False)
    return out.getvalue()


def describe_labels(labels: np.ndarray, class_names: tuple[str, ...] = ()) -> bytearray:
    """The content of `dataset.json`: {"labels": [[file name, class or vector], ...] or null}.

    Args:
        labels: float32 [N, label_size].
        class_names: go along under a key of their own.
    """
    text = bytearray(b'{"labels": ')  # built row by row: as objects, a million rows would take several times as much
    if labels.shape[1]:
        one_hot = label_kind(labels) == "one-hot"
        # Readers take the largest class for the number of classes, so the last one has to occur.
        values = labels.argmax(axis=1) if one_hot and labels[:, -1].any() else labels
        for index in range(len(labels)):
            row = json.dumps([image_name(index), values[index].tolist()])
            text += (", " if index else "[").encode() + row.encode()
        text += b"]"
    else:
        text += b"null"
    if class_names:
        text += b', "class_names": ' + json.dumps(list(class_names), ensure_ascii=False).encode()
    text += b"}"
    return text


def _write_all(dataset: TFRecordDataset, write: Callable[[str, bytes], None], what: str) -> None:
    if dataset.num_channels not in _PNG_CHANNELS:
        raise UserError(f"{dataset.path}: images of {dataset.num_channels} channels; PNG files hold 1, 3 or 4")
    with tqdm.trange(dataset.num_images, unit="img", desc=what) as bar:
        for index in bar:
            write(image_name(index), png_bytes(dataset.read(np.array([index]))[0]))
    write(JSON_NAME, describe_labels(dataset.labels, dataset.class_names))


def extras(labels: np.ndarray) -> bytes:
    """The content of `pack_extras.npz`. Labels float32 [N, label_size]."""
    small = labels.astype(np.uint8) if np.isin(labels, np.arange(256)).all() else labels
    out = io.BytesIO()
    np.savez(out, num_images=np.int64(len(labels)), labels=small)
    return out.getvalue()


def unpack(dataset: TFRecordDataset, folder: os.PathLike | str) -> int:
    """Writes a folder of PNG files in the order of the records; returns how many. It appears complete or not at all.

    Raises:
        UserError: the folder is not empty, or cannot be written.
    """
    target = Path(os.path.realpath(folder))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is not an empty folder; give the name of a new one")
    temp = make_temp_beside(target)
    content = temp / target.name  # mkdtemp's own folder is for this user alone

    def write(name: str, data: bytes) -> None:
        path = content / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    try:
        _write_all(dataset, write, "unpacking")
        write(EXTRAS_NAME, extras(dataset.labels))
        os.replace(content, target)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return dataset.num_images


def export_zip(dataset: TFRecordDataset, path: os.PathLike | str) -> int:
    """Writes an uncompressed zip file in the layout, in the order of the records; returns how many images.

    Raises:
        UserError: the file is there already, or cannot be written.
    """
    if os.path.exists(path):
        raise UserError(f"{path} is there already; give another name or delete it")
    with atomic_write(path) as file, StoredZip(file) as archive:
        _write_all(dataset, archive.write, "exporting")
    return dataset.num_images


# ---------------------------------------------------------------- reading


class PngTable:
    """The PNG files below a folder, sorted by relative name, as images by index.

    Attributes:
        names: relative to the folder.
        shape: (N, C, H, W), of the first file.
    Raises:
        UserError: no folder, no PNG files, or the first is of a kind that is not stored.
    """

    def __init__(self, folder: os.PathLike | str) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f"{self.folder} is not a folder; expected one of PNG files, such as unpack makes")
        self.names = NameTable()
        for name, reason in walk_files(self.folder):
            if reason is None and name.endswith(".png"):
                self.names.append_name(name)
        if not len(self.names):
            raise UserError(f"{self.folder} holds no *.png; expected a folder such as unpack makes")
        self.shape: tuple[int, ...] = ()
        self.shape = (len(self.names), *self[0].shape)

    def __getitem__(self, index: int) -> np.ndarray:
        """uint8 [C, H, W]. Raises UserError, naming the file, if it is broken or of another shape."""
        path = self.folder / self.names[index]
        try:
            with Image.open(path, formats=["png"]) as image:
                if image.mode not in ("L", "RGB", "RGBA"):
                    raise UserError(
                        f"{path}: pixels of mode {image.mode}, expected grey, RGB or RGBA of 8 bits; "
                        f"create_from_images reads all kinds"
                    )
                pixels = np.asarray(image)
        except UserError:
            raise
        except Exception as err:  # decoders raise anything on broken files
            raise UserError(f"cannot read {path}: {type(err).__name__}: {err}") from err
        pixels = pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
        if self.shape and pixels.shape != self.shape[1:]:
            found, expected = list(pixels.shape), list(self.shape[1:])
            raise UserError(f"{path}: shape {found}, expected {expected} like {self.names[0]}; see create_from_images")
        return pixels


def read_labels(table: PngTable) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels float32 [N, label_size] of the files, and names of classes: `pack_extras.npz`, else `dataset.json`.

    Raises:
        UserError: unreadable, or not of these files.
    """
    described, class_names = _read_json(table)
    extras_path = table.folder / EXTRAS_NAME
    labels = _read_extras(extras_path, len(table.names)) if extras_path.is_file() else described
    if labels is None:
        labels = np.zeros((len(table.names), 0), np.float32)
    return labels, class_names if len(class_names) == labels.shape[1] else ()


def _read_extras(path: Path, count: int) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as content:
            num_images, labels = int(content["num_images"]), content["labels"]
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as err:
        raise UserError(f"cannot read {path}: {err}; delete it to pack without it") from err
    if num_images != count:
        raise UserError(f"{path}: num_images is {num_images}, but there are {count} PNG files; unpack again")
    if labels.ndim != 2 or labels.dtype.kind not in "fiub" or len(labels) != count:
        raise UserError(
            f"{path}: labels are {labels.dtype} {list(labels.shape)}, expected numbers [{count}, label_size]"
        )
    return labels.astype(np.float32)


def _read_json(table: PngTable) -> tuple[np.ndarray | None, tuple[str, ...]]:
    path = table.folder / JSON_NAME
    if not path.is_file():
        return None, ()
    try:
        with open(path, "rb") as file:
            kind = next((event for prefix, event, _ in ijson.parse(file) if prefix == "labels"), None)
        with open(path, "rb") as file:
            names = tuple(map(str, ijson.items(file, "class_names.item")))
        if kind not in ("null", "start_array"):
            raise ValueError(f"labels: {kind}")
        if kind == "null":
            return None, names
        with open(path, "rb") as file:
            rows = ((str(name), label) for name, label in ijson.items(file, "labels.item", use_float=True))
            labels = _place_labels(table, path, rows)
    except (OSError, ValueError, TypeError, ijson.JSONError) as err:
        raise UserError(
            f"{path}: {err!r}; expected {{'labels': [[file, class or vector], ...]}}, or delete it"
        ) from err
    if labels is None or labels.ndim == 2:
        return labels, names
    return np.eye(max(int(labels.max()) + 1, len(names)), dtype=np.float32)[labels], names


def _place_labels(table: PngTable, path: Path, rows: Iterable[tuple[str, object]]) -> np.ndarray | None:
    """int64 [N] or float32 [N, label_size] in the order of the files, from (file, label) one by one; None if empty."""
    names = table.names
    found = np.zeros(len(names), bool)
    labels: np.ndarray | None = None
    for name, label in rows:
        vector = isinstance(label, list)
        known = np.array(label, np.float32 if vector else None).dtype.kind in "fiu" if label != [] else False
        if not known or (not vector and (not isinstance(label, int) or label < 0)):
            raise UserError(f"{path}: {_NO_LABELS}")
        if labels is None:
            labels = np.zeros((len(names), len(label)), np.float32) if vector else np.zeros(len(names), np.int64)
        if (labels.ndim == 2) != vector or (vector and len(label) != labels.shape[1]):
            raise UserError(f"{path}: {_NO_LABELS}")
        place = bisect_left(names, name)
        if place < len(names) and names[place] == name:
            labels[place] = label
            found[place] = True
    if labels is not None and not found.all():
        first, count = names[int(np.argmin(found))], int((~found).sum())
        raise UserError(f"{path}: no label for {first} ({count} are missing); complete or delete it")
    return labels
