"""Network files written from states, without building networks and without TensorFlow."""

import os
import pickle
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from dnnlib.snapshot.state import NetworkState
from dnnlib.util import atomic_write

PROTOCOL = 4  # what published files have; Python 3.4 and newer read it
# The order of keys in published files; those of version 5 come last, and what only our files have after them.
_ORDER = ("version", "name", "static_kwargs", "components", "build_module_src", "build_func_name", "variables")
_ORDER_5 = ("input_shapes", "output_shapes", "input_names", "output_names")


class Pickler(pickle._Pickler):
    """Names numpy's functions as numpy 1 did, which numpy 2 still understands; the reverse is not so."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        """Writes the name of a class or function."""
        module = getattr(obj, "__module__", None) or ""
        if obj is _Network:
            self._save_name("dnnlib.tflib.network", "Network", obj)
        elif module.startswith("numpy._core."):
            self._save_name(module.replace("numpy._core.", "numpy.core.", 1), name or obj.__qualname__, obj)
        else:
            super().save_global(obj, name)

    def _save_name(self, module: str, name: str, obj: Any) -> None:
        self.save(module)
        self.save(name)
        self.write(pickle.STACK_GLOBAL)
        self.memoize(obj)


class _Network:
    """Stands for `dnnlib.tflib.network.Network` in the file, which importing would load TensorFlow."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state

    def __getstate__(self) -> dict[str, Any]:
        return self._state


def dump_states(content: Any, file: BinaryIO) -> None:
    """Pickles states as the networks that they describe.

    Args:
        content: a `NetworkState`, a tuple like (G, D, Gs) of them, or other plain data with states inside.
        file: binary file object.
    """
    Pickler(file, PROTOCOL).dump(_as_networks(content))


def save_states(content: Any, path: os.PathLike | str) -> None:
    """`dump_states` to a file, atomically.

    Raises:
        UserError: the place is not writable or full. An older file at `path` then stays as it was.
    """
    with atomic_write(path) as file:
        dump_states(content, file)


def _as_networks(value: Any) -> Any:
    if isinstance(value, NetworkState):
        return _Network({key: _plain(key, value[key]) for key in _ordered(value)})
    if isinstance(value, (list, tuple)):
        return type(value)(_as_networks(item) for item in value)
    if isinstance(value, dict):
        return {key: _as_networks(item) for key, item in value.items()}
    return value


def _ordered(state: Mapping[str, Any]) -> list[str]:
    known = [key for key in (*_ORDER, *_ORDER_5) if key in state]
    return known + [key for key in state if key not in known]


def _plain(key: str, value: Any) -> Any:
    if key == "components":
        return {name: _as_networks(component) for name, component in value.items()}
    if key == "static_kwargs":
        return dict(value)
    if key == "variables":
        return [(name, _as_stored(array)) for name, array in value]
    return value


def _as_stored(value: Any) -> np.ndarray | np.generic:
    """Published files hold variables without axes as numpy numbers."""
    array = np.asarray(value)
    return array[()] if array.ndim == 0 else np.ascontiguousarray(array)
