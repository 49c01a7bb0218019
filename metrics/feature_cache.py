"""Features of reals on disk, for the metrics that need them all and not their statistics alone.

One .npy file per set, mapped into memory when it is read, with a checksum of all that is before it in its end (readers
of .npy files pass over it). A set that would be larger than a limit is computed anew each time: the full sets of large
data sets take gigabytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from typing import IO

import numpy as np

from dnnlib.util import UserError, atomic_write, make_cache_dir_path
from metrics.real_cache import RealKey

MAX_BYTES = 2 << 30
_READ_ROWS = 4096
_READ_BYTES = 1 << 20
_DIGEST_BYTES = 16
_MARK = b"blake2b "  # before the checksum


def features_path(key: RealKey, dtype: str, cache_dir: os.PathLike | str | None = None) -> str:
    """File for these features; `cache_dir` None is the folder `metrics` of the user's cache."""
    folder = make_cache_dir_path("metrics") if cache_dir is None else os.fspath(cache_dir)
    digest = hashlib.sha256(f"features {dtype} {key.text()}".encode()).hexdigest()
    return os.path.join(folder, f"features-{key.feature_network}-{digest[:32]}.npy")


def load_features(
    key: RealKey, num_features: int, dtype: str, cache_dir: os.PathLike | str | None = None
) -> Iterator[np.ndarray] | None:
    """The features [n, D] at a time if they are there, else None. A damaged file is reported on stderr and counts as
    absent."""
    path = features_path(key, dtype, cache_dir)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        _check_sum(path, array.offset + array.nbytes)
        if array.shape != (key.count, num_features) or array.dtype != np.dtype(dtype):
            raise ValueError(f"expected {dtype} {[key.count, num_features]}, found {array.dtype} {list(array.shape)}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as err:
        print(f"warning: ignoring {path}: {err}; the features are computed again", file=sys.stderr)
        return None
    return (np.array(array[i : i + _READ_ROWS]) for i in range(0, key.count, _READ_ROWS))


def keeping(
    batches: Iterator[np.ndarray],
    key: RealKey,
    num_features: int,
    dtype: str,
    cache_dir: os.PathLike | str | None = None,
    max_bytes: int = MAX_BYTES,
) -> Iterator[np.ndarray]:
    """The same batches [n, D], which are written to the disk as they pass and are there once all have passed.

    A set beyond `max_bytes`, or a cache that cannot be written, is reported on stderr and costs time only.
    """
    size = key.count * num_features * np.dtype(dtype).itemsize
    if size > max_bytes:
        print(
            f"note: the features of {key.count} reals take {size / 1e9:.1f} GB and are not kept (limit "
            f"{max_bytes / 1e9:.1f} GB): they are computed again each time",
            file=sys.stderr,
        )
        yield from batches
        return
    done = False
    try:
        with contextlib.ExitStack() as stack:
            file = _open(stack, features_path(key, dtype, cache_dir), (key.count, num_features), dtype)
            for batch in batches:
                file = file and _write(file, batch, dtype)
                yield batch
            done = True
            if not (file and _finish(file)):
                raise _Abandoned
    except _Abandoned:
        return
    except UserError as err:
        if not done:  # Not of the file, but of what the features are made of.
            raise
        _warn(err)


class _Abandoned(Exception):
    """Makes `atomic_write` leave nothing."""


class _Summed:
    """A file that keeps the checksum of what is written to it."""

    def __init__(self, file: IO) -> None:
        self._file, self._sum = file, _new_sum()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._sum.update(data)

    def end(self) -> bytes:
        """What is written last."""
        return _MARK + self._sum.digest()


def _new_sum() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=_DIGEST_BYTES)


def _check_sum(path: str, size: int) -> None:
    """Raise `ValueError` unless the file is `size` bytes with their checksum after them."""
    found, left = _new_sum(), size
    with open(path, "rb") as file:
        while left and (block := file.read(min(left, _READ_BYTES))):
            found.update(block)
            left -= len(block)
        end = file.read(len(_MARK) + _DIGEST_BYTES + 1)
    if not end.startswith(_MARK):
        raise ValueError("it has no checksum")
    if end != _MARK + found.digest():
        raise ValueError("its checksum differs")


def _warn(err: Exception) -> None:
    print(f"warning: features of reals not kept: {err}", file=sys.stderr)


def _open(stack: contextlib.ExitStack, path: str, shape: tuple[int, int], dtype: str) -> _Summed | None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = _Summed(stack.enter_context(atomic_write(path)))
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
    except (OSError, UserError) as err:
        _warn(err)
        return None
    return file


def _write(file: _Summed, batch: np.ndarray, dtype: str) -> _Summed | None:
    return _write_bytes(file, np.ascontiguousarray(batch, dtype).tobytes())


def _finish(file: _Summed) -> _Summed | None:
    return _write_bytes(file, file.end())


def _write_bytes(file: _Summed, data: bytes) -> _Summed | None:
    try:
        file.write(data)
    except OSError as err:
        _warn(err)
        return None
    return file
