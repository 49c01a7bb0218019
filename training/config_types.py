"""Typed fields of a configuration: checking Python and JSON values, and reading `--set KEY=VALUE` text.

Both entrances (a JSON file and a command line) go through `coerce`, so a field means the same wherever it is set.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from typing import Any, ClassVar

from dnnlib.util import UserError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_TRUE = ("true", "yes", "t", "y", "1", "on")
_FALSE = ("false", "no", "f", "n", "0", "off")
MIN_RESOLUTION, MAX_RESOLUTION = 8, 2048
_LARGEST_ODD = 15


def type_name(hint: Any) -> str:
    """How a type hint is called in an error text: `int`, `float or none`, `list of str`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(arg) for arg in args)
    if origin is tuple:
        if args[-1] is Ellipsis:
            return f"list of {type_name(args[0])}"
        return "(" + ", ".join(type_name(arg) for arg in args) + ")"
    if origin is dict:
        return f"map {type_name(args[0])} -> {type_name(args[1])}"
    return "none" if hint is type(None) else hint.__name__


def coerce(value: Any, hint: Any, where: str) -> Any:
    """Return `value` as the type `hint`, or refuse it.

    Lists become tuples, whole floats become ints where an int is wanted, ints become floats, keys of maps may be text
    (JSON has no other). A bool is never a number.

    Args:
        value: from Python or JSON.
        hint:  int, float, bool, str, None, `A | B`, tuple[T, ...], tuple[A, B], dict[K, V].
        where: path of the field, e.g. `G.fmap_base`, for the error text.

    Raises:
        UserError: found, expected, field.
    """
    found, result = _try(value, hint)
    if not found:
        raise UserError(f"{where}: found {value!r} ({type(value).__name__}), expected {type_name(hint)}")
    return result


def parse_text(text: str, hint: Any, where: str) -> Any:
    """Value of `--set KEY=TEXT` for a field of type `hint`: JSON, yes/no, none, `a,b,c` for a list, else plain text.

    Raises:
        UserError: the text does not spell a value of that type.
    """
    stripped, members = text.strip(), _members(hint)
    if members == [str]:
        return text
    if type(None) in members and stripped.lower() in ("none", "null", ""):
        return None
    if bool in members and stripped.lower() in _TRUE + _FALSE:
        return stripped.lower() in _TRUE
    scalar = _scalar(stripped)
    candidates = [] if isinstance(scalar, str) and "," in scalar else [scalar]
    if any(typing.get_origin(member) is tuple for member in members):
        no_items = stripped.lower() in ("none", "")
        candidates.append([] if no_items else [_scalar(part) for part in stripped.split(",")])
    candidates.append(text)
    for candidate in candidates:
        found, result = _try(candidate, hint)
        if found:
            return result
    raise UserError(f"{where}: found {text!r}, expected {type_name(hint)}")


def _members(hint: Any) -> list[Any]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return list(typing.get_args(hint)) if is_union else [hint]


def _scalar(text: str) -> Any:
    """JSON where the text is JSON, a number as people write it (`.1`, `+2`, `3.`), else the text."""
    try:
        return json.loads(text)
    except ValueError:
        text = text.strip()
        return float(text) if _NUMBER.fullmatch(text) else text


def _try(value: Any, hint: Any) -> tuple[bool, Any]:
    """(fits, value as `hint`)."""
    members = _members(hint)
    if len(members) > 1:
        exact = [member for member in members if typing.get_origin(member) is None and type(value) is member]
        for member in exact + members:
            fits, result = _try(value, member)
            if fits:
                return True, result
        return False, None
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return _try_tuple(value, args)
    if origin is dict:
        return _try_dict(value, args)
    if hint is float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        return fits, float(value) if fits else None
    if hint is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
        fits = fits or (isinstance(value, float) and value.is_integer())
        return fits, int(value) if fits else None
    return isinstance(value, hint), value


def _try_tuple(value: Any, args: tuple[Any, ...]) -> tuple[bool, Any]:
    if not isinstance(value, (list, tuple)):
        return False, None
    hints = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
    if len(hints) != len(value):
        return False, None
    items = [_try(item, hint) for item, hint in zip(value, hints, strict=True)]
    return all(fits for fits, _ in items), tuple(item for _, item in items)


def _try_dict(value: Any, args: tuple[Any, ...]) -> tuple[bool, Any]:
    if not isinstance(value, dict):
        return False, None
    keys = [_try(_scalar(key) if isinstance(key, str) else key, args[0]) for key in value]
    items = [_try(item, args[1]) for item in value.values()]
    return all(fits for fits, _ in keys + items), {key: item for (_, key), (_, item) in zip(keys, items, strict=True)}


def non_default_fields(section: Any) -> dict[str, Any]:
    """Fields of a section that differ from the defaults; tuples as lists, as published files hold them."""
    specs = [spec for spec in dataclasses.fields(section) if getattr(section, spec.name) != spec.default]
    values = {spec.name: getattr(section, spec.name) for spec in specs}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def is_power_of_two(value: int) -> bool:
    """1, 2, 4, 8, ..."""
    return value >= 1 and value & (value - 1) == 0


def check_resolution(resolution: int, where: str) -> None:
    """Sides of images are a small number, at most 15, times a power of two; squares of 4 * 2^n are the published ones.

    Raises:
        UserError: another side, or one outside 8 to 2048; proposes powers of two.
    """
    odd = resolution // (resolution & -resolution) if resolution > 0 else 0
    if odd > _LARGEST_ODD or not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        below = 2 ** int(math.log2(min(max(resolution, MIN_RESOLUTION), MAX_RESOLUTION)))
        raise UserError(
            f"{where}: found {resolution}, expected a power of two, or a number up to {_LARGEST_ODD} times one, "
            f"from {MIN_RESOLUTION} to {MAX_RESOLUTION}; "
            f"use {below}" + (f" or {2 * below}" if below < MAX_RESOLUTION and resolution > below else "")
        )


def _is_finite(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


class Section:
    """Checks and converts the fields of a section by their type hints, then lets the section check their values."""

    section: ClassVar[str] = ""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for spec in dataclasses.fields(self):  # type: ignore[arg-type]
            value = coerce(getattr(self, spec.name), hints[spec.name], self._path(spec.name))
            object.__setattr__(self, spec.name, value)
        self._check()
        for spec in dataclasses.fields(self):  # type: ignore[arg-type]
            if not _is_finite(getattr(self, spec.name)):  # comparisons with NaN are false: it passes checks of ranges
                self._refuse(spec.name, "finite numbers")

    def _check(self) -> None:
        """Raises UserError if the values make no sense together."""

    def _path(self, name: str) -> str:
        return f"{self.section}.{name}" if self.section else name

    def _refuse(self, name: str, expected: str, advice: str = "") -> typing.NoReturn:
        hint = f"; {advice}" if advice else ""
        raise UserError(f"{self._path(name)}: found {getattr(self, name)!r}, expected {expected}{hint}")

    def _at_least(self, minimum: float, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not minimum <= value < math.inf:
                self._refuse(name, f"a number >= {minimum}")

    def _positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                self._refuse(name, "a number > 0")

    def _below_one(self, *names: str) -> None:
        for name in names:
            if not 0 <= getattr(self, name) < 1:
                self._refuse(name, "a number in [0, 1)")

    def _one_of(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            self._refuse(name, "one of " + ", ".join(choices))

    def _normalize(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)
