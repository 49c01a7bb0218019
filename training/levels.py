"""The record files of a data set by size, and which of them an image of some size comes from."""

from __future__ import annotations

from collections.abc import Mapping

from dnnlib.util import UserError
from training.image_shapes import level_sizes
from training.tfrecord import RecordFile


class Levels:
    """The levels of a data set: stored ones, and those that are computed from the largest file.

    Args:
        files: by larger side, largest first, as `find_levels` gives them; not empty.
    """

    def __init__(self, files: Mapping[int, RecordFile]) -> None:
        self._files = files
        # Largest first: means of means are exact only from the full size, lower levels are rounded.
        self._shapes = {side: records.read_image(0).shape for side, records in files.items()}

    def shape(self, resolution: int | None, where: str) -> tuple[int, int, int]:
        """(C, H, W) of the level whose larger side is `resolution`; None: the largest.

        Raises:
            UserError: no such level; lists those that there are.
        """
        known: dict[int, tuple[int, int, int]] = {}
        for channels, height, width in self._shapes.values():
            for size in level_sizes(height, width):
                known.setdefault(max(size), (channels, *size))
        known |= self._shapes
        if resolution is None:
            return next(iter(self._shapes.values()))
        if resolution not in known:
            there = ", ".join(str(side) for side in sorted(known, reverse=True))
            raise UserError(f"{where} has no images of resolution {resolution}; there are: {there}")
        return known[resolution]

    def source(self, size: tuple[int, int]) -> tuple[RecordFile, int]:
        """(file, number of halvings) that give images of `size` (H, W).

        Raises:
            ValueError: no file gives such images.
        """
        height, width = size
        for side, (_, h, w) in self._shapes.items():
            if (h, w) == (height, width):
                return self._files[side], 0
        for side, (_, h, w) in self._shapes.items():
            halvings = (h // height).bit_length() - 1
            if (height << halvings, width << halvings) == (h, w):
                return self._files[side], halvings
        raise ValueError(f"no file gives images of {width}x{height}")

    def close(self) -> None:
        """Closes the files."""
        for records in self._files.values():
            records.close()
