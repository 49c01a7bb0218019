"""From the records of the interpreter to plain data."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dnnlib.snapshot.arrays import PickledArray, PickleError
from dnnlib.snapshot.instructions import Payload
from dnnlib.snapshot.machine import NetworkRecord, describe
from dnnlib.snapshot.torch_records import ModuleRecord, TorchModule

_MAX_DEPTH = 64
# Whoever walks through the result meets a shared part as often as it is referred to.
_MAX_VISITS = 5_000_000
# G, D and Gs with their parts are seven; each may take a second to build.
_MAX_NETWORKS = 48


class Converter:
    """Turns what the machine made into plain data, each shared object once."""

    def __init__(self, make_network: Callable[[dict[str, Any]], Any]) -> None:
        self._make_network = make_network
        self._done: dict[int, Any] = {}
        self._open: set[int] = set()
        self._visits: dict[int, int] = {}  # of finished parts: how many values a walk through them meets
        self._count = 0
        self._networks = 0

    def convert(self, value: Any, depth: int) -> Any:
        """Converts a value and all it contains."""
        key = id(value)
        self._count += self._visits.get(key, 1)
        if self._count > _MAX_VISITS:
            raise PickleError(f"refused: data of more than {_MAX_VISITS} parts, counted as often as they are used")
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        if key in self._done:
            return self._done[key]
        if key in self._open:
            raise PickleError("refused: data that contains itself")
        if depth > _MAX_DEPTH:
            raise PickleError(f"refused: data nested more than {_MAX_DEPTH} deep")
        self._open.add(key)
        before = self._count
        self._done[key] = self._convert_one(value, depth + 1)
        self._visits[key] = self._count - before + 1
        self._open.discard(key)
        return self._done[key]

    def _convert_one(self, value: Any, depth: int) -> Any:
        if isinstance(value, PickledArray):
            return value.finish()
        if isinstance(value, memoryview):
            return bytes(value)
        if isinstance(value, (list, tuple)):
            return type(value)(self.convert(item, depth) for item in value)
        if isinstance(value, dict):
            items = [(k, self.convert(v, depth)) for k, v in value.items()]
            return type(value)(items)
        if isinstance(value, NetworkRecord):
            if value.state is None:
                raise PickleError("a network without state")
            self._networks += 1
            if self._networks > _MAX_NETWORKS:
                raise PickleError(f"refused: more than {_MAX_NETWORKS} networks, parts counted")
            return self._make_network(self.convert(value.state, depth))
        if isinstance(value, ModuleRecord):
            return TorchModule(value.class_name, value.source, self.convert(value.state, depth))
        if isinstance(value, (np.generic, Payload)):
            return value
        raise PickleError(f"refused: {describe(value)} where data belongs")
