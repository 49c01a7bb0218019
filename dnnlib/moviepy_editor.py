"""`import moviepy.editor` under moviepy 2, which dropped that module: scripts written for moviepy 1 begin with it.

The names are those that `import moviepy` has in moviepy 2. Where moviepy has an `editor` of its own, that is taken.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_NAME = "moviepy.editor"


class _EditorLoader(Loader):
    def exec_module(self, module: ModuleType) -> None:
        moviepy = importlib.import_module("moviepy")
        names = [name for name in moviepy.__all__ if not name.startswith("_")]
        vars(module).update({name: getattr(moviepy, name) for name in names}, __all__=names)


class _EditorFinder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, _EditorLoader()) if fullname == _NAME else None


def provide() -> None:
    """Make `import moviepy.editor` work from now on; moviepy is loaded only when that is asked for."""
    if not any(isinstance(finder, _EditorFinder) for finder in sys.meta_path):
        sys.meta_path.append(_EditorFinder())  # last, so that it is asked only for what nobody else has
