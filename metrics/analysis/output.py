"""The files of an analysis: a picture, and the numbers in it beside."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.util import UserError, atomic_write


def check_output(path: os.PathLike | str) -> Path:
    """The path of a picture, its folder made.

    Raises:
        UserError: it does not end in .png, the folder cannot be made, or the numbers beside would replace a file of no
            earlier analysis, which left a picture too.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: pictures are written as PNG, expected a name that ends in .png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise UserError(f"cannot make {path.parent}: {err.strerror or err}") from err
    numbers = path.with_suffix(".json")
    if os.path.lexists(numbers) and not path.exists():
        raise UserError(f"{numbers} exists and is of no analysis, it is not replaced: give another name")
    return path


def save(path: os.PathLike | str, png: bytes, numbers: Mapping[str, Any]) -> Path:
    """Writes the PNG and `<name>.json` with the numbers (arrays become lists, what is not finite null), atomically."""
    path = check_output(path)
    with atomic_write(path) as file:
        file.write(png)
    with atomic_write(path.with_suffix(".json"), "w") as file:
        file.write(json.dumps(_plain(dict(numbers)), allow_nan=False, indent=1) + "\n")
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
