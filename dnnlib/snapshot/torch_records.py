"""What pickles of stylegan2-ada-pytorch hold besides plain data: tensors, and modules with their program's text.

Such a pickle is an ordinary one, not a checkpoint of `torch.save`: each storage lies in it as a small checkpoint of its
own, and each module as a dictionary with the source text that the published loader would execute. The text is kept as
text.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnnlib.snapshot.arrays import ArrayBudget, PickledArray, PickleError
from dnnlib.snapshot.instructions import Payload
from dnnlib.snapshot.torch_pickle import STORAGE_DTYPES, Storage, make_tensor
from dnnlib.snapshot.torch_reader import read_storage, tensor_array
from dnnlib.util import UserError

# Beyond anything that a network has: modules may stand in many places of a file, which a walk meets each time.
_MOST_PARTS, _LONGEST_NAME = 10_000, 200


@dataclass(frozen=True)
class StorageRecord:
    """The numbers that tensors are views of."""

    storage: Storage
    data: memoryview | Payload


@dataclass(frozen=True)
class ModuleRecord:
    """A module as the file describes it, its state not yet converted."""

    class_name: str
    source: str
    state: dict[str, Any]


@dataclass(frozen=True)
class TorchModule:
    """A module of a PyTorch network: the name of its class, the text of its program (never executed), its attributes.

    The attributes `_parameters`, `_buffers` (name -> array) and `_modules` (name -> TorchModule) are what
    `torch.nn.Module` keeps; the others are as the class has set them.
    """

    class_name: str
    source: str
    state: dict[str, Any]

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """(dotted name, array) of all parameters and buffers, those of modules inside included.

        Raises PickleError for more of them, and for longer names, than any network has.
        """
        return self._walk("", itertools.count(1))

    def _walk(self, prefix: str, count: Iterator[int]) -> Iterator[tuple[str, np.ndarray]]:
        for kind in ("_parameters", "_buffers"):
            for name, value in _items(self.state, kind):
                if isinstance(value, np.ndarray):
                    yield _dotted(prefix, name, count), value
        for name, module in self.children():
            yield from module._walk(_dotted(prefix, name, count) + ".", count)

    def children(self) -> Iterator[tuple[str, TorchModule]]:
        """(name, module) of the modules inside."""
        for name, value in _items(self.state, "_modules"):
            if isinstance(value, TorchModule):
                yield name, value

    def find(self, path: str) -> TorchModule | None:
        """The module at a dotted path inside, None if there is none."""
        module: TorchModule | None = self
        for part in path.split("."):
            module = None if module is None else dict(module.children()).get(part)
        return module


def _dotted(prefix: str, name: str, count: Iterator[int]) -> str:
    """prefix + name, of a part that `count` counts."""
    if next(count) > _MOST_PARTS:
        raise PickleError(f"refused: a PyTorch network of more than {_MOST_PARTS} parts")
    if len(prefix) + len(name) > _LONGEST_NAME:
        shown = (prefix + name[:60])[:60]
        raise PickleError(f"damaged: the name of a tensor begins with {shown!r} and is longer than {_LONGEST_NAME}")
    return prefix + name


def _items(state: dict[str, Any], key: str) -> list[tuple[str, Any]]:
    value = state.get(key)
    return [item for item in value.items() if isinstance(item[0], str)] if isinstance(value, dict) else []


def _storage(args: tuple[Any, ...], budget: ArrayBudget) -> StorageRecord:
    if len(args) != 1 or not isinstance(args[0], (bytes, memoryview, Payload)):
        raise PickleError("damaged: a PyTorch storage that is not made of bytes")
    budget.spend(len(args[0]))  # the reader works on a copy
    try:
        return StorageRecord(*read_storage(args[0]))
    except UserError as err:
        raise PickleError(str(err)) from err


def _tensor(args: tuple[Any, ...], budget: ArrayBudget) -> PickledArray:
    if not 4 <= len(args) <= 7 or not isinstance(args[0], StorageRecord):
        raise PickleError("damaged: a PyTorch tensor without its storage")
    try:
        tensor = make_tensor(args[0].storage, *args[1:4])
        array = tensor_array(tensor, args[0].data)
        # bfloat16 is widened; what counts is how often the file's bytes are used.
        stored = array.size * STORAGE_DTYPES[tensor.storage.kind].itemsize
        return PickledArray.of(array, budget, stored)
    except UserError as err:
        raise PickleError(str(err)) from err


def _parameter(args: tuple[Any, ...], budget: ArrayBudget) -> PickledArray:
    if not 1 <= len(args) <= 3 or not isinstance(args[0], PickledArray):
        raise PickleError("damaged: a PyTorch parameter that is not a tensor")
    return args[0]


def _module(args: tuple[Any, ...], budget: ArrayBudget) -> ModuleRecord:
    meta = args[0] if len(args) == 1 else None
    if not isinstance(meta, dict) or meta.get("type") != "class":
        raise PickleError("damaged: a PyTorch module without a description")
    name, source, state = meta.get("class_name"), meta.get("module_src"), meta.get("state")
    if not isinstance(name, str) or not isinstance(source, (str, Payload)) or not isinstance(state, dict):
        raise PickleError("damaged: a PyTorch module needs a class name, a source text and a state")
    return ModuleRecord(name, str(source), state)


#: What the names of `names.py` that begin with `torch` do: (arguments, budget) -> record.
TORCH_CALLS: dict[str, Callable[[tuple[Any, ...], ArrayBudget], Any]] = {
    "torch_storage": _storage,
    "torch_tensor": _tensor,
    "torch_parameter": _parameter,
    "torch_module": _module,
}
