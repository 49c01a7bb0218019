"""Writes files with weights in the formats of others, without the programs that write them."""

from __future__ import annotations

import io
import pickle
import sys
import types
import zipfile
from contextlib import contextmanager

import numpy as np


@contextmanager
def _stand_ins():
    """Modules by the names that PyTorch's files refer to, for as long as a pickle is written."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2():
        raise NotImplementedError

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in ("FloatStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))
    kept = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules |= {"torch": torch, "torch._utils": utils}
    try:
        yield torch, utils
    finally:
        for name, module in kept.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class _StorageId:
    def __init__(self, pid):
        self.pid = pid


class _Pickler(pickle.Pickler):
    def __init__(self, file, torch, utils):
        super().__init__(file, protocol=2)
        self._torch, self._utils, self.storages = torch, utils, []

    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, _StorageId) else None

    def reducer_override(self, obj):
        if not isinstance(obj, np.ndarray):
            return NotImplemented
        kind = {"f": self._torch.FloatStorage, "i": self._torch.LongStorage}[obj.dtype.kind]
        storage = _StorageId(("storage", kind, str(len(self.storages)), "cpu", obj.size))
        self.storages.append(obj)
        stride = tuple(s // obj.itemsize for s in obj.strides)
        return self._utils._rebuild_tensor_v2, (storage, 0, obj.shape, stride, False, {})


def write_torch(path, state):
    """A state dict as `torch.save` writes it since version 1.6. Arrays are float32 or int64, C order."""
    buffer = io.BytesIO()
    with _stand_ins() as (torch, utils):
        pickler = _Pickler(buffer, torch, utils)
        pickler.dump(state)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        for index, array in enumerate(pickler.storages):
            archive.writestr(f"archive/data/{index}", array.tobytes())
    return path


class _Network:
    """Stands for `dnnlib.tflib.network.Network` while a pickle is written."""

    def __init__(self, state):
        self._state = state

    def __getstate__(self):
        return self._state


def write_network(path, variables, **static_kwargs):
    """A pickle of a single network, as published feature networks are. variables: arrays by name."""
    state = dict(
        version=4, name="net", static_kwargs=static_kwargs, components={}, build_module_src="raise SystemExit",
        build_func_name="build", variables=list(variables.items()),
    )  # fmt: skip
    _Network.__module__, _Network.__qualname__ = "dnnlib.tflib.network", "Network"
    from dnnlib.tflib import network

    real, network.Network = network.Network, _Network
    try:
        data = pickle.dumps(_Network(state), protocol=4)
    finally:
        network.Network = real
    path.write_bytes(data)
    return path
