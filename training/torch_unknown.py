"""Networks of PyTorch files that are not those of stylegan2-ada-pytorch, kept as data beside the others."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from dnnlib.snapshot.arrays import PickleError, without_content
from dnnlib.snapshot.state import UNKNOWN, NetworkState, check_state, plain_options
from dnnlib.snapshot.torch_records import TorchModule
from training.torch_options import arguments

_CLASSES = {"G": "Generator", "Gs": "Generator", "D": "Discriminator"}
_LAYER = r"(weight|bias)"
_MAPPING = rf"mapping\.(embed|fc\d+)\.{_LAYER}"
_SYNTHESIS_LAYER = rf"({_LAYER}|noise_const|noise_strength|affine\.{_LAYER})"
_TENSORS = {
    "G": rf"{_MAPPING}|mapping\.w_avg|synthesis\.b\d+\.(const|skip\.weight|(conv0|conv1|torgb)\.{_SYNTHESIS_LAYER})",
    "D": rf"{_MAPPING}|b\d+\.(skip\.weight|(fromrgb|conv0|conv1|conv|fc|out)\.{_LAYER})",
}
_TENSORS["Gs"] = _TENSORS["G"]
# Bytes of whole numbers -> floats that hold them all (float64: those below 2^53). Larger ones would cost memory that
# the file has no bytes for.
_FLOATS_FOR = {1: np.dtype(np.float16), 2: np.dtype(np.float32)}


def strangeness(module: TorchModule, role: str) -> str | None:
    """What shows that a network is none of the published program; None if nothing does.

    role: G, D or Gs, which the file says it is.
    """
    names = [name for name, _ in module.tensors() if not name.endswith("resample_filter")]
    strange = [name for name in names if not re.fullmatch(_TENSORS[role], name)]
    if strange:
        shown = ", ".join(name[:60] for name in strange[:4])
        return f"{len(strange)} tensors have no place in a StyleGAN2 network: {shown}"
    if names and module.class_name != _CLASSES[role]:
        return f"its class is {module.class_name[:60]!r}, not {_CLASSES[role]}"
    return None


def keep(module: TorchModule, role: str, reason: str) -> NetworkState:
    """A network as a state that nobody builds: its tensors by their dotted names, what it was made with as options.

    Whole numbers and truth values become the smallest floats that hold them all. The text of its program is left out:
    published loaders of TensorFlow files would execute it. Raises `PickleError` for names that no variable can have,
    and numbers that float64 cannot.
    """
    class_name = re.sub(r"\W", "_", module.class_name)[:60]
    return check_state(
        {
            "version": 5,
            "name": role,
            "static_kwargs": _plain_arguments(module),
            "components": {},
            "build_module_src": "",
            "build_func_name": f"PyTorch:{class_name}",
            "variables": [(name, _floats(name, value)) for name, value in module.tensors()],
            UNKNOWN: reason,
        }
    )


def _plain_arguments(module: TorchModule) -> dict[str, Any]:
    """The arguments that are numbers, text or containers of them, as far as they are of a size that options have."""
    found: dict[str, Any] = {}
    for key, value in arguments(module, "").items():
        try:
            plain = plain_options({key: value}, module.class_name)
        except PickleError:
            continue  # of interest to readers alone, and the network is not built
        if isinstance(key, str) and _is_plain(value):
            found |= plain
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, np.number))


def _floats(name: str, value: np.ndarray) -> np.ndarray | np.generic:
    if value.dtype.kind != "f":
        kind = _FLOATS_FOR.get(value.dtype.itemsize, np.dtype(np.float64))
        if not value.flags.writeable:
            value = without_content(value.shape, kind)
        elif kind == np.float64 and value.size and max(abs(int(value.max())), abs(int(value.min()))) > 1 << 53:
            raise PickleError(f"tensor {name[:60]!r} has whole numbers of more than 53 bits")
        else:
            value = value.astype(kind)
    return value[()] if value.ndim == 0 else value
