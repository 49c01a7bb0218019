"""CIFAR-10 and CIFAR-100 from the Python version of their archives; its pickles are read as data, not executed."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.snapshot.arrays import PickleError
from dnnlib.snapshot.convert import Converter
from dnnlib.snapshot.machine import interpret
from dnnlib.util import UserError
from training.dataset_build import BuildReport
from training.published.writing import ImageSource, WriteOptions, tell_count, write_source

NUM_IMAGES = 50_000
_SHAPE = (3, 32, 32)
_MAX_FILE_BYTES = 512 << 20  # the largest file of CIFAR-100 has 155 MB


@dataclass(frozen=True)
class Variant:
    """One of the two data sets."""

    kind: str
    folder: str  # inside the archive
    batches: tuple[str, ...]
    meta: str
    labels_key: str
    names_key: str
    num_classes: int

    @property
    def archive(self) -> str:
        """Name of the archive as distributed."""
        return f"{self.kind[:5]}-{self.kind[5:]}-python.tar.gz"


CIFAR10 = Variant(
    "cifar10", "cifar-10-batches-py", tuple(f"data_batch_{i}" for i in range(1, 6)), "batches.meta",
    "labels", "label_names", 10,
)  # fmt: skip
CIFAR100 = Variant("cifar100", "cifar-100-python", ("train",), "meta", "fine_labels", "fine_label_names", 100)


def read_files(source: os.PathLike | str, variant: Variant) -> dict[str, bytes]:
    """The batches and, if there, the names of the classes: content by file name.

    Args:
        source: the archive, the folder that holds it or what it unpacks to, or that folder itself.
    Raises:
        UserError: not there, incomplete, or not an archive.
    """
    path = Path(source)
    wanted = (*variant.batches, variant.meta)
    if path.is_dir():
        folders = [folder for folder in (path, path / variant.folder) if (folder / variant.batches[0]).is_file()]
        if folders:
            found = {name: _read(folders[0] / name) for name in wanted if (folders[0] / name).is_file()}
            return _complete(found, folders[0], variant)
        if not (path / variant.archive).is_file():
            raise UserError(f"{path} has neither {variant.batches[0]} nor {variant.archive}; expected one of them")
        path = path / variant.archive
    return _complete(_read_archive(path, wanted), path, variant)


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return _limited(file.read(_MAX_FILE_BYTES + 1), str(path))
    except OSError as err:
        raise UserError(f"cannot read {path}: {err.strerror or err}") from err


def _limited(data: bytes, where: str) -> bytes:
    if len(data) > _MAX_FILE_BYTES:
        raise UserError(f"{where}: more than {_MAX_FILE_BYTES >> 20} MB, not a file of CIFAR")
    return data


def _read_archive(path: Path, wanted: Sequence[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = Path(member.name).name
                if member.isfile() and name in wanted:
                    found[name] = _limited(archive.extractfile(member).read(_MAX_FILE_BYTES + 1), f"{path}: {name}")
    except FileNotFoundError:
        raise UserError(f"{path} is not there; expected the archive of CIFAR, or its folder") from None
    except (tarfile.TarError, OSError, EOFError, zlib.error) as err:
        raise UserError(f"cannot read {path}: {err}; expected a tar archive: fetch the file again") from err
    return found


def _complete(found: dict[str, bytes], where: Path, variant: Variant) -> dict[str, bytes]:
    missing = [name for name in variant.batches if name not in found]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}; expected the Python version, {variant.archive}")
    return found


def read_batch(data: bytes, where: str) -> dict[str, Any]:
    """The dictionary in a pickle, with text as keys. Nothing from the file is executed.

    Raises:
        UserError: anything but plain data and arrays; names `where`.
    """
    try:
        content = Converter(_refuse_network).convert(interpret(data, "CIFAR file"), 0)
    except PickleError as err:
        text = "".join(c if c.isprintable() else "?" for c in str(err))
        raise UserError(f"{where}: {text}; fetch the file again from its publisher") from err
    if not isinstance(content, dict):
        raise UserError(f"{where}: holds {type(content).__name__}, expected a dictionary with 'data' and labels")
    return {_text(key): value for key, value in content.items()}


def _refuse_network(state: dict[str, Any]) -> None:
    raise PickleError("refused: a network, which CIFAR files do not hold")


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _images_of(batch: dict[str, Any], where: str) -> np.ndarray:
    images = batch.get("data")
    size = int(np.prod(_SHAPE))
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != size:
        found = f"{images.dtype} {list(images.shape)}" if isinstance(images, np.ndarray) else type(images).__name__
        raise UserError(f"{where}: 'data' is {found}, expected uint8 [N, {size}]")
    return images.reshape(-1, *_SHAPE)


def _labels_of(batch: dict[str, Any], count: int, where: str, variant: Variant) -> list[int]:
    labels = batch.get(variant.labels_key)
    if not isinstance(labels, list):
        raise UserError(f"{where}: no list {variant.labels_key!r}, found {', '.join(sorted(batch)) or 'nothing'}")
    if len(labels) != count:
        raise UserError(f"{where}: {len(labels)} labels for {count} images; fetch the file again")
    odd = [label for label in labels if type(label) is not int or not 0 <= label < variant.num_classes]
    if odd:
        raise UserError(f"{where}: label {odd[0]!r}, expected 0 to {variant.num_classes - 1}")
    return labels


def load_cifar(source: os.PathLike | str, variant: Variant, ignore_labels: bool = False) -> ImageSource:
    """Training images in the order of the batches, with the names of their classes if the archive tells them.

    Raises:
        UserError: see `read_files`, `read_batch`; or arrays and labels that are not those of CIFAR.
    """
    files = read_files(source, variant)
    images: list[np.ndarray] = []
    labels: list[int] = []
    for name in variant.batches:
        where = f"{source}: {name}"
        batch = read_batch(files[name], where)
        images.append(_images_of(batch, where))
        if not ignore_labels:
            labels += _labels_of(batch, len(images[-1]), where, variant)
    facts = {"kind": variant.kind, "source": str(source), "ignore_labels": ignore_labels}
    pixels = np.concatenate(images)
    if ignore_labels:
        return ImageSource(pixels, facts=facts)
    return ImageSource(pixels, np.array(labels, np.int64), _class_names(files, source, variant), facts)


def _class_names(files: dict[str, bytes], source: os.PathLike | str, variant: Variant) -> tuple[str, ...]:
    numbers = tuple(str(i) for i in range(variant.num_classes))
    if variant.meta not in files:
        return numbers
    names = read_batch(files[variant.meta], f"{source}: {variant.meta}").get(variant.names_key)
    if not isinstance(names, list) or len(names) != variant.num_classes:
        return numbers
    return tuple(_text(name) for name in names)


def create_cifar(
    path: os.PathLike | str,
    source: os.PathLike | str,
    variant: Variant,
    ignore_labels: bool = False,
    options: WriteOptions | None = None,
    say: Callable[[str], None] = print,
) -> BuildReport:
    """CIFAR-10 or CIFAR-100 as published: RGB 32x32, one-hot labels (for CIFAR-100 the fine ones).

    Args:
        path: directory to make.
        source: see `read_files`.
        variant: `CIFAR10` or `CIFAR100`.
        ignore_labels: write no labels.
    """
    images = load_cifar(source, variant, ignore_labels)
    tell_count(images.images.shape[0], NUM_IMAGES, say)
    return write_source(path, images, options or WriteOptions(), say)
