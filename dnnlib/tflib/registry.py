"""The table of network builders: the only place where a name from a file or a person becomes a function.

Published files name a builder without its module, and StyleGAN2 and StyleGAN2-ADA use some names for different
networks. The version of the file's state tells them apart, or a variable that only one of them has.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dnnlib.tflib.kept import NotBuiltHere
from dnnlib.util import UserError, list_nearest

# Modules that register builders; imported on the first look-up, never because a file names them.
_PROVIDERS = ("training.networks_stylegan2", "training.networks_ada")
_OLDEST_VERSION = 4  # what builders write unless they say otherwise; files of versions 2 and 3 hold the same networks

_builders: dict[str, Builder] = {}
_refused: dict[str, str] = {}


@dataclass(frozen=True)
class Builder:
    """A function `(inputs..., **options) -> tensors` that creates a network's variables by name.

    inputs: names of the leading parameters without default; options: names of all others; tolerated: option names of
    sibling networks, which published files carry along and which this builder does not read; module: where the
    published implementation has it; version: of the state in files; defaults: of options where they are not the
    function's own; aliases: published name of an option -> its name here; marks: variables (or scopes) that only
    networks of this builder have among those of its name.
    """

    name: str
    func: Callable[..., Any]
    inputs: tuple[str, ...]
    options: frozenset[str]
    tolerated: frozenset[str]
    module: str
    version: int = _OLDEST_VERSION
    defaults: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    marks: frozenset[str] = frozenset()

    @property
    def dotted(self) -> str:
        """Name with module, which no other builder has."""
        return f"{self.module}.{self.name}"

    def check(self, kwargs: Iterable[str], network: str) -> None:
        """Raise `UserError` for an option that neither this builder nor its siblings know."""
        for key in self.unknown(kwargs):
            hint = list_nearest(key, self.options)
            raise UserError(f"network {network!r} ({self.name}): unknown option {key!r}: {hint}")

    def unknown(self, kwargs: Iterable[str]) -> list[str]:
        """Those of the options that neither this builder nor its siblings know."""
        known = self.options | self.tolerated | self.aliases.keys()
        return [key for key in kwargs if key not in known]

    def select(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The options that this builder reads, with its defaults."""
        named = {self.aliases.get(key, key): value for key, value in kwargs.items()}
        return {**self.defaults, **{key: value for key, value in named.items() if key in self.options}}


def builder_options(func: Callable[..., Any]) -> frozenset[str]:
    """Names of a builder function's parameters that have a default."""
    params = inspect.signature(func).parameters.values()
    return frozenset(p.name for p in params if p.default is not p.empty and p.kind is not p.VAR_KEYWORD)


def register_builder(
    func: Callable[..., Any],
    forwards: Iterable[str] = (),
    tolerates: Iterable[str] = (),
    name: str | None = None,
    module: str | None = None,
    version: int = _OLDEST_VERSION,
    defaults: Mapping[str, Any] | None = None,
    aliases: Mapping[str, str] | None = None,
    marks: Iterable[str] = (),
) -> Callable[..., Any]:
    """Make a builder known by its function's name and module, or by those given.

    forwards: options that it passes on to its components; tolerates: options of siblings that it ignores; the others
    are as in `Builder`.
    """
    params = inspect.signature(func).parameters.values()
    inputs = tuple(p.name for p in params if p.default is p.empty and p.kind is not p.VAR_KEYWORD)
    options = builder_options(func) | frozenset(forwards)
    builder = Builder(
        name or func.__name__,
        func,
        inputs,
        options,
        frozenset(tolerates) - options,
        module or func.__module__,
        version,
        dict(defaults or {}),
        dict(aliases or {}),
        frozenset(marks),
    )
    _builders[builder.dotted] = builder
    return func


def refuse_builders(names: Iterable[str], reason: str) -> None:
    """Make names known that files have but nobody builds; `reason` ends the sentence `network builder NAME ...`."""
    _refused.update(dict.fromkeys(names, reason))


def find_builder(func_name: str, version: int | None = None, variables: Iterable[str] = ()) -> Builder:
    """Builder by its bare or dotted name (`training.networks_stylegan2.G_main`).

    version, variables: of the state in a file, to tell builders of one name apart; a bare name without them means the
    one that was registered first. Unknown: `NotBuiltHere` with the list.
    """
    for module in _PROVIDERS:
        importlib.import_module(module)
    bare = func_name.rsplit(".", 1)[-1]
    named = [builder for builder in _builders.values() if builder.name == bare]
    if version is not None:
        parts = {part for variable in variables for part in (variable, variable.split("/")[0])}
        marked = [builder for builder in named if builder.marks & parts]
        fitting = [builder for builder in named if builder.version == max(version, _OLDEST_VERSION)]
        # A newer program may have written an older network.
        found = marked or fitting or [builder for builder in named if builder.version <= version]
    else:
        found = [builder for builder in named if builder.dotted == func_name] or named
    if not found and bare in _refused:
        raise NotBuiltHere(f"network builder {bare!r} {_refused[bare]}")
    if not found:
        known = ", ".join(sorted({builder.name for builder in _builders.values()}))
        of = "" if version is None else f" of version {version}"
        raise NotBuiltHere(f"unknown network builder {func_name!r}{of}; known are {known}")
    return found[0]
