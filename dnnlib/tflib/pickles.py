"""Snapshot files: reading without executing anything, writing in the published layout.

`load_state` (also `dnnlib.snapshot.load_state`, which does not load TensorFlow) gives plain data; `load` builds it.
"""

import os
from typing import Any, BinaryIO

from dnnlib.snapshot import NetworkState, load_state
from dnnlib.snapshot.arrays import printable
from dnnlib.snapshot.writer import PROTOCOL, Pickler
from dnnlib.util import UserError, atomic_write

__all__ = ["build", "load", "load_state", "save"]


def load(source: os.PathLike | str | BinaryIO, **open_options: Any) -> Any:
    """Networks of a pickle, built in the current default graph and session (made if there is none).

    Args and errors: see `dnnlib.snapshot.load_state`; besides, UserError if a network cannot be built, and OpsError if
    that is no fault of the file: the operations cannot be had as `SG2_OPS` asks for them.
    Returns:
        What was pickled, with `Network` objects: usually the tuple (G, D, Gs).
    """
    where = getattr(source, "name", "network file") if hasattr(source, "read") else os.fspath(source)
    content = load_state(source, **open_options)
    from dnnlib.tflib import tfutil  # here, because it needs TensorFlow

    try:
        with tfutil.gathered():
            return build(content, where)
    except UserError as err:
        from dnnlib.tflib.ops.toolchain import OpsError  # here, because it needs TensorFlow

        if isinstance(err, OpsError):
            raise
        raise UserError(f"{where}: {printable(str(err))}") from err  # options of the file may be in it


def build(value: Any, where: str = "", built: dict[int, Any] | None = None) -> Any:
    """The states in what `load_state` gives as networks, the rest as it is; one that occurs twice becomes one network.

    A network that nobody here builds becomes one that is kept as data (`dnnlib.tflib.kept`), so that those beside it
    can be used; where: the file, which it then names; built: networks by the `id` of their states. Raises UserError if
    one is damaged.
    """
    from dnnlib.tflib.kept import NotBuiltHere  # here, because these modules need TensorFlow
    from dnnlib.tflib.network import Network
    from dnnlib.tflib.registry import find_builder

    built = {} if built is None else built
    if isinstance(value, NetworkState):
        if id(value) in built:
            return built[id(value)]
        net, state = Network.__new__(Network), dict(value)
        try:
            if value.unknown is not None:
                raise NotBuiltHere(value.unknown)
            # Before its components: what nobody builds is told of the whole, not of some part.
            find_builder(state["build_func_name"], state["version"], [name for name, _ in state["variables"]])
            if "components" in state:
                state["components"] = {key: build(part, where, built) for key, part in state["components"].items()}
            net.restore(state)
        except NotBuiltHere as err:
            net.keep(state, printable(str(err)), where)
        built[id(value)] = net
        return net
    if isinstance(value, (list, tuple)):
        return type(value)(build(item, where, built) for item in value)
    if isinstance(value, dict):
        return type(value)((key, build(item, where, built)) for key, item in value.items())
    return value


def save(obj: Any, path: os.PathLike | str) -> None:
    """Writes a network, or a tuple like (G, D, Gs), atomically, protocol 4.

    Plain `pickle.load` with this package on the path reads the file, under numpy 1 and 2.

    Raises:
        UserError: the place is not writable or full. An older file at `path` then stays as it was.
    """
    with atomic_write(path) as file:
        Pickler(file, PROTOCOL).dump(obj)
