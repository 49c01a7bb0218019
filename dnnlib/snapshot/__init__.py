"""Network files read as data, by an interpreter that executes nothing, and without TensorFlow.

`dnnlib.tflib.pickles` builds networks from this; tools that only look use `load_state`.
"""

import importlib
import os
from collections.abc import Callable
from typing import Any, BinaryIO

from dnnlib.snapshot.arrays import PickleError
from dnnlib.snapshot.convert import Converter
from dnnlib.snapshot.machine import interpret, outline
from dnnlib.snapshot.source import read_bytes
from dnnlib.snapshot.state import READABLE_VERSIONS, NetworkState, check_state
from dnnlib.snapshot.torch_records import TorchModule

__all__ = ["READABLE_VERSIONS", "NetworkState", "PickleError", "load_state", "parse", "parse_outline"]

# Knows what the modules of PyTorch networks are in terms of our builders: `states_of(content)`.
_TRANSLATOR = "training.torch_networks"


def load_state(source: os.PathLike | str | BinaryIO, **open_options: Any) -> Any:
    """The content of a network pickle, each network as its state dict (`NetworkState`).

    Args:
        source: path, URL, published name (`gdrive:networks/NAME.pkl`), run directory (its newest snapshot) or binary
            file object; gzip is unpacked.
            StyleGAN2 (versions 2 to 4) and StyleGAN2-ADA (version 5) files for TensorFlow and stylegan2-ada-pytorch
            files, pickle protocols 2 to 5, written by Python 2 or 3.
        open_options: `cache_dir`, `num_attempts`, `verbose`, `sha256` of `dnnlib.util.open_url`.
    Returns:
        What was pickled: a tuple of three states, a single one, or other plain data. The dictionary of a PyTorch file
        becomes the states of (G, D, Gs) for our builders, Gs being `G_ema`; of Gs alone if the others are not there.
    Raises:
        UserError: one line that names the file and what is wrong with it. Nothing from the file is ever executed.
    """
    return parse(*read_bytes(source, **open_options))


def parse(data: bytes, where: str) -> Any:
    """`load_state` of a file's uncompressed content; where: its name for error texts."""
    return _content(lambda: interpret(data), where)


def parse_outline(file: BinaryIO, size: int, where: str) -> Any:
    """`parse` of a file (seekable, at its start, of `size` bytes) without reading its weights: arrays of more than 4096
    bytes have their shape and type, but no content."""
    return _content(lambda: outline(file, size), where)


def _content(interpreted: Callable[[], Any], where: str) -> Any:
    try:
        content = Converter(check_state).convert(interpreted(), 0)
        return importlib.import_module(_TRANSLATOR).states_of(content) if _is_torch(content) else content
    except PickleError as err:
        raise PickleError(f"{where}: {err}") from err


def _is_torch(content: Any) -> bool:
    values = content.values() if isinstance(content, dict) else [content]
    return any(isinstance(value, TorchModule) for value in values)
