"""Data set directories written record by record, in any encoding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.dataset_files import DatasetInfo, content_hash
from training.encodings import Encoding
from training.image_shapes import level_number, level_sizes
from training.tfrecord import RecordFile


def write_set(
    path: Path,
    images: Sequence[np.ndarray],
    encoding: str = "raw",
    quality: int | None = None,
    labels: np.ndarray | None = None,
    held_out: Sequence[np.ndarray] = (),
    held_out_labels: np.ndarray | None = None,
    class_names: tuple[str, ...] = (),
) -> Path:
    """A directory with records, labels and dataset.json of uint8 images [C, H, W]."""
    path.mkdir(parents=True)
    channels, height, width = images[0].shape
    sizes = level_sizes(height, width) if encoding == "raw" else ((height, width),)
    for prefix, part, table in (("", images, labels), ("validation-", held_out, held_out_labels)):
        if not len(part):
            continue
        records = [Encoding(encoding, quality).records(image) for image in part]
        for number, size in enumerate(sizes):
            file = path / f"{prefix}{path.name}-r{level_number(*size):02d}.tfrecords"
            file.write_bytes(b"".join(levels[number] for levels in records))
        if table is not None:
            with open(path / f"{prefix}{path.name}-rxx.labels", "wb") as out:
                np.save(out, np.asarray(table, np.float32))
    table = np.zeros((len(images), 0), np.float32) if labels is None else np.asarray(labels, np.float32)
    largest = RecordFile(path / f"{path.name}-r{level_number(height, width):02d}.tfrecords")
    info = DatasetInfo(
        resolution=max(height, width),
        channels=channels,
        num_images=len(images),
        label_size=table.shape[1],
        content_hash=content_hash(largest, table, len(images)),
        height=height,
        width=width,
        num_validation=len(held_out),
        class_names=class_names,
        encoding=encoding,
        levels=tuple(max(size) for size in sizes),
    )
    (path / "dataset.json").write_text(info.to_json(), "utf-8")
    return path


def pictures(count: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Random pixels: uint8 [count, C, H, W]."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)
