"""Reads PyTorch checkpoints into numpy arrays without PyTorch.

Both layouts that `torch.save` has written are read: the zip archive (since version 1.6) and the row of pickles before
it. The pickles are interpreted by `torch_pickle`, which executes nothing; the tensors they describe are then checked
against the bytes that are there, and copied out.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from dnnlib.snapshot.arrays import without_content
from dnnlib.snapshot.instructions import Payload
from dnnlib.snapshot.torch_pickle import STORAGE_DTYPES, Storage, TensorRecord, read_pickle, shorten
from dnnlib.util import UserError, list_nearest

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_FILE_BYTES = 4 << 30
_MAX_DEPTH = 50
_STORAGE_HEAD = 2048  # bytes of a storage saved alone before its numbers begin: some 300
_MAX_GROWTH = 4  # tensors may share storage, but not so often that a small file fills the memory


def read_checkpoint(path: os.PathLike | str) -> Any:
    """What `torch.load(path)` would give, tensors as numpy arrays (bfloat16 widened to float32).

    Returns dicts, lists, tuples, strings, numbers, booleans, None and C-contiguous arrays.
    Raises `UserError`: the file is missing, cut short, not a checkpoint, or holds anything but tensor data.
    """
    try:
        size = os.path.getsize(path)
        if size > _MAX_FILE_BYTES:
            raise UserError(f"{path}: {size} bytes is more than the {_MAX_FILE_BYTES} that this reader takes")
        with open(path, "rb") as file:
            buffer = io.BytesIO(file.read())
    except OSError as err:
        raise UserError(f"cannot open {path}: {err.strerror or err}") from err
    try:
        value, storages = _read_zip(buffer) if buffer.getbuffer()[:2] == b"PK" else _read_legacy(buffer)
        return _Resolver(storages, _MAX_GROWTH * size).resolve(value)
    except UserError as err:
        raise UserError(f"{path}: {err}") from None
    # What pickletools, zipfile, struct and the interpreter raise on damaged input.
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, TypeError, LookupError) as err:
        raise UserError(f"{path}: not a readable PyTorch checkpoint: {err}") from err


def read_state_dict(path: os.PathLike | str, expected: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The tensors of a state dict named in `expected`, which gives their shapes. Other names are ignored.

    Raises `UserError` as `read_checkpoint`, and naming the first tensor that is missing or has another shape.
    """
    state = read_checkpoint(path)
    if not isinstance(state, dict):
        raise UserError(f"{path}: expected a dictionary of tensors, found a {type(state).__name__}")
    for name, shape in expected.items():
        value = state.get(name)
        if not isinstance(value, np.ndarray):
            raise UserError(f"{path}: no tensor {name!r}: {list_nearest(name, state)}"[:500])
        if value.shape != shape:
            raise UserError(f"{path}: {name} has shape {list(value.shape)}, expected {list(shape)}")
    return {name: state[name] for name in expected}


def read_storage(data: bytes | memoryview | Payload) -> tuple[Storage, memoryview | Payload]:
    """(description, bytes) of a storage that was saved alone, as a tensor inside an ordinary pickle carries it.

    Of a `Payload` only the description is read.

    Raises `UserError`: damaged, or anything but one storage in the older layout of `torch.save`.
    """
    head = io.BytesIO(data.head(_STORAGE_HEAD) if isinstance(data, Payload) else data)
    try:
        value, places = _legacy_layout(head, len(data))
    except (RuntimeError, ValueError, EOFError, TypeError, LookupError) as err:
        raise UserError(f"damaged PyTorch storage: {' '.join(str(err).split())[:120]}") from err
    if not isinstance(value, Storage) or value.key not in places:
        raise UserError(f"expected a PyTorch storage, found something of type {type(value).__name__.strip('_')}")
    begin, end = places[value.key]
    return value, data.part(begin, end) if isinstance(data, Payload) else head.getbuffer()[begin:end]


def tensor_array(tensor: TensorRecord, data: memoryview | Payload) -> np.ndarray:
    """The tensor, copied out of its storage's bytes: C order, native byte order, bfloat16 widened to float32.

    Of a `Payload`, an array without content.

    Raises `UserError` unless the tensor lies within its storage, and the storage has as many bytes as it declares.
    """
    storage, dtype = tensor.storage, STORAGE_DTYPES[tensor.storage.kind]
    if len(data) != storage.numel * dtype.itemsize:
        raise UserError(
            f"its storage {storage.key!r} has {len(data)} bytes, expected {storage.numel} x {dtype.itemsize}"
        )
    count = math.prod(tensor.size)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.size, tensor.stride, strict=True))
    if count > storage.numel or (count and last >= storage.numel):
        raise UserError(
            f"a tensor of size {list(tensor.size)}, stride {list(tensor.stride)} and offset {tensor.offset} "
            f"does not fit its storage {storage.key!r} of {storage.numel} elements"
        )
    if isinstance(data, Payload):
        return without_content(tensor.size, np.dtype(np.float32) if storage.kind == "BFloat16Storage" else dtype)
    if not count:
        array = np.zeros(tensor.size, dtype)
    else:
        strides = [s * dtype.itemsize for s in tensor.stride]
        array = np.ndarray(tensor.size, dtype, data, tensor.offset * dtype.itemsize, strides)
    if storage.kind == "BFloat16Storage":
        wide = array.astype(np.uint32, order="C")
        wide <<= 16
        return wide.view(np.float32)
    return array.astype(dtype.newbyteorder("="), order="C")


