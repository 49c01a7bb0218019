"""What lies in a data set directory: one record file per resolution, `*.labels`, and `dataset.json`.

Published directories (no `dataset.json`) and those of dataset_tool.py are read alike. File names do not matter but for
their endings; the resolution of a file is that of its first record. Files `validation-*` hold another set, which was
kept out of training and is read on request.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.util import UserError, list_nearest
from training.dataset_labels import label_parts, read_labels
from training.encodings import ENCODINGS
from training.image_shapes import check_size
from training.tfrecord import RecordFile

FORMAT_VERSION = 1
INFO_NAME = "dataset.json"
SKIPPED_NAME = "skipped.csv"
VALIDATION_PREFIX = "validation-"
STRETCHED_FROM = "stretched_from"  # key of `DatasetInfo.source`: (width, height) in whose ratio all images were


@dataclass(frozen=True)
class DatasetInfo:
    """Content of `dataset.json`."""

    resolution: int  # the larger side, pixels
    channels: int
    num_images: int
    label_size: int
    content_hash: str
    height: int = 0  # 0: square, of that resolution
    width: int = 0
    num_validation: int = 0  # images held out, in the files `validation-*`
    class_names: tuple[str, ...] = ()
    encoding: str = "raw"
    levels: tuple[int, ...] = ()  # resolutions (larger sides) stored, largest first
    source: Mapping[str, Any] = field(default_factory=dict)  # where the images came from, for people
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"


def read_info(directory: Path) -> DatasetInfo | None:
    """`dataset.json` of a directory; None if there is none, or one of another program.

    Raises:
        UserError: unreadable, of a later format, or with wrong fields.
    """
    path = directory / INFO_NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as err:
        raise UserError(f"cannot read {path}: {err}; delete it to use the records without it") from err
    if not isinstance(content, dict) or "format_version" not in content:
        return None
    if content["format_version"] != FORMAT_VERSION:
        raise UserError(f"{path}: format_version {content['format_version']}, this program reads {FORMAT_VERSION}")
    try:
        content.update({key: tuple(content[key]) for key in ("class_names", "levels") if key in content})
        info = DatasetInfo(**content)
    except TypeError as err:
        raise UserError(f"{path}: {str(err).removeprefix('DatasetInfo.')}; rebuild the data set or delete it") from err
    if info.encoding not in ENCODINGS:
        raise UserError(f"{path}: unknown encoding {info.encoding!r}; {list_nearest(info.encoding, ENCODINGS)}")
    return info


def dataset_directory(path: os.PathLike | str) -> Path:
    """The directory, checked to exist; a trailing slash and symbolic links are fine.

    Raises:
        UserError: missing, or a file.
    """
    directory = Path(os.path.abspath(path))
    if directory.is_dir():
        return directory
    if directory.exists():
        raise UserError(f"{directory} is a file; give the directory that holds the *.tfrecords files")
    if not directory.parent.is_dir():
        raise UserError(f"no data set {directory}: {directory.parent} does not exist either")
    siblings = [p.name for p in directory.parent.iterdir() if p.is_dir() and not p.name.startswith(".")]
    raise UserError(f"no data set {directory}; in {directory.parent}: {list_nearest(directory.name, siblings)}")


def check_name(directory: Path) -> None:
    """Whether `find_files` would find the files of a data set that is written to this directory: they have its name.

    Raises:
        UserError: it would take them for those of a held-out set, or for hidden ones.
    """
    name = os.path.basename(os.path.realpath(directory))
    for begin, what in ((VALIDATION_PREFIX, "held-out images"), (".", "hidden files")):
        if name.startswith(begin):
            raise UserError(f"{directory}: names of data sets must not begin with {begin!r}, those of {what} do")


def find_files(directory: Path, ending: str, validation: bool = False) -> list[Path]:
    """Files with that ending, sorted by name: those of the held-out set, or those of the rest."""
    paths = sorted(path for path in directory.glob(f"*{ending}") if not path.name.startswith("."))
    return [path for path in paths if path.name.startswith(VALIDATION_PREFIX) == validation]


def find_levels(directory: Path, validation: bool = False, damaged: bool = False) -> dict[int, RecordFile]:
    """Record files by resolution (the larger side, pixels), largest first.

    Args:
        validation: those of the held-out set.
        damaged: open files that are cut off or have gaps, see `RecordFile`.
    Raises:
        UserError: no records, images of a size that cannot be (`check_shape`), or two files of one resolution.
    """
    paths = find_files(directory, ".tfrecords", validation)
    if not paths and validation:
        raise UserError(
            f"{directory} has no held-out images (validation-*.tfrecords); "
            "build it with dataset_tool.py create_from_images --validation N"
        )
    if not paths:
        found = sorted(p.name for p in directory.iterdir())[:5]
        raise UserError(f"no *.tfrecords files in {directory} (found: {', '.join(found) or 'nothing'})")
    levels: dict[int, RecordFile] = {}
    for path in paths:
        records = RecordFile(path, damaged)
        shape = first_shape(records, damaged)
        check_shape(shape, str(path))
        side = max(shape[1:])
        if side in levels:
            raise UserError(
                f"{directory}: both {levels[side].path.name} and {path.name} hold images of {shape[1]}x{shape[2]}; "
                f"expected one file per resolution"
            )
        levels[side] = records
    return dict(sorted(levels.items(), reverse=True))


def first_shape(records: RecordFile, damaged: bool = False) -> tuple[int, int, int]:
    """Shape of the first image, of the first that can be read if `damaged`.

    Raises:
        UserError: no images, or it cannot be read.
    """
    first: UserError | None = None
    for index in range(len(records)):
        try:
            return records.read_image(index).shape
        except UserError as err:
            if not damaged:
                raise
            first = first or err
    raise first or UserError(f"{records.path} holds no images; rebuild the data set")


def check_shape(shape: tuple[int, int, int], where: str) -> None:
    """The shapes that can be stored, as any level: see `image_shapes.check_size`.

    Raises:
        UserError: another.
    """
    check_size(shape[1], shape[2], f"{where}: images of shape {list(shape)} (C, H, W), size", lowest=True)


def load_labels(
    directory: Path, num_images: int, label_file: str | None = None, validation: bool = False
) -> np.ndarray | None:
    """Labels float32 [num_images, label_size], or None if there are none: a mapped file, not to be written.

    Args:
        num_images: records of the data set; there must be as many labels.
        label_file: path, or name inside the directory; None: the first `*.labels` in sorted order.
        validation: of the held-out set.
    Raises:
        UserError: unreadable, or shape or values are not those of labels.
    """
    if label_file is None:
        found = find_files(directory, ".labels", validation)
        if not found:
            return None
        path = found[0]
    else:
        path = directory / label_file  # an absolute path stays what it is
        if not path.is_file():
            path = Path(label_file)
    return read_labels(path, num_images)


def content_hash(records: RecordFile, labels: np.ndarray, num_images: int, halvings: int = 0) -> str:
    """SHA-256 that identifies images and labels, in hexadecimal.

    Made from the length and checksum that the file holds for each record, so that a data set of any size takes no
    more than a moment, and the hash is that of the files as they are now.

    Args:
        records: the file used.
        labels: float32 [N, label_size].
        num_images: records used, from the first.
        halvings: how often the images are halved when they are read.
    """
    digest = hashlib.sha256(f"{num_images} {labels.shape[1]} ".encode() + b"halved " * halvings)
    digest.update(records.fingerprint(num_images))
    for part in label_parts(labels[:num_images]):
        digest.update(np.ascontiguousarray(part, "<f4").tobytes())
    return digest.hexdigest()
