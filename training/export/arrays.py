"""Networks as plain arrays with a JSON description: .npz (NumPy) and .safetensors. Nothing in them can be executed.

Arrays are named `network/variable`, as `Gs/G_synthesis/4x4/Conv/weight`. The description, everything else that a
network pickle holds but source code, is JSON: an array of text `metadata_json` in .npz, the header's metadata entry
`networks` in .safetensors.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from dnnlib.snapshot import NetworkState
from dnnlib.snapshot.arrays import PickleError, without_content
from dnnlib.snapshot.state import check_state
from dnnlib.util import UserError, atomic_write
from training.surgery.states import flat_variables

_FORMAT = "stylegan2 networks"
_VERSION = 1
_METADATA = "metadata_json"
_SAFETENSORS_TYPES = {"F16": "f2", "F32": "f4", "F64": "f8"}
_MOST_GROWTH = 20  # of a file that is unpacked; weights hardly shrink


def write_npz(networks: Mapping[str, NetworkState], path: os.PathLike | str) -> None:
    """Writes networks by name (G, D, Gs) as .npz, atomically."""
    arrays = _arrays(networks)
    with atomic_write(path) as file:
        np.savez(file, **arrays, **{_METADATA: np.array(_description(networks))})


def read_npz(path: os.PathLike | str) -> dict[str, NetworkState]:
    """Networks by name. Raises `UserError` for damaged files and those of other content."""
    return _read_npz(path, lambda file, name: file[name])


def outline_npz(path: os.PathLike | str) -> dict[str, NetworkState]:
    """`read_npz` without reading weights: arrays have their shape and type, but no content."""
    return _read_npz(path, _npz_outline)


def _read_npz(path: os.PathLike | str, take: Callable[[Any, str], np.ndarray]) -> dict[str, NetworkState]:
    try:
        # Opened here, because numpy leaves a damaged file open.
        with open(path, "rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise UserError(f"{path}: one array, not an archive of arrays that `convert` wrote")
            with file:
                _refuse_bomb(file, path)
                arrays = {name: take(file, name) for name in file.files if name != _METADATA}
                text = str(file[_METADATA]) if _METADATA in file.files else ""
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, MemoryError) as err:
        raise PickleError(f"{path}: not readable as .npz ({' '.join(str(err).split())[:120]})") from err
    return _networks(text, arrays, path)


def _npz_outline(file: Any, name: str) -> np.ndarray:
    with file.zip.open(f"{name}.npy") as entry:
        version = np.lib.format.read_magic(entry)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(entry)
    return without_content(shape, dtype)


def _refuse_bomb(file: Any, path: os.PathLike | str) -> None:
    entries = file.zip.infolist()
    if sum(entry.file_size for entry in entries) > _MOST_GROWTH * os.path.getsize(path):
        raise UserError(f"{path}: refused: unpacks to more than {_MOST_GROWTH} times its size")


def write_safetensors(networks: Mapping[str, NetworkState], path: os.PathLike | str) -> None:
    """Writes networks by name (G, D, Gs) as .safetensors, atomically."""
    data = safetensors.numpy.save(_arrays(networks), metadata={"networks": _description(networks)})
    with atomic_write(path) as file:
        file.write(data)


def read_safetensors(path: os.PathLike | str) -> dict[str, NetworkState]:
    """Networks by name. Raises `UserError` for damaged files and those of other content."""
    return _read_safetensors(path, lambda file, name: file.get_tensor(name))


def outline_safetensors(path: os.PathLike | str) -> dict[str, NetworkState]:
    """`read_safetensors` without reading weights: arrays have their shape and type, but no content."""
    return _read_safetensors(path, _safetensors_outline)


def _read_safetensors(path: os.PathLike | str, take: Callable[[Any, str], np.ndarray]) -> dict[str, NetworkState]:
    try:
        with safetensors.safe_open(path, "numpy") as file:
            text = (file.metadata() or {}).get("networks", "")
            arrays = {name: take(file, name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, ValueError, TypeError, safetensors.SafetensorError) as err:
        raise PickleError(f"{path}: not readable as .safetensors ({' '.join(str(err).split())[:120]})") from err
    return _networks(text, arrays, path)


def _safetensors_outline(file: Any, name: str) -> np.ndarray:
    part = file.get_slice(name)
    kind = _SAFETENSORS_TYPES.get(part.get_dtype())
    if kind is None:
        raise ValueError(f"array {name!r} is {part.get_dtype()}, expected floats")
    return without_content(tuple(part.get_shape()), np.dtype(kind))


READERS: dict[str, Callable[[os.PathLike | str], dict[str, NetworkState]]] = {
    ".npz": read_npz,
    ".safetensors": read_safetensors,
}
OUTLINES: dict[str, Callable[[os.PathLike | str], dict[str, NetworkState]]] = {
    ".npz": outline_npz,
    ".safetensors": outline_safetensors,
}


def _arrays(networks: Mapping[str, NetworkState]) -> dict[str, np.ndarray]:
    return {
        f"{network}/{name}": np.ascontiguousarray(value).reshape(np.shape(value))
        for network, state in networks.items()
        for name, value in flat_variables(state).items()
    }


def _description(networks: Mapping[str, NetworkState]) -> str:
    content = {name: _describe(state) for name, state in networks.items()}
    return json.dumps({"format": _FORMAT, "version": _VERSION, "networks": content})


def left_out(state: NetworkState) -> list[str]:
    """Keys of a state, and of its components, that a file of arrays cannot hold: JSON has no form for their values.

    Raises:
        UserError: it has none for an option, without which the network would be another one.
    """
    if not _is_json(state["static_kwargs"]):
        odd = [key for key, value in state["static_kwargs"].items() if not _is_json(value)]
        raise PickleError(
            f"network {state['name']}: option {', '.join(odd)} is neither a number nor text, which files of arrays "
            "cannot hold; pickles can"
        )
    found = [f"{state['name']}: {key}"[:80] for key in _extra_keys(state) if not _is_held(key, state[key])]
    return found + [key for part in state.get("components", {}).values() for key in left_out(part)]


def _is_held(key: Any, value: Any) -> bool:
    return isinstance(key, str) and _is_json(value)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _extra_keys(state: NetworkState) -> list[str]:
    """What a state has besides that which is written in another form, or left out because it is a program."""
    return [key for key in state if key not in ("variables", "components", "build_module_src")]


def _describe(state: NetworkState) -> dict[str, Any]:
    rest = {key: state[key] for key in _extra_keys(state) if _is_held(key, state[key])}
    components = {key: _describe(component) for key, component in state.get("components", {}).items()}
    return {**rest, "components": components, "variables": [name for name, _ in state["variables"]]}


def _networks(text: str, arrays: dict[str, np.ndarray], path: os.PathLike | str) -> dict[str, NetworkState]:
    try:
        described = json.loads(text)
        if described["format"] != _FORMAT or described["version"] != _VERSION:
            raise ValueError(f"format {described['format']!r}, version {described['version']!r}")
        networks = {name: _state(state, arrays, f"{name}/") for name, state in described["networks"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        reason = f"{type(err).__name__}: {' '.join(str(err).split())[:120]}"
        raise PickleError(f"{path}: no networks that `convert` wrote ({reason})") from err
    except UserError as err:
        raise UserError(f"{path}: {err}") from err
    if arrays:
        raise PickleError(f"{path}: arrays that no network has: {', '.join(name[:60] for name in list(arrays)[:4])}")
    return networks


def _state(described: dict[str, Any], arrays: dict[str, np.ndarray], prefix: str) -> NetworkState:
    """The state of a network, its arrays taken out of `arrays`."""
    components = {key: _state(c, arrays, f"{prefix}{c['name']}/") for key, c in described["components"].items()}
    variables = [(name, arrays.pop(prefix + name)) for name in described["variables"]]
    rest = {**described, "components": components, "variables": variables}
    rest.pop("build_module_src", None)  # a program, which `convert` never writes there
    rest["static_kwargs"] = {key: _option(value) for key, value in described["static_kwargs"].items()}
    return check_state(rest)


def _option(value: Any) -> Any:
    """JSON knows text alone as keys; feature maps are numbered by resolution."""
    if isinstance(value, dict) and all(key.isdigit() for key in value):
        return {int(key): item for key, item in value.items()}
    return value
