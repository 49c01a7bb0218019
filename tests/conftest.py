"""What all tests share: golden data, and a graph with a session of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import pytest  # noqa: E402


class Golden:
    """Arrays and files computed by the published implementation (tests/golden/README.md)."""

    root = Path(os.environ.get("SG2_GOLDEN") or Path(__file__).parent / "golden")

    def __init__(self) -> None:
        self._cache: dict[str, Any] = {}

    def __call__(self, name: str) -> Any:
        """The npz or npy file of that name, loaded once."""
        if name not in self._cache:
            loaded = np.load(self.root / name)
            self._cache[name] = loaded if isinstance(loaded, np.ndarray) else {k: loaded[k] for k in loaded.files}
        return self._cache[name]

    def path(self, name: str) -> Path:
        """Path of a golden file or directory."""
        return self.root / name


@pytest.fixture(scope="session")
def golden() -> Golden:
    """Golden data by file name: `golden('ops_sg2.npz')['key']`."""
    return Golden()


@pytest.fixture
def session() -> Iterator[Any]:
    """A fresh graph and a session on it, both default for the test."""
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.tfutil import tf

    with tf.Graph().as_default(), tfutil.create_session() as sess:
        yield sess
