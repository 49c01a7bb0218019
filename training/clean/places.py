"""Where reports go."""

from __future__ import annotations

import os
from pathlib import Path

from dnnlib.util import UserError

_LONGEST_PATH = 4096  # bytes


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
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder: give the name of a file")
    if os.path.lexists(path) and Path(path).suffix.lower() not in suffixes:
        kinds = " or ".join(suffix for suffix in suffixes if suffix)
        raise UserError(f"{path} exists and is no {kinds} file, it is not replaced: give another name")


def check_list_output(path: os.PathLike | str) -> None:
    """`check_output` of a list of files. Text is in many files: those replaced are empty or begin with a whole path.

    Raises:
        UserError: as there.
    """
    check_output(path, ".txt", ".lst", ".list", "")
    if not os.path.exists(path):
        return
    start = ""
    if os.path.isfile(path):  # to open a pipe would wait for its other end
        try:
            with open(path, "rb") as file:
                start = os.fsdecode(file.read(_LONGEST_PATH).split(b"\n")[0])
        except OSError as err:
            raise UserError(f"cannot look into {path}: {err.strerror or err}; give another name") from err
    if not os.path.isfile(path) or (start and not os.path.isabs(start)):
        raise UserError(f"{path} exists and is no list of files, it is not replaced: give another name")
