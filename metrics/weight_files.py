"""Reads files with weights, of whatever kind, as named arrays or as a graph. Nothing in a file is executed."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from dnnlib.snapshot import NetworkState, load_state
from dnnlib.snapshot.torch_reader import read_checkpoint
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError, file_sha256, list_nearest, open_url
from metrics.graph_file import parse_graph
from metrics.weights import WeightSource

GRAPH_MEMBER = "classify_image_graph_def.pb"
EXPECTED = "a frozen graph (.pb, .tgz), a network pickle (.pkl), a PyTorch state dict (.pth), .safetensors or .npz"

_MAX_BYTES = 4 << 30
_MAX_GRAPH_BYTES = 512 << 20
_LEGACY_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number of torch.save before version 1.6
_WEB_PAGE = "a web page or XML: the download went wrong, perhaps a sign-in page"
_FOREIGN = (
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a single numpy array"),
    (b"version https://git-lfs", "a Git LFS pointer: the file itself was not fetched (git lfs pull)"),
    (b"<!doctype", _WEB_PAGE),
    (b"<html", _WEB_PAGE),
    (b"<?xml", _WEB_PAGE),
    (b'{"', "JSON text"),
)


class WeightFile(NamedTuple):
    """The content of a file.

    place: for error texts; kind: what it is, in words; sha256: of the file (of the graph, if that came in an archive);
    tensors: arrays by name, in the order of the file; graph: a frozen graph, else None.
    """

    place: str
    kind: str
    sha256: str
    tensors: dict[str, np.ndarray]
    graph: tf.GraphDef | None = None


def read_weight_file(source: WeightSource) -> WeightFile:
    """Reads a file of any known kind, recognised by its content.

    Raises `UserError`, in one line: it cannot be had, has another checksum, is of no known kind, damaged, or hostile.
    """
    place = source.place
    with open_url(place, sha256=source.sha256) as stream:
        path, head = stream.name, stream.read(64)
        size = os.fstat(stream.fileno()).st_size
    if size > _MAX_BYTES:
        raise UserError(f"{place}: {size} bytes, more than any known weights ({_MAX_BYTES})")
    try:
        return _read(place, path, head, size)
    except UserError as err:
        text = str(err).replace(path, place)
        raise UserError(text if place in text else f"{place}: {text}") from None


def _read(place: str, path: str, head: bytes, size: int) -> WeightFile:
    if not head:
        raise UserError(f"the file is empty; expected {EXPECTED}")
    if head[:4] == b"PK\x03\x04":
        kind, tensors = _read_zip(path)
        return WeightFile(place, kind, file_sha256(path), tensors)
    if head.startswith(_LEGACY_TORCH):
        return WeightFile(place, "PyTorch state dict", file_sha256(path), _state_dict(path))
    if head[:2] == b"\x1f\x8b":
        archived = _read_archive(path)
        if archived is not None:
            return WeightFile(place, "frozen graph", hashlib.sha256(archived).hexdigest(), {}, parse_graph(archived))
        return _read_pickle(place, path)  # pickles may be packed as well
    if head[:1] == b"\x80":
        return _read_pickle(place, path)
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < size:
        return WeightFile(place, "safetensors", file_sha256(path), _read_safetensors(path))
    for magic, what in _FOREIGN:
        if head.lstrip().lower().startswith(magic.lower()):
            raise UserError(f"not a file with weights but {what}; expected {EXPECTED}")
    if head[:1] == b"\x0a":  # the first field of a GraphDef: a node
        data = _read_all(path, _MAX_GRAPH_BYTES)
        return WeightFile(place, "frozen graph", hashlib.sha256(data).hexdigest(), {}, parse_graph(data))
    if head.strip(b"\0") == b"":
        raise UserError(f"the file begins with zeros, it is damaged; expected {EXPECTED}")
    raise UserError(f"of no known kind (it begins with {head[:8].hex(' ')}); expected {EXPECTED}")


def _read_all(path: str, limit: int) -> bytes:
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise UserError(f"more than {limit >> 20} MB, too long for a feature network's graph")
    return data


def _read_archive(path: str) -> bytes | None:
    """The graph in a .tgz; None if the gzip holds no archive."""
    try:
        with tarfile.open(path, mode="r:gz") as archive:
            member = archive.extractfile(GRAPH_MEMBER)
            data = b"" if member is None else member.read(_MAX_GRAPH_BYTES + 1)
    except KeyError:
        raise UserError(f"no file {GRAPH_MEMBER} in the archive; expected the archive of 2015-12-05") from None
    except tarfile.ReadError as err:
        if "not a gzip" in str(err) or "empty" in str(err) or "end of" in str(err):
            raise UserError(f"the archive is damaged ({err}); fetch it again") from err
        return None
    except (tarfile.TarError, EOFError, OSError) as err:
        raise UserError(f"the archive is damaged ({err}); fetch it again") from err
    if not 0 < len(data) <= _MAX_GRAPH_BYTES:
        raise UserError(f"{GRAPH_MEMBER} in the archive is empty or too long; fetch it again")
    return data


def _read_zip(path: str) -> tuple[str, dict[str, np.ndarray]]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError) as err:
        raise UserError(f"the zip archive is damaged or cut short ({err}); fetch it again") from err
    names = [info.filename for info in infos]
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        raise UserError("a TorchScript program, which is never run; expected a state dict: torch.save(m.state_dict())")
    if not names or not all(name.endswith(".npy") for name in names):
        return "PyTorch state dict", _state_dict(path)
    if sum(info.file_size for info in infos) > _MAX_BYTES:
        raise UserError(f"its arrays take more than {_MAX_BYTES} bytes")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return "npz", {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as err:
        raise UserError(f"an .npz that cannot be read as plain arrays: {err}") from err


def _state_dict(path: str) -> dict[str, np.ndarray]:
    state = read_checkpoint(path)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise UserError(f"expected a dictionary of tensors, found a {type(state).__name__}")
    return {str(name): value for name, value in state.items() if isinstance(value, np.ndarray)}


def _read_safetensors(path: str) -> dict[str, np.ndarray]:
    try:
        return load_safetensors(_read_all(path, _MAX_BYTES))
    except (SafetensorError, KeyError, ValueError, TypeError) as err:
        raise UserError(f"a damaged safetensors file, or with types that numpy has not: {err}") from err


def _read_pickle(place: str, path: str) -> WeightFile:
    state = load_state(path)
    if not isinstance(state, NetworkState):
        raise UserError(f"expected a pickle of one feature network, found a {type(state).__name__} in it")
    kind, sha256 = "network pickle", file_sha256(path)
    for value in state["static_kwargs"].values():
        if isinstance(value, bytes) and len(value) > 1 << 16:  # a network that carries a frozen graph
            return WeightFile(place, kind, sha256, {}, parse_graph(value))
    return WeightFile(place, kind, sha256, dict(_variables(state, "")))


def _variables(state: NetworkState, prefix: str) -> list[tuple[str, np.ndarray]]:
    own = [(prefix + name, np.asarray(value)) for name, value in state["variables"]]
    for name, component in state.get("components", {}).items():
        own += _variables(component, f"{prefix}{name}/")
    return own


def pick(file: WeightFile, expected: Mapping[str, tuple[int, ...]], what: str) -> dict[str, np.ndarray]:
    """The arrays named in `expected`, which gives their shapes, as float32. Others are ignored.

    Raises `UserError` naming the first that is missing, has another shape, or holds other than finite numbers.
    """
    for name, shape in expected.items():
        value = file.tensors.get(name)
        if value is None:
            raise UserError(
                f"{file.place}: a {file.kind} without {name!r} of {what}: {list_nearest(name, file.tensors)}"[:500]
            )
        if value.shape != shape:
            raise UserError(f"{file.place}: {name} has shape {list(value.shape)}, expected {list(shape)} for {what}")
        if value.dtype.kind != "f" or not np.isfinite(value).all():
            raise UserError(f"{file.place}: {name} of {what} holds other than finite numbers ({value.dtype})")
    return {name: np.asarray(file.tensors[name], np.float32) for name in expected}
