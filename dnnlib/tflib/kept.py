"""Networks of a file that nobody here builds, kept as what they are in it: data to list, to copy and to save again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from dnnlib.snapshot.state import NetworkState
from dnnlib.util import EasyDict, UserError

# What networks have once they are built. Any other name is an ordinary missing attribute, so that `copy`, `pickle` and
# notebooks, which ask for names of their own, get the answer they expect.
_OF_BUILT = frozenset(
    ("scope", "trainables", "var_global_to_local", "_builder", "_graph", "_run_cache", "input_templates")
    + ("output_templates", "input_names", "output_names", "input_shapes", "output_shapes", "num_inputs", "num_outputs")
    + ("input_shape", "output_shape")
)


class NotBuiltHere(UserError):
    """A network whose builder, options or variables nobody here knows, in a file that is otherwise sound."""


class KeptAsData:
    """Base of networks: what one of them is that was read but not built.

    It has name, build_func_name, static_kwargs, components, own_vars and vars (names to float32 or other float arrays
    instead of variables of the graph) and `get_var`; pickling writes the state that was read. Whatever needs the
    network itself is a `UserError` that says why there is none.
    """

    _kept: Mapping[str, Any] | None = None  # the state, if it is kept
    _reason = _where = ""

    def keep(self, state: Mapping[str, Any], reason: str, where: str = "") -> None:
        """Makes this the network of `state` in the file `where`, which was not built for `reason`."""
        parts = {key: self._part(part, reason, where) for key, part in (state.get("components") or {}).items()}
        self.__dict__.clear()
        self._kept = {**state, "components": parts} if "components" in state else dict(state)
        self._reason, self._where = reason, where
        self.name, self.build_func_name = state["name"], state["build_func_name"]
        self.static_kwargs, self.components = EasyDict(state["static_kwargs"]), EasyDict(parts)
        self.own_vars = OrderedDict((name, np.asarray(value)) for name, value in state["variables"])
        self.vars = OrderedDict(self.own_vars)
        for part in parts.values():
            values = {name: part.get_var(name) for name in part.vars}
            self.vars.update((f"{part.name}/{name}", value) for name, value in values.items())

    @property
    def is_kept(self) -> bool:
        """Whether this network was not built, so that it cannot be run."""
        return self._kept is not None

    @property
    def reason(self) -> str:
        """Why it was not built; empty for networks that were."""
        return self._reason

    def require_built(self) -> None:
        """Raises `NotBuiltHere` for a network that is kept as data."""
        if self._kept is not None:
            where = f"{self._where}: " if self._where else ""
            raise NotBuiltHere(
                f"{where}{self._reason}; network {self.name!r} is kept as it is in the file: its variables can be read "
                "and saved, but it cannot be run"
            )

    def _part(self, part: Any, reason: str, where: str) -> Any:
        """A component's state as a network that is kept; what is a network already stays as it is."""
        if not isinstance(part, NetworkState):
            return part
        net = object.__new__(type(self))
        net.keep(part, reason, where)
        return net

    def __getattr__(self, attribute: str) -> Any:
        if attribute in _OF_BUILT:
            self.require_built()
        raise AttributeError(f"{type(self).__name__} has no attribute {attribute!r}")
