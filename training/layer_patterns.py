"""Which layers of a network an option means: all, none, or those whose names match shell patterns."""

from __future__ import annotations

from fnmatch import fnmatchcase

from dnnlib.util import UserError


def check_layers(value: bool | str, where: str) -> tuple[str, ...]:
    """Patterns that an option means: none for False, all for True, else a comma list such as `*/ToRGB,4x4/*`.

    Raises:
        UserError: an empty pattern.
    """
    if isinstance(value, bool):
        return ("*",) if value else ()
    patterns = tuple(part.strip() for part in value.split(","))
    if not all(patterns):
        raise UserError(f"{where}: found {value!r}, expected true, false, or patterns of layers such as */ToRGB,4x4/*")
    return patterns


def matches(patterns: tuple[str, ...], variable: str) -> bool:
    """Whether a variable is meant: a pattern fits its name (`4x4/Conv/weight`) or that of its layer (`4x4/Conv`)."""
    layer = variable.rpartition("/")[0]
    return any(fnmatchcase(variable, pattern) or fnmatchcase(layer, pattern) for pattern in patterns)
