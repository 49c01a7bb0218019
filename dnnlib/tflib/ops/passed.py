"""Remembers that a library passed its test on the processor, so that not every command spends two seconds on it.

The note lies beside the library, whose name stands for sources, compiler, TensorFlow and processor; in it is a hash of
the Python files that call the library. Only the processor is remembered: whether a GPU is right also depends on its
driver and on the card that is in the slot today. A failure is never remembered.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from pathlib import Path

from dnnlib.util import UserError, atomic_write

CPU = "CPU:0"


def has_passed(library: Path) -> bool:
    """Whether this library, called by these Python files, was right on this processor before."""
    try:
        return _note(library).read_text(encoding="ascii") == _callers()
    except (OSError, ValueError):  # ValueError: bytes that are no text
        return False


def remember(library: Path, errors: dict[str, str]) -> None:
    """Notes that the processor passed, if it did; without a note where the folder cannot be written.

    errors: device -> '' or what is wrong there.
    """
    if errors.get(CPU) == "":
        with contextlib.suppress(UserError, OSError), atomic_write(_note(library), "w") as file:
            file.write(_callers())


def forget(library: Path) -> None:
    """For a library that is built anew. Raises `OSError` if there is a note that cannot be removed."""
    _note(library).unlink(missing_ok=True)


def _note(library: Path) -> Path:
    return library.with_name(library.name + ".passed")


@functools.cache
def _callers() -> str:
    """Hash of the Python files of this folder."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
