"""Disk space: how much is there, how much a run will write."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from dnnlib.util import UserError


def format_bytes(count: float) -> str:
    """A number of bytes as text with 1024-based units: `512 B`, `1.5 KiB`, `20.0 GiB`."""
    if abs(count) < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if abs(count) < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def free_bytes(path: os.PathLike | str) -> int:
    """Bytes that this user can still write at `path`, which need not exist yet."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


@dataclass(frozen=True)
class DiskSpace:
    """Free and expected bytes at a place. `str()` is a line for a person."""

    path: str
    free: int
    expected: int

    @property
    def enough(self) -> bool:
        """Whether what is expected fits."""
        return self.expected <= self.free

    def __str__(self) -> str:
        return f"{self.path}: about {format_bytes(self.expected)} to write, {format_bytes(self.free)} free"


def check_disk(path: os.PathLike | str, expected: int, remedy: str = "") -> DiskSpace:
    """Compares free space with what will be written (bytes).

    Raises:
        UserError: it does not fit; the text ends with `remedy`, e.g. which option writes less.
    """
    space = DiskSpace(os.fspath(path), free_bytes(path), int(expected))
    if not space.enough:
        raise UserError(f"not enough disk space at {space}" + (f"; {remedy}" if remedy else ""))
    return space
