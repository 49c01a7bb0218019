"""The names a network file may refer to. All others are refused."""

from typing import Any

from dnnlib.snapshot.arrays import PickleError


class Global:
    """A permitted name of the file, `module.name`, and what it stands for."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind


_GLOBALS = {
    "dnnlib.tflib.network.Network": "network",
    "dnnlib.util.EasyDict": "easydict",
    "dnnlib.EasyDict": "easydict",
    "collections.OrderedDict": "ordereddict",
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "numpy.core.multiarray._reconstruct": "reconstruct",
    "numpy._core.multiarray._reconstruct": "reconstruct",
    "numpy.core.multiarray.scalar": "scalar",
    "numpy._core.multiarray.scalar": "scalar",
    "numpy.core.numeric._frombuffer": "frombuffer",
    "numpy._core.numeric._frombuffer": "frombuffer",
    # How Python 3 spells bytes in protocols 0 to 2.
    "_codecs.encode": "encode",
    "__builtin__.bytes": "bytes",
    "builtins.bytes": "bytes",
    # How Python 3 spells sets in protocols 2 and 3; modules of PyTorch hold some.
    "__builtin__.set": "set",
    "builtins.set": "set",
    # Networks of stylegan2-ada-pytorch: tensors, and modules that carry the text of their program.
    "torch.storage._load_from_bytes": "torch_storage",
    "torch._utils._rebuild_tensor_v2": "torch_tensor",
    "torch._utils._rebuild_parameter": "torch_parameter",
    "torch_utils.persistence._reconstruct_persistent_obj": "torch_module",
}


def look_up(module: str, name: str, kind_of_file: str = "network file") -> Global:
    """What `module.name` of a file stands for. Raises PickleError, with the name asked for, if it is none of these."""
    full = f"{module}.{name}"
    kind = _GLOBALS.get(full)
    if kind is not None:
        return Global(full, kind)
    shown = full[:100]
    if module.split(".")[0] in ("torch", "torch_utils"):
        raise PickleError(
            f"refused: this PyTorch file asks for {shown}, which networks of stylegan2-ada-pytorch do not need; "
            "nothing was executed"
        )
    raise PickleError(
        f"refused: the file asks for {shown}, which {kind_of_file}s have no use for; nothing was executed"
    )


def is_known(module: str, name: str) -> bool:
    """Whether network files have a use for this name."""
    return f"{module}.{name}" in _GLOBALS


def describe(value: Any) -> str:
    """What a value is, for an error text."""
    return value.name if isinstance(value, Global) else f"something of type {type(value).__name__}"
