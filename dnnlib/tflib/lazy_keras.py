"""TensorFlow without Keras: half the time that importing it takes.

TensorFlow imports Keras while it is imported itself, and Keras imports what plotting and scikit-learn libraries it
finds; nothing here uses any of them. TensorFlow does without where the import fails, and its `tf.keras` imports Keras
on first use, so the import is only put off: programs that use Keras beside us find it where it always was.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType


class _Refusal(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds Keras, as TensorFlow looks up its folder, but does not load it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The place of Keras with this loader; None for any other module and where it is not installed."""
        found = importlib.machinery.PathFinder.find_spec(fullname, path) if fullname == "keras" else None
        if found is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=found.origin)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Raises ImportError."""
        raise ImportError(f"{spec.name} is imported when it is first used")

    def exec_module(self, module: ModuleType) -> None:
        """Never reached: no module is created."""
        raise ImportError(module.__name__)


@contextmanager
def keras_later() -> Iterator[None]:
    """Within it, importing Keras fails unless that was done before. For the import of TensorFlow."""
    refusal = _Refusal()
    sys.meta_path.insert(0, refusal)
    try:
        yield
    finally:
        sys.meta_path.remove(refusal)
