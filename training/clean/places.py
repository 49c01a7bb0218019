"""Where reports go."""

from __future__ import annotations

import os
from pathlib import Path

from dnnlib.util import UserError


def check_output(path: os.PathLike | str | None, *suffixes: str) -> None:
    """Whether a file can be written there, before hours of work whose result it is; None: no file.

    Files of an earlier run are replaced, and told from others by their suffixes, in small letters.

    Raises:
        UserError: the folder is missing, nothing may be written to it, or another kind of file would be replaced.
    """
    if path is None:
        return
    folder = Path(path).absolute().parent
    if not os.access(folder, os.W_OK):
        what = f"nothing may be written to {folder}" if folder.is_dir() else f"there is no folder {folder}"
        raise UserError(f"cannot write {path}: {what}; make it, or give another name")
    if os.path.lexists(path) and Path(path).suffix.lower() not in suffixes:
        kinds = " or ".join(suffix for suffix in suffixes if suffix)
        raise UserError(f"{path} exists and is no {kinds} file, it is not replaced: give another name")
