"""Writes pickles as stylegan2-ada-pytorch does, without PyTorch, from networks given by the names used here.

The byte layout is PyTorch's: `tests/torch_network_sample.py` writes the same network with PyTorch itself.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dnnlib.util import EasyDict

SOURCE = "raise RuntimeError('source text of a pickle must never be executed')\n"
_STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "bool": "BoolStorage",
}
FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 64


class Name:
    """A global name, written without being imported."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None:
        raise AssertionError("only ever written")


class Call:
    """Pickles as a call of a name with arguments."""

    def __init__(self, name: Name, *args: Any) -> None:
        self.name, self.args = name, args

    def __reduce__(self) -> Any:
        return self.name, self.args


class New:
    """Pickles as a new object of a class with a state."""

    def __init__(self, name: Name, state: Any) -> None:
        self.name, self.state = name, state


class _Storage:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array


class _Pickler(pickle._Pickler):
    def save(self, obj: Any, save_persistent_id: bool = True) -> Any:
        if isinstance(obj, Name):
            return self.write(f"c{obj.module}\n{obj.name}\n".encode())
        if isinstance(obj, New):
            self.save(obj.name)
            self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
            self.save(obj.state)
            return self.write(pickle.BUILD)
        return super().save(obj, save_persistent_id)

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _Storage):
            return None
        kind = Name("torch", _STORAGES[obj.array.dtype.name])
        return ("storage", kind, "94000000000001", "cpu", obj.array.size, None)


def dumps(obj: Any, protocol: int = 3) -> bytes:
    """A pickle in which `Name`, `Call` and `New` may occur."""
    out = io.BytesIO()
    _Pickler(out, protocol).dump(obj)
    return out.getvalue()


def saved_storage(array: np.ndarray) -> bytes:
    """A storage alone in the older layout of `torch.save`: five pickles, the number of elements, the numbers."""
    system = dict(protocol_version=1001, little_endian=True, type_sizes=dict(short=2, int=4, long=4))
    parts = (0x1950A86A20F9469CFC6C, 1001, system, _Storage(array), ["94000000000001"])
    return b"".join(dumps(part, 2) for part in parts) + struct.pack("<q", array.size) + array.tobytes()


