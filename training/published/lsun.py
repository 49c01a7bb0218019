"""LSUN from its LMDB: image files by key. Squares by a central crop, or wide pictures between black bars."""

from __future__ import annotations

import io
import os
import warnings
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dnnlib.util import UserError
from training.dataset_build import BuildOptions, BuildReport, Item
from training.image_files import FILTERS, crop_and_resize, open_image, planes, to_channels
from training.image_shapes import check_size
from training.published.writing import build_items

_FILE = "data.mdb"
_open: dict[str, Any] = {}  # environments of this process: LMDB forbids to open one twice


def _environment(path: str) -> Any:
    """The open LMDB, read-only.

    Raises:
        UserError: not there, not an LMDB, or the package is missing.
    """
    if path in _open:
        return _open[path]
    try:
        import lmdb
    except ImportError as err:
        raise UserError("LMDB files are read by the package lmdb: pip install lmdb") from err
    file = Path(path, _FILE) if os.path.isdir(path) else Path(path)
    if not file.is_file():
        raise UserError(f"{file} is not there; expected the folder of an LMDB (such as bedroom_train_lmdb), unpacked")
    try:
        # No lock file: the folder may be read-only, and nobody writes to it.
        _open[path] = lmdb.open(
            path, subdir=os.path.isdir(path), readonly=True, lock=False, readahead=False, create=False
        )
    except lmdb.Error as err:
        raise UserError(f"cannot read {path}: {err}; expected an LMDB with image files as values") from err
    return _open[path]


def _close(path: str) -> None:
    if path in _open:
        _open.pop(path).close()


class KeyTable(Sequence[Item]):
    """The keys of an LMDB as items, made when asked for: a million keys take little more memory than their bytes.

    Keys are bytes; as Latin-1 they are text from which the bytes come back.
    """

    def __init__(self, path: str, keys: Iterable[bytes]) -> None:
        self._path = path
        self._bytes = bytearray()
        self._ends = array("q")
        for key in keys:
            self._bytes += key
            self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = self._ends[index - 1] if index else 0
        return Item(self._bytes[start : self._ends[index]].decode("latin1"), self._path)


def list_keys(path: os.PathLike | str) -> KeyTable:
    """All keys in the order of the file, which is that of their bytes.

    Raises:
        UserError: see `_environment`; or the file is damaged.
    """
    path = os.fspath(path)
    environment = _environment(path)
    import lmdb

    try:
        with environment.begin() as transaction, transaction.cursor() as cursor:
            return KeyTable(path, cursor.iternext(keys=True, values=False))
    except lmdb.Error as err:
        raise UserError(f"{path}: damaged ({err}); fetch the file again") from err


def read_value(item: Item) -> Image.Image:
    """The picture under a key, RGB.

    Raises:
        UserError, OSError or what the decoder raises: it is no readable image.
    """
    with _environment(item.path).begin() as transaction:
        value = transaction.get(item.name.encode("latin1"))
    if not value:
        raise UserError("no image under this key")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_image(io.BytesIO(value)) as image:
            image.load()  # while its data are open
            return to_channels(image, 3)


def render_square(item: Item, resolution: int, filter_name: str) -> np.ndarray:
    """The largest central square of a picture, resized: uint8 [3, resolution, resolution]."""
    return planes(crop_and_resize(read_value(item), resolution, filter_name))


def fit_wide(image: Image.Image, width: int, height: int, filter_name: str) -> Image.Image:
    """The whole width and the central rows of a picture, resized to `width` x `height`, between black bars.

    Args:
        image: RGB.
        width, height: in pixels, height <= width.
    Returns:
        A square of `width` pixels.
    Raises:
        UserError: the picture would have to be enlarged, or is flatter than `width` x `height`.
    """
    rows = round(height * image.width / width)
    if image.width < width or image.height < height:
        raise UserError(f"{image.width}x{image.height} is smaller than {width}x{height}")
    if image.height < rows:
        raise UserError(f"{image.width}x{image.height} is wider than the shape {width}x{height}")
    top = (image.height - rows) // 2
    image = image.crop((0, top, image.width, top + rows))
    if image.size != (width, height):
        image = image.resize((width, height), FILTERS[filter_name])
    square = Image.new("RGB", (width, width))
    square.paste(image, (0, (width - height) // 2))
    return square


def render_wide(item: Item, width: int, height: int, filter_name: str) -> np.ndarray:
    """A picture as `fit_wide` makes it: uint8 [3, width, width]."""
    return planes(fit_wide(read_value(item), width, height, filter_name))


def _create(
    path: os.PathLike | str,
    source: os.PathLike | str,
    render: Callable[[Item], np.ndarray],
    resolution: int,
    facts: dict[str, Any],
    options: BuildOptions,
    say: Callable[[str], None],
) -> BuildReport:
    try:
        return build_items(path, list_keys(source), render, resolution, facts, options, say)
    finally:
        _close(os.fspath(source))


def create_lsun(
    path: os.PathLike | str,
    source: os.PathLike | str,
    resolution: int,
    filter_name: str,
    options: BuildOptions,
    say: Callable[[str], None] = print,
) -> BuildReport:
    """A category of LSUN as published: central squares, in the order of the LMDB unless `options` says shuffle.

    Args:
        path: directory to make.
        source: folder of the LMDB.
        resolution: side in pixels, a power of two.
        filter_name: of `FILTERS`.
    Raises:
        UserError: see `list_keys` and `build`.
    """
    check_size(resolution, resolution)
    facts = {"kind": "lsun", "folder": str(source), "filter": filter_name}
    render = partial(render_square, resolution=resolution, filter_name=filter_name)
    return _create(path, source, render, resolution, facts, options, say)


def create_lsun_wide(
    path: os.PathLike | str,
    source: os.PathLike | str,
    width: int,
    height: int,
    filter_name: str,
    options: BuildOptions,
    say: Callable[[str], None] = print,
) -> BuildReport:
    """A category of LSUN as wide pictures in squares with black bars: see `fit_wide`, which skips what does not fit.

    Args:
        path: directory to make.
        source: folder of the LMDB.
        width: of the pictures and of the squares in pixels, a power of two.
        height: of the pictures.
        filter_name: of `FILTERS`.
    Raises:
        UserError: see `list_keys` and `build`; or sizes that cannot be.
    """
    check_size(width, width, "--width:")
    if not 1 <= height <= width:
        raise UserError(f"--height is {height}, expected 1 to {width}, the width")
    facts = {"kind": "lsun_wide", "folder": str(source), "size": f"{width}x{height}", "filter": filter_name}
    render = partial(render_wide, width=width, height=height, filter_name=filter_name)
    return _create(path, source, render, width, facts, options, say)
