"""Where reports go."""

from __future__ import annotations

import os
from pathlib import Path

from dnnlib.util import UserError


def check_folders(*paths: os.PathLike | str | None) -> None:
    """Whether files can be written there, before hours of work whose result they are; None: no file.

    Raises:
        UserError: the folder of one is missing, or nothing may be written to it.
    """
    for path in paths:
        folder = Path(path).absolute().parent if path is not None else None
        if folder is None or os.access(folder, os.W_OK):
            continue
        what = f"nothing may be written to {folder}" if folder.is_dir() else f"there is no folder {folder}"
        raise UserError(f"cannot write {path}: {what}; make it, or give another name")