def tensor(array: np.ndarray) -> Call:
    """A tensor of an array in C order."""
    storage = Call(Name("torch.storage", "_load_from_bytes"), saved_storage(np.ascontiguousarray(array)))
    stride = tuple(n // array.itemsize for n in np.ascontiguousarray(array).strides)
    stride = stride if array.ndim else ()
    return Call(Name("torch._utils", "_rebuild_tensor_v2"), storage, 0, array.shape, stride, False, OrderedDict())


def parameter(array: np.ndarray) -> Call:
    """A parameter of an array in C order."""
    return Call(Name("torch._utils", "_rebuild_parameter"), tensor(array), True, OrderedDict())


class Module:
    """A module as a tree: class name, parameters, buffers, modules, other attributes."""

    def __init__(self, class_name: str, **attributes: Any) -> None:
        self.class_name, self.attributes = class_name, attributes
        self.parameters: dict[str, np.ndarray] = {}
        self.buffers: dict[str, np.ndarray] = {}
        self.modules: dict[str, Module] = {}

    def at(self, path: str) -> Module:
        """The module at a dotted path, made if it is not there."""
        module = self
        for part in path.split(".") if path else ():
            module = module.modules.setdefault(part, Module(part.rstrip("0123456789").capitalize() + "Layer"))
        return module

    def add(self, path: str, value: np.ndarray) -> None:
        """Puts a tensor at a dotted path; buffers are known by their names."""
        owner, _, name = path.rpartition(".")
        module = self.at(owner)
        kind = module.buffers if name in ("noise_const", "w_avg", "resample_filter") else module.parameters
        kind[name] = value

    def tensors(self, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
        """(dotted name, array) of all parameters, then all buffers, then those of modules inside."""
        for name, value in (*self.parameters.items(), *self.buffers.items()):
            yield f"{prefix}{name}", value
        for name, module in self.modules.items():
            yield from module.tensors(f"{prefix}{name}.")

    def __reduce__(self) -> Any:
        state = dict(
            training=False,
            _parameters=OrderedDict((name, parameter(value)) for name, value in self.parameters.items()),
            _buffers=OrderedDict((name, tensor(value)) for name, value in self.buffers.items()),
            _non_persistent_buffers_set=set(),
            _backward_hooks=OrderedDict(),
            _modules=OrderedDict(self.modules),
            **self.attributes,
        )
        meta = EasyDict(type="class", version=6, module_src=SOURCE, class_name=self.class_name, state=state)
        return Name("torch_utils.persistence", "_reconstruct_persistent_obj"), (meta,)


# ---------------------------------------------------------------- from the names of TensorFlow files (spec 1.5)


def _noise_layer(index: int) -> str:
    if index == 0:
        return "b4.conv1"
    level, conv = ((index + 5) // 2, "conv0") if index % 2 else ((index + 4) // 2, "conv1")
    return f"b{2**level}.{conv}"


def _layer(scope: str, first_conv: str) -> str:
    """Dotted name of what a scope such as `8x8/Conv0_up` is called."""
    size, name = scope.split("/")
    names = {"Conv": first_conv, "Conv0": "conv0", "Conv0_up": "conv0", "Conv1": "conv1", "Conv1_down": "conv1"}
    names |= {"ToRGB": "torgb", "FromRGB": "fromrgb", "Skip": "skip", "Dense0": "fc"}
    return f"b{size.split('x')[0]}.{names[name]}"


def generator(values: Mapping[str, np.ndarray], **attributes: Any) -> Module:
    """A generator from variables by flat name (`G_synthesis/4x4/Conv/weight`)."""
    net = Module("Generator", **attributes)
    net.at("mapping").class_name, net.at("synthesis").class_name = "MappingNetwork", "SynthesisNetwork"
    for name, value in values.items():
        scope, _, last = name.rpartition("/")
        if name == "dlatent_avg":
            net.add("mapping.w_avg", value)
        elif scope.startswith("G_mapping/"):
            layer = scope.split("/")[1].replace("LabelEmbed", "embed").replace("Dense", "fc")
            net.add(f"mapping.{layer}.{last}", value.T)
        elif re.fullmatch(r"G_synthesis/noise\d+", name):
            net.add(f"synthesis.{_noise_layer(int(last[5:]))}.noise_const", value[0, 0])
        elif name == "G_synthesis/4x4/Const/const":
            net.add("synthesis.b4.const", value[0])
        elif name != "lod":
            layer = "synthesis." + _layer(scope.removeprefix("G_synthesis/"), "conv1")
            if last == "weight":
                flipped = value[::-1, ::-1] if scope.endswith("Conv0_up") else value
                net.add(f"{layer}.weight", flipped.transpose(3, 2, 0, 1))
            elif last == "mod_weight":
                net.add(f"{layer}.affine.weight", value.T)
            elif last == "mod_bias":
                net.add(f"{layer}.affine.bias", value + np.float32(1))
            else:
                net.add(f"{layer}.{last}", np.asarray(value))
            if scope.endswith(("Conv0_up", "Conv1")):
                net.add(f"{layer}.resample_filter", FILTER)
    return net


def discriminator(values: Mapping[str, np.ndarray], **attributes: Any) -> Module:
    """A discriminator from variables by name (`4x4/Dense0/weight`)."""
    net = Module("Discriminator", **attributes)
    net.at("b4").class_name = "DiscriminatorEpilogue"
    for name, value in values.items():
        scope, _, last = name.rpartition("/")
        if scope == "LabelEmbed" or scope.startswith("Mapping"):
            layer = "mapping." + scope.replace("LabelEmbed", "embed").replace("Mapping", "fc")
        else:
            layer = "b4.out" if scope == "Output" else _layer(scope, "conv")
        net.add(f"{layer}.{last}", value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T)
        if value.ndim == 4:
            net.add(f"{layer}.resample_filter", FILTER)
    return net
