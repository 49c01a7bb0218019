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
            f"this is a PyTorch file (it asks for {shown}); stylegan2-ada-pytorch files are not read here, expected a "
            "network pickle of StyleGAN2 or StyleGAN2-ADA for TensorFlow; nothing was executed"
        )
    raise PickleError(
        f"refused: the file asks for {shown}, which {kind_of_file}s have no use for; nothing was executed"
    )


def describe(value: Any) -> str:
    """What a value is, for an error text."""
    return value.name if isinstance(value, Global) else f"something of type {type(value).__name__}"
