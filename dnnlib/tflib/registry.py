"""The table of network builders: the only place where a name from a file or a person becomes a function."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dnnlib.util import UserError, list_nearest

# Modules that register builders; imported on the first look-up, never because a file names them.
_PROVIDERS = ("training.networks_stylegan2",)

_builders: dict[str, Builder] = {}


@dataclass(frozen=True)
class Builder:
    """A function `(inputs..., **options) -> tensors` that creates a network's variables by name.

    inputs: names of the leading parameters without default; options: names of all others; tolerated: option names of
    sibling networks, which published files carry along and which this builder does not read.
    """

    name: str
    func: Callable[..., Any]
    inputs: tuple[str, ...]
    options: frozenset[str]
    tolerated: frozenset[str]

    def check(self, kwargs: Iterable[str], network: str) -> None:
        """Raise `UserError` for an option that neither this builder nor its siblings know."""
        known = self.options | self.tolerated
        for key in kwargs:
            if key not in known:
                hint = list_nearest(key, self.options)
                raise UserError(f"network {network!r} ({self.name}): unknown option {key!r}: {hint}")

    def select(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The options that this builder reads."""
        return {key: value for key, value in kwargs.items() if key in self.options}


def builder_options(func: Callable[..., Any]) -> frozenset[str]:
    """Names of a builder function's parameters that have a default."""
    params = inspect.signature(func).parameters.values()
    return frozenset(p.name for p in params if p.default is not p.empty and p.kind is not p.VAR_KEYWORD)


def register_builder(
    func: Callable[..., Any], forwards: Iterable[str] = (), tolerates: Iterable[str] = ()
) -> Callable[..., Any]:
    """Make a builder known by its function's name.

    forwards: options that it passes on to its components; tolerates: options of siblings that it ignores.
    """
    params = inspect.signature(func).parameters.values()
    inputs = tuple(p.name for p in params if p.default is p.empty and p.kind is not p.VAR_KEYWORD)
    options = builder_options(func) | frozenset(forwards)
    _builders[func.__name__] = Builder(func.__name__, func, inputs, options, frozenset(tolerates) - options)
    return func


def find_builder(func_name: str) -> Builder:
    """Builder by its bare or dotted name (`training.networks_stylegan2.G_main`). Unknown: `UserError` with the list."""
    for module in _PROVIDERS:
        importlib.import_module(module)
    bare = func_name.rsplit(".", 1)[-1]
    if bare not in _builders:
        raise UserError(f"unknown network builder {func_name!r}; known are {', '.join(sorted(_builders))}")
    return _builders[bare]
