"""Writing a data set directory: records of every level, labels, `dataset.json`, and what was left out.

Everything goes to a temporary directory beside the target, which is renamed at the end: what carries the final name is
complete.
"""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dnnlib.util import UserError
from training.dataset_files import INFO_NAME, SKIPPED_NAME, DatasetInfo, content_hash
from training.example import encode_image
from training.pyramid import pyramid
from training.tfrecord import RecordFile, RecordWriter, frame

_OWN_FILES = (".tfrecords", ".labels", INFO_NAME, SKIPPED_NAME)


def level_sides(resolution: int) -> tuple[int, ...]:
    """Sides of all levels, from `resolution` down to 4 pixels."""
    return tuple(resolution >> i for i in range(resolution.bit_length() - 2))


def expected_bytes(resolution: int, channels: int, num_images: int, label_size: int = 0) -> int:
    """Size on disk of the records and labels of a data set."""
    records = sum(len(frame(encode_image(np.zeros((channels, s, s), np.uint8)))) for s in level_sides(resolution))
    return num_images * (records + 4 * label_size)


def check_resolution(resolution: int) -> int:
    """The resolution, if records can be written with it.

    Raises:
        UserError: not a power of two, or too small.
    """
    if resolution < 4 or resolution & (resolution - 1):
        raise UserError(f"resolution {resolution}: expected a power of two from 4 on (..., 32, 64, 128, 256, ...)")
    return resolution


class DatasetWriter:
    """Writes one data set. A context manager: leaving the block normally completes it, an exception leaves nothing.

    Args:
        path: directory to make; its name is the prefix of the files. Its parents are made if they are missing.
        resolution: side of the images in pixels, a power of two >= 4.
        channels: 1 or 3 (more are written, too).
        label_size: numbers per label, 0: no labels.
        class_names: of one-hot labels.
        source: goes into `dataset.json`, for people.
        overwrite: replace an existing data set.
    Attributes:
        num_images: written so far.
        skipped: (name, reason) of what was left out.
    Raises:
        UserError: the directory is not empty, or cannot be written; no image was written in the whole block.
    """

    def __init__(
        self,
        path: os.PathLike | str,
        resolution: int,
        channels: int,
        label_size: int = 0,
        class_names: Sequence[str] = (),
        source: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(os.path.realpath(path))
        self.shape = (channels, check_resolution(resolution), resolution)
        self.num_images = 0
        self.skipped: list[tuple[str, str]] = []
        self._label_size = label_size
        self._class_names = tuple(class_names)
        self._source = dict(source or {})
        self._labels: list[np.ndarray] = []
        check_target(self.path, overwrite)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._temp = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.unfinished-", dir=self.path.parent))
        except OSError as err:
            raise UserError(f"cannot write {self.path}: {err.strerror or err}") from err
        self._files = [RecordWriter(self._file(f"r{side.bit_length() - 1:02d}.tfrecords")) for side in self._sides]

    @property
    def _sides(self) -> tuple[int, ...]:
        return level_sides(self.shape[2])

    def _file(self, ending: str) -> Path:
        return self._temp / f"{self.path.name}-{ending}"

    def add(self, image: np.ndarray, label: np.ndarray | None = None) -> None:
        """Appends an image.

        Args:
            image: uint8 or float [C, H, W] in [0, 255]; floats are rounded per level, not before.
            label: [label_size], if the data set has labels.
        Raises:
            ValueError: another shape.
        """
        if image.shape != self.shape:
            raise ValueError(f"image {self.num_images}: shape {image.shape}, expected {self.shape}")
        if self._label_size:
            vector = np.asarray(label, np.float32)
            if vector.shape != (self._label_size,):
                raise ValueError(f"label {self.num_images}: shape {vector.shape}, expected ({self._label_size},)")
            self._labels.append(vector)
        try:
            for file, level in zip(self._files, pyramid(image), strict=True):
                file.write(encode_image(level))
        except OSError as err:
            raise UserError(f"cannot write {file.path}: {err.strerror or err}") from err
        self.num_images += 1

    def skip(self, name: str, reason: str) -> None:
        """Notes that something was left out."""
        self.skipped.append((name, " ".join(reason.split())))

    def _finish(self) -> None:
        if self.num_images == 0:
            first = f" (the first: {': '.join(self.skipped[0])})" if self.skipped else ""
            raise UserError(f"{self.path}: no image to write, {len(self.skipped)} skipped{first}")
        for file in self._files:
            file.close()
        labels = np.stack(self._labels) if self._labels else np.zeros((self.num_images, 0), np.float32)
        if self._label_size:
            with open(self._file("rxx.labels"), "wb") as out:
                np.save(out, labels)
        if self.skipped:
            with open(self._temp / SKIPPED_NAME, "w", newline="", encoding="utf-8") as out:
                csv.writer(out).writerows([("file", "reason"), *self.skipped])
        largest = RecordFile(self._files[0].path)
        info = DatasetInfo(
            resolution=self.shape[2],
            channels=self.shape[0],
            num_images=self.num_images,
            label_size=self._label_size,
            content_hash=content_hash(largest, labels, self.num_images),
            class_names=self._class_names,
            levels=self._sides,
            source={**self._source, "num_skipped": len(self.skipped)},
        )
        largest.close()
        (self._temp / INFO_NAME).write_text(info.to_json(), "utf-8")
        os.chmod(self._temp, 0o777 & ~_umask())
        self._replace()

    def _replace(self) -> None:
        old = None
        if self.path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.old-", dir=self.path.parent))
            os.replace(self.path, old / self.path.name)
        os.replace(self._temp, self.path)
        if old is not None:
            shutil.rmtree(old)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            for file in self._files:
                file.close()
            shutil.rmtree(self._temp, ignore_errors=True)


def check_target(path: Path, overwrite: bool) -> None:
    """Whether a data set may be written to `path`.

    Raises:
        UserError: it is a file, not empty, or (to overwrite) holds something that is not part of a data set.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, expected the name of a directory to make")
    content = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
    if content and not overwrite:
        raise UserError(f"{path} is not empty (it holds {content[0]}); give another name, or --overwrite to replace it")
    foreign = [name for name in content if not name.endswith(_OWN_FILES)]
    if foreign:
        raise UserError(f"{path} holds {foreign[0]}, which is not part of a data set; it is not overwritten")


def _umask() -> int:
    """The process's umask; it can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