def _read_zip(buffer: io.BytesIO) -> tuple[Any, dict[str, memoryview]]:
    with zipfile.ZipFile(buffer) as archive:
        entries: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            if entries.setdefault(info.filename, info) is not info:
                raise UserError(f"its entry {info.filename!r} is there twice")
        roots = [name.removesuffix("data.pkl") for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise UserError(f"expected one data.pkl in the archive, found {len(roots)}")
        for info in entries.values():
            # PyTorch stores without compression; a compressed entry could unpack to any size.
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise UserError(f"its entry {info.filename!r} is compressed; PyTorch stores entries as they are")
        if sum(info.file_size for info in entries.values()) > len(buffer.getbuffer()):
            raise UserError("its entries are together longer than the file: they overlap")
        (root,) = roots
        if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
            raise UserError("it was written on a big-endian machine, which is not supported")
        value = read_pickle(io.BytesIO(archive.read(f"{root}data.pkl")))
        prefix = f"{root}data/"
        return value, {n.removeprefix(prefix): memoryview(archive.read(n)) for n in entries if n.startswith(prefix)}


def _read_legacy(buffer: io.BytesIO) -> tuple[Any, dict[str, memoryview]]:
    view = buffer.getbuffer()
    value, places = _legacy_layout(buffer, len(view))
    return value, {key: view[begin:end] for key, (begin, end) in places.items()}


def _legacy_layout(buffer: io.BytesIO, size: int) -> tuple[Any, dict[str, tuple[int, int]]]:
    """(content, where each storage's bytes begin and end) of a file of `size` bytes, which `buffer` is the start of."""
    try:
        magic = read_pickle(buffer)
    except (ValueError, LookupError, TypeError, UserError):
        magic = None
    if magic != _LEGACY_MAGIC:
        raise UserError("neither a zip archive nor the older layout of torch.save")
    protocol, system = read_pickle(buffer), read_pickle(buffer)
    if protocol != _LEGACY_PROTOCOL:
        raise UserError(
            f"expected protocol {_LEGACY_PROTOCOL} of the older PyTorch layout, found {shorten(protocol):.40}"
        )
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UserError("it was written on a big-endian machine, which is not supported")
    value, keys = read_pickle(buffer), read_pickle(buffer)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise UserError("its list of storages is not a list of names")
    kinds = {storage.key: storage.kind for storage in _find_storages(value)}
    view, position, places = buffer.getbuffer(), buffer.tell(), {}
    for key in keys:
        # A storage that no tensor uses tells nothing of its element size, so what follows it could not be found.
        if key not in kinds:
            raise UserError(f"its storage {key!r} belongs to no tensor")
        begin = position + 8
        end = begin + int.from_bytes(view[position:begin], "little") * STORAGE_DTYPES[kinds[key]].itemsize
        if end > size or begin > len(view):
            raise UserError(f"its storage {key!r} ends at byte {end}, but the file has {size}: it is cut short")
        places[key], position = (begin, end), end
    return value, places


def _find_storages(value: Any) -> list[Storage]:
    found, seen, todo = [], set(), [value]
    while todo:
        item = todo.pop()
        if isinstance(item, (TensorRecord, Storage)):
            found.append(item.storage if isinstance(item, TensorRecord) else item)
        elif isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            todo.extend(item.values() if isinstance(item, dict) else item)
    return found


class _Resolver:
    """Replaces tensor records by arrays, each distinct object once, so that a nest of references cannot explode."""

    def __init__(self, storages: Mapping[str, memoryview], max_bytes: int) -> None:
        self._storages = storages
        self._budget = max_bytes
        self._done: dict[int, Any] = {}
        self._open: set[int] = set()

    def resolve(self, value: Any) -> Any:
        if isinstance(value, (str, int, float)) or value is None:
            return value
        if id(value) in self._open or len(self._open) >= _MAX_DEPTH:
            raise UserError(f"its containers hold themselves or are nested more than {_MAX_DEPTH} deep")
        if id(value) not in self._done:
            self._open.add(id(value))
            self._done[id(value)] = self._make(value)
            self._open.remove(id(value))
        return self._done[id(value)]

    def _make(self, value: Any) -> Any:
        if isinstance(value, TensorRecord):
            return self._array(value)
        if isinstance(value, dict):
            return {key: self.resolve(item) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.resolve(item) for item in value)
        raise UserError(f"it holds a {type(value).__name__.strip('_')} where data is expected; refused")

    def _array(self, tensor: TensorRecord) -> np.ndarray:
        storage = tensor.storage
        if storage.key not in self._storages:
            raise UserError(f"its storage {storage.key!r} is missing")
        array = tensor_array(tensor, self._storages[storage.key])  # no larger than its storage
        self._budget -= array.nbytes
        if self._budget < 0:
            raise UserError(f"its tensors need more than {_MAX_GROWTH} times the size of the file")
        return array
