"""Writing a data set directory: records of every level, labels, `dataset.json`, and what was left out.

Everything grows in a work directory beside the target (`unfinished.py`), which is renamed at the end: what carries the
final name is complete.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

import numpy as np

from dnnlib.util import UserError
from training.dataset_files import (
    INFO_NAME,
    SKIPPED_NAME,
    VALIDATION_PREFIX,
    DatasetInfo,
    content_hash,
)
from training.dataset_labels import write_label_header
from training.dataset_target import check_target
from training.encodings import Encoding
from training.image_shapes import check_size, level_number, level_sizes
from training.tfrecord import RecordFile
from training.unfinished import Unfinished
from training.work_directory import WorkDirectory

_T = TypeVar("_T")

MOST_LISTED = 1000  # of the images left out, in memory; the file lists all
_SAVE_SEC = 2.0  # between two notes of how far the work is
_SAVE_SHARE = 0.05  # of the time may go into them


class DatasetWriter:
    """Writes one data set. A context manager: leaving the block normally completes it; an exception leaves no data set,
    and with a key what was written, so that the same work may go on.

    Args:
        path: directory to make; its name is the prefix of the files. Its parents are made if they are missing.
        shape: (C, H, W) of the images.
        encoding: of the records.
        label_size: numbers per label, 0: no labels.
        class_names: of one-hot or multi-hot labels.
        source: goes into `dataset.json`, for people.
        overwrite: replace an existing data set.
        key: what the content depends on; with it, an interrupted work is taken up again (see `Unfinished`).
        work: the work directory of the target, if this process has locked it before.
    Attributes:
        num_images, num_validation: written so far.
        num_skipped: left out. skipped: (name, reason) of the first of them.
        state: what the last `checkpoint` of an interrupted work said, else None.
    Raises:
        UserError: the directory is not empty, or cannot be written; another process writes it; no image was written in
            the whole block.
    """

    def __init__(
        self,
        path: os.PathLike | str,
        shape: tuple[int, int, int],
        encoding: Encoding | None = None,
        label_size: int = 0,
        class_names: Sequence[str] = (),
        source: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        key: Mapping[str, Any] | None = None,
        work: WorkDirectory | None = None,
    ) -> None:
        self.path = Path(os.path.realpath(path))
        self.shape = tuple(shape)
        self.encoding = encoding or Encoding()
        check_size(*self.shape[1:])
        self._label_size = label_size
        self._class_names = tuple(class_names)
        self._source = dict(source or {})
        self._resumable = key is not None
        check_target(self.path, overwrite)
        self._work = Unfinished(self.path, key, overwrite, work)
        before = self._work.state or {}
        self.state: dict[str, Any] | None = before.get("user")
        self.num_images: int = before.get("num_images", 0)
        self.num_validation: int = before.get("num_validation", 0)
        self.num_skipped: int = before.get("num_skipped", 0)
        self.skipped: list[tuple[str, str]] = [tuple(pair) for pair in before.get("skipped", ())[: self.num_skipped]]
        self._next_save = time.monotonic() + _SAVE_SEC

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of the levels that are stored, the largest first."""
        sizes = level_sizes(*self.shape[1:])
        return sizes if self.encoding.name == "raw" else sizes[:1]

    @property
    def work_directory(self) -> Path:
        """Where the data set grows; other files in it are deleted in the end."""
        return self._work.root

    def _names(self, prefix: str = "") -> list[str]:
        return [f"{prefix}{self.path.name}-r{level_number(*size):02d}.tfrecords" for size in self.sizes]

    def _file(self, name: str) -> BinaryIO:
        return self._work.open(f"{self.path.name}/{name}")

    def append(
        self, records: Sequence[bytes | memoryview], label: np.ndarray | None = None, validation: bool = False
    ) -> None:
        """Appends an image.

        Args:
            records: of the levels, as `Encoding.records` makes them.
            label: [label_size], if the data set has labels.
            validation: the image belongs to the held-out set.
        Raises:
            ValueError: another number of levels, or a label of another shape.
            UserError: a label that is not finite, or no room on the disk.
        """
        prefix = VALIDATION_PREFIX if validation else ""
        number = self.num_validation if validation else self.num_images
        vector = b""
        if self._label_size:
            values = np.asarray(label, "<f4")
            if values.shape != (self._label_size,):
                raise ValueError(f"label {number}: shape {values.shape}, expected ({self._label_size},)")
            if not np.isfinite(values).all():
                raise UserError(f"{self.path}: label {number} to be written is not finite, and nothing could read it")
            vector = values.tobytes()
        with self._on_disk():
            for name, record in zip(self._names(prefix), records, strict=True):
                self._file(name).write(record)
            if vector:
                self._work.open(f"{prefix}labels").write(vector)
        if validation:
            self.num_validation += 1
        else:
            self.num_images += 1

    def add(self, image: np.ndarray, label: np.ndarray | None = None, validation: bool = False) -> None:
        """Encodes and appends an image.

        Args:
            image: uint8 or float [C, H, W] in [0, 255]; floats are rounded per level, not before.
            label: [label_size], if the data set has labels.
            validation: the image belongs to the held-out set.
        Raises:
            ValueError: another shape.
        """
        if image.shape != self.shape:
            raise ValueError(f"image {self.num_images}: shape {image.shape}, expected {self.shape}")
        self.append(self.encoding.records(image), label, validation)

    def skip(self, name: str, reason: str) -> None:
        """Notes that something was left out."""
        row = (name.encode("utf-8", "backslashreplace").decode(), " ".join(reason.split()))
        if len(self.skipped) < MOST_LISTED:
            self.skipped.append(row)
        self.num_skipped += 1
        line = io.StringIO(newline="")
        if self.num_skipped == 1:
            csv.writer(line).writerow(("file", "reason"))
        csv.writer(line).writerow(row)
        with self._on_disk():
            self._work.open(SKIPPED_NAME).write(line.getvalue().encode("utf-8", "backslashreplace"))

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Notes that work may go on from here, on the disk from time to time.

        Args:
            state: given back as attribute when the work is taken up.
        """
        self.state = dict(state)
        whole = {"user": self.state, "skipped": self.skipped}
        whole |= {name: getattr(self, name) for name in ("num_images", "num_validation", "num_skipped")}
        self._work.mark(whole)
        start = time.monotonic()
        if start > self._next_save:
            self.save()
            now = time.monotonic()
            self._next_save = now + max(_SAVE_SEC, (now - start) / _SAVE_SHARE)

    def save(self) -> None:
        """Brings everything up to the last checkpoint to the disk.

        Raises:
            UserError: it takes no more.
        """
        with self._on_disk():
            self._work.save()

    def unless_bad(self, images: Iterator[_T]) -> Iterator[_T]:
        """As they come. If one cannot be had, the work does not go on from there: its source is another one then."""
        try:
            yield from images
        except UserError:
            self._resumable = False
            raise

    @contextlib.contextmanager
    def _on_disk(self) -> Iterator[None]:
        """What the disk refuses becomes a UserError."""
        try:
            yield
        except OSError as err:
            after = "; with more room the same command goes on from there" if self._resumable else ""
            raise UserError(f"cannot write {self.path}: {err.strerror or err}{after}") from err

    def _finish(self) -> None:
        if self.num_images == 0:
            first = f" (the first: {': '.join(self.skipped[0])})" if self.skipped else ""
            raise UserError(f"{self.path}: no image to write, {self.num_skipped} skipped{first}")
        self.checkpoint(self.state or {})
        self.save()
        labels = self._write_labels("", self.num_images)
        if self.num_validation:
            self._write_labels(VALIDATION_PREFIX, self.num_validation)
        if self.num_skipped:
            _copy(self._work.root / SKIPPED_NAME, self._work.files / SKIPPED_NAME)
        largest = RecordFile(self._work.files / self._names()[0])
        channels, height, width = self.shape
        info = DatasetInfo(
            resolution=max(height, width),
            channels=channels,
            num_images=self.num_images,
            label_size=self._label_size,
            content_hash=content_hash(largest, labels, self.num_images),
            height=height,
            width=width,
            num_validation=self.num_validation,
            class_names=self._class_names,
            encoding=self.encoding.name,
            levels=tuple(max(size) for size in self.sizes),
            source={**self._source, "num_skipped": self.num_skipped},
        )
        largest.close()
        with open(self._work.files / INFO_NAME, "w", encoding="utf-8") as out:
            out.write(info.to_json())
            out.flush()
            os.fsync(out.fileno())
        self._work.publish(self.path)

    def _write_labels(self, prefix: str, count: int) -> np.ndarray:
        """Makes the file of labels; they stay on the disk, because there may be a great many numbers."""
        if not self._label_size:
            return np.zeros((count, 0), np.float32)
        path = self._work.files / f"{prefix}{self.path.name}-rxx.labels"
        with open(path, "wb") as out, open(self._work.root / f"{prefix}labels", "rb") as numbers:
            write_label_header(out, count, self._label_size)
            shutil.copyfileobj(numbers, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        return np.load(path, mmap_mode="r", allow_pickle=False)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                with self._on_disk():
                    self._finish()
        finally:
            nothing = not (self.num_images or self.num_validation)
            if self._work.root.exists() and (nothing or not self._resumable):
                self._work.remove()
            self._work.close()


def _copy(source: Path, target: Path) -> None:
    with open(source, "rb") as data, open(target, "wb") as out:
        shutil.copyfileobj(data, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())
