"""`training_options.json`: the complete options of a run, written once and readable again."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dnnlib.util import UserError, atomic_write

OPTIONS_FILE = "training_options.json"


def _file_of(path: os.PathLike | str) -> Path:
    return Path(path) / OPTIONS_FILE if Path(path).is_dir() else Path(path)


def write_options(path: os.PathLike | str, options: Mapping[str, Any]) -> Path:
    """Writes options as indented JSON, atomically. `path` is a file, or a run directory (then `training_options.json`).

    Returns the file's path. Raises TypeError or ValueError for a value that JSON cannot hold (NaN among them), and
    UserError if the place is not writable. Nothing is written in either case.
    """
    text = json.dumps(dict(options), indent=2, allow_nan=False, ensure_ascii=False)
    file_path = _file_of(path)
    with atomic_write(file_path, "w") as file:
        file.write(text + "\n")
    return file_path


def read_options(path: os.PathLike | str) -> dict[str, Any]:
    """Reads what `write_options` wrote; a file or a run directory.

    Raises:
        UserError: missing, not JSON (with line and column), not an object, or a key given twice.
    """
    file_path = _file_of(path)
    try:
        text = file_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise UserError(f"cannot read options {file_path}: {getattr(err, 'strerror', None) or err}") from err
    try:
        options = json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, file_path))
    except json.JSONDecodeError as err:
        raise UserError(f"{file_path}, line {err.lineno}, column {err.colno}: not JSON: {err.msg}") from err
    if not isinstance(options, dict):
        raise UserError(f"{file_path}: expected a JSON object of options, found {type(options).__name__}")
    return options


def _unique(pairs: list[tuple[str, Any]], file_path: Path) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise UserError(f"{file_path}: key {key!r} is given twice")
        result[key] = value
    return result
