"""All files below a folder, in the order of their names; links are followed, but no folder is read twice."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from training.archives import kind_of_file
from training.dataset_items import printable


def walk_files(folder: os.PathLike | str) -> Iterator[tuple[str, str | None]]:
    """(relative name, None or the reason to leave it out) of all files below a folder, in the order of the names."""
    return _walk(os.fspath(folder))


def _walk(root: str) -> Iterator[tuple[str, str | None]]:
    seen: dict[str, str] = {}  # real path -> relative name
    ahead = [""]  # relative names, the next one last; those of folders end in a slash, that of the root is empty
    while ahead:
        name = ahead.pop()
        path = os.path.join(root, name)
        if name and not name.endswith("/"):
            yield name, _reason_against(path)
            continue
        real = os.path.realpath(path)
        again = _found_elsewhere(root, name, real) if name else None
        if again is None and real in seen:
            again = f"the same folder as {printable(seen[real]) or 'the input itself'}"
        if again is not None:
            yield name.rstrip("/"), again
            continue
        seen[real] = name.rstrip("/")
        try:
            ahead += _names_in(path, name)
        except OSError as err:
            yield name.rstrip("/") or ".", f"the folder cannot be read ({err.strerror or err})"


def _found_elsewhere(root: str, name: str, real: str) -> str | None:
    """The reason against a link to a folder that is read where it is, whichever of both comes first; else None."""
    if not os.path.islink(os.path.join(root, name.rstrip("/"))):
        return None
    inside = os.path.relpath(real, os.path.realpath(root))
    steps = inside.split(os.sep)
    if inside == os.curdir:
        return "a link to the input itself"
    if any(map(is_passed_over, steps)):  # that of a folder outside begins with dots, too
        return None
    return f"a link to {printable(inside)}, whose files are there under their own names"


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of that name is passed over without a word."""
    return name.startswith(".") or name == "__MACOSX"


def _names_in(folder: str, below: str) -> list[str]:
    """What is in a folder, the last first: `below` and its name, and a slash behind that of a folder.

    Raises:
        OSError: the folder cannot be read.
    """
    with os.scandir(folder.rstrip("/") or "/") as entries:
        # A folder is sorted as what its files begin with: `a.png` comes before `a/b.png`.
        return sorted(
            (
                below + entry.name + ("/" if _is_folder(entry) else "")
                for entry in entries
                if not is_passed_over(entry.name)
            ),
            reverse=True,
        )


def _reason_against(path: str) -> str | None:
    """Why what is no folder is no file to read either; None: it is one."""
    try:
        mode = os.stat(path).st_mode
    except OSError as err:
        return "a link to nothing" if os.path.islink(path) else f"cannot be read ({err.strerror or err})"
    return None if stat.S_ISREG(mode) else f"not a regular file but a {kind_of_file(mode)}"


def _is_folder(entry: os.DirEntry) -> bool:
    """Links are followed; one that leads to itself is no folder, and no error."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
