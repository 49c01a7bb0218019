"""The bytes of a network file: from a path, a URL or a file object, uncompressed, and recognised if it is no pickle."""

import contextlib
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dnnlib.snapshot.arrays import PickleError
from dnnlib.snapshot.files import list_snapshots
from dnnlib.util import UserError, open_url

_MAX_FILE_BYTES = 16 << 30
# Weights hardly shrink. What grows more than this was made to fill the memory.
_GZIP_RATIO, _GZIP_SLACK = 20, 64 << 20
_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_START = 4096  # bytes in which another kind of file shows
# Names by which published commands call published files, and where they are now.
_ALIASES = {"gdrive:networks/": "https://nvlabs-fi-cdn.nvidia.com/stylegan2/networks/"}

_CONVERT = "run_surgery.py convert FILE net.pkl --format tf"
_FOREIGN = (
    (_GZIP, "gzip inside of gzip: unpack it once"),
    (b"PK\x03\x04", f"a zip archive (perhaps a PyTorch checkpoint, or arrays in .npz: for these {_CONVERT})"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a numpy file"),
    (b"\x89PNG", "an image"),
    (b"version https://git-lfs", "a Git LFS pointer: the file itself was not fetched (git lfs pull)"),
    (b"<", "a web page or XML: the download went wrong, perhaps a sign-in page"),
    (b"{", "JSON text"),
)


def read_bytes(source: os.PathLike | str | BinaryIO, **open_options: object) -> tuple[bytes, str]:
    """(content, name for error texts) of a network file; gzip is unpacked.

    Args:
        source: path, URL, published name (`gdrive:networks/NAME.pkl`), run directory, whose newest snapshot is meant,
            or a binary file object read from its position on.
        open_options: of `dnnlib.util.open_url`.
    Raises:
        UserError: not readable, empty, not a pickle, damaged gzip, or too large; the text starts with the name.
    """
    if hasattr(source, "read"):
        where = str(getattr(source, "name", "network file"))
        data = _read_limited(source, where)
    else:
        with _open(source, open_options) as (file, where):
            data = _read_limited(file, where)
    if data[:2] == _GZIP:
        data = _gunzip(data, where)
    _check_start(data[:_START], where)
    return data, where


@contextlib.contextmanager
def open_stream(source: os.PathLike | str) -> Iterator[tuple[BinaryIO, int, str]]:
    """Context manager: (file, its size in bytes, name for error texts) of a network file that is not read yet.

    The file is seekable, at its start and uncompressed; of gzip all is unpacked into memory. Errors are those of
    `read_bytes`, and so are the places that `source` may be, but for file objects.
    """
    with _open(source, {}) as (file, where):
        start = file.read(len(_GZIP))
        file.seek(0)
        if start == _GZIP:
            file = io.BytesIO(_gunzip(_read_limited(file, where), where))
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        _check_start(file.read(_START), where)
        file.seek(0)
        yield file, size, where


def identify(source: os.PathLike | str) -> tuple[str, str]:
    """(name, SHA-256) of a network file as it lies on the disk: of a run directory, of its newest snapshot."""
    with _open(source, {"verbose": False}) as (file, where):
        return where, hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _open(source: os.PathLike | str, open_options: dict[str, object]) -> Iterator[tuple[BinaryIO, str]]:
    where = os.fspath(source)
    if os.path.isdir(where):
        where = newest_snapshot(where)
    with open_url(resolve_alias(where), **open_options) as file:
        yield (file if file.seekable() else io.BytesIO(_read_limited(file, where))), where


def _check_start(start: bytes, where: str) -> None:
    """Raises `UserError` for the first bytes of a file that is something else."""
    if not start:
        raise UserError(f"{where}: empty, expected a network pickle")
    # First: this is the length of a text, under 4 GiB, and the text; a length may begin like any other file.
    if start[4:8] == bytes(4) and start[8:10] == b'{"':
        raise UserError(f"{where}: not a network pickle but a .safetensors file: {_CONVERT}")
    for magic, what in _FOREIGN:
        if start.lstrip()[: len(magic)].lower() == magic.lower():
            raise UserError(f"{where}: not a network pickle but {what}")
    if start[:1] == b"\x08" and start[2:3] == b"\x12":  # versions of the format, then its producer
        raise UserError(f"{where}: not a network pickle but an ONNX model, which holds no trainable network")


def newest_snapshot(directory: str) -> str:
    """Path of the `network-snapshot-*.pkl` of the most images in a run directory. Raises `UserError` if it has none."""
    found = list_snapshots(Path(directory))
    if not found:
        raise UserError(f"{directory}: a directory without network-snapshot-*.pkl, expected a network file (*.pkl)")
    return str(found[-1])


def resolve_alias(place: str) -> str:
    """The URL that a published name stands for; any other text as it is."""
    for alias, url in _ALIASES.items():
        if place.startswith(alias):
            return url + place.removeprefix(alias)
    return place


def _read_limited(file: BinaryIO, where: str) -> bytes:
    # As much as there is: for as much as there may be, memory would be wanted that many machines do not have.
    if file.seekable():
        start = file.tell()
        size = file.seek(0, io.SEEK_END) - start
        file.seek(start)
        data = file.read(min(size, _MAX_FILE_BYTES) + 1)
    else:  # a pipe does not tell
        chunks, size = [], 0
        while size <= _MAX_FILE_BYTES and (chunk := file.read(_CHUNK)):
            chunks.append(chunk)
            size += len(chunk)
        data = b"".join(chunks)
    if len(data) > _MAX_FILE_BYTES:
        raise UserError(f"{where}: larger than {_MAX_FILE_BYTES >> 30} GiB, expected a network pickle")
    return data


def _gunzip(data: bytes, where: str) -> bytes:
    limit = _GZIP_RATIO * len(data) + _GZIP_SLACK
    out = bytearray()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            while chunk := file.read(_CHUNK):
                out += chunk
                if len(out) > limit:
                    raise PickleError(f"{where}: refused: unpacks to more than {_GZIP_RATIO} times its size")
    except (OSError, EOFError, zlib.error) as err:
        raise UserError(f"{where}: damaged gzip file ({err})") from err
    return bytes(out)
