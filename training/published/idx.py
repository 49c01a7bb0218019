"""The idx format of MNIST and its kin: a magic number with type and rank, the sizes of the axes, the values."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from dnnlib.util import UserError

_UINT8 = 0x08  # the type code
_MAX_BYTES = 8 << 30


def read_idx(path: os.PathLike | str, rank: int) -> np.ndarray:
    """An array of bytes from an idx file, gzipped or not: uint8, `rank` axes.

    Raises:
        UserError: missing, of another format, type or rank, cut off, or longer than it says.
    """
    path = Path(path)
    try:
        with open(path, "rb") as raw:
            gzipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if gzipped else raw as file:
                head = file.read(4 + 4 * rank)
                shape = _shape_of(path, head, rank)
                size = math.prod(shape)
                data = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as err:
        reason = getattr(err, "strerror", None) or err
        raise UserError(f"cannot read {path}: {reason}; fetch the file again") from err
    if len(data) != size:
        what = f"{size - len(data)} bytes are missing" if len(data) < size else "it goes on after them"
        raise UserError(f"{path}: expected {size} values of shape {list(shape)}, {what}; fetch the file again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _shape_of(path: Path, head: bytes, rank: int) -> tuple[int, ...]:
    expected = bytes((0, 0, _UINT8, rank))
    if head[:4] != expected:
        raise UserError(
            f"{path}: starts with {head[:4].hex(' ') or 'nothing'}, expected {expected.hex(' ')}: "
            f"not an idx file of bytes with {rank} axes"
        )
    if len(head) != 4 + 4 * rank:
        raise UserError(f"{path}: ends within its head; fetch the file again")
    shape = struct.unpack(f">{rank}I", head[4:])
    if math.prod(shape) > _MAX_BYTES:
        raise UserError(f"{path}: claims {math.prod(shape)} values, more than {_MAX_BYTES}; refused")
    return shape
