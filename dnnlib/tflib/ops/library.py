"""Loading the compiled ops: built on first use, tested on every device before they are trusted there."""

from __future__ import annotations

import functools
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.tflib.ops import passed
from dnnlib.tflib.ops.toolchain import BuildError, OpsError
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError

_lock = threading.RLock()


@dataclass
class Library:
    """The loaded ops: `ops` has one function per op, `tested` maps devices to what is wrong there ('' if nothing)."""

    path: Path
    ops: Any
    tested: dict[str, str] | None = None

    @property
    def wrong(self) -> dict[str, str]:
        """The devices that failed the test, with the reason."""
        return {device: error for device, error in (self.tested or {}).items() if error}

    def self_test(self, again: bool = False) -> None:
        """Compare compiled and reference ops on every device, once; on the processor with `again` only, if they were
        right there before."""
        from dnnlib.tflib.ops.self_test import test_devices

        if self.tested is not None and not again:
            return
        before = self.tested
        self.tested = {}  # the test itself asks for the library
        try:
            if not again and passed.has_passed(self.path):
                self.tested = {passed.CPU: "", **test_devices(cpu=False)}
            else:
                self.tested = test_devices()
                passed.remember(self.path, self.tested)
        except BaseException:  # also Ctrl-C: what has not been tested to the end is not trusted by the next who asks
            self.tested = before
            raise
        for device, error in self.wrong.items():
            _warn_once(f"compiled ops: {error}\n  the reference ops are used on {device}, which is slower")


@functools.cache
def load(path: Path) -> Library:
    """Load a library into TensorFlow. Raises `BuildError` where that fails."""
    try:
        return Library(path, tf.load_op_library(str(path)))
    except (tf.errors.OpError, OSError) as error:
        raise BuildError(
            f"TensorFlow cannot load {path}", str(error).splitlines()[0],
            "delete the file and build again with python -m dnnlib.tflib.ops.build, or set SG2_OPS=ref",
        ) from None  # fmt: skip


@functools.cache
def _outcome() -> Library | UserError:
    """Build and load once per process; a failure is remembered."""
    from dnnlib.tflib.ops.build import build_library

    try:
        return load(build_library())
    except UserError as error:
        return error


def get() -> Library:
    """The library, built, loaded and tested once per process. Raises `UserError` where that fails."""
    with _lock:
        library = _outcome()
        if isinstance(library, UserError):
            raise library
        library.self_test()
        return library


def ops() -> Any:
    """The functions that make the compiled ops' graph nodes."""
    return get().ops


def trusted(required: bool) -> bool:
    """Whether the compiled ops may be used where the next node of the graph will be placed.

    With `required` a failed build or a wrong device is an error (`OpsError`), else False after one warning.
    """
    try:
        library = get()
    except UserError as error:
        if required:
            raise
        _warn_once(
            f"{error}\n  until then: the reference ops are used, which is slower (several times for filters and "
            "activations); the results are the same"
        )
        return False
    wrong = library.wrong
    reason = wrong.get(_next_device(), "") if wrong else ""
    if reason and required:
        raise OpsError(f"compiled ops: {reason}")
    return not reason


def next_device_is_cpu() -> bool:
    """Whether the next node of the graph will be placed on a CPU: some ops are compiled for it alone."""
    return _next_device().startswith("CPU")


def _next_device() -> str:
    """The device ('CPU:0', 'GPU:1', ...) that a node created now would run on."""
    probe = tf.no_op()
    spec = tf.DeviceSpec.from_string(probe.device or "")
    kind = spec.device_type or ("GPU" if tf.config.list_physical_devices("GPU") else "CPU")
    # All CPU devices are the same processor.
    return f"{kind}:{0 if kind == 'CPU' else spec.device_index or 0}"


@functools.cache
def _warn_once(message: str) -> None:
    bar = "*" * 100
    print(f"{bar}\nWARNING: {message}\n{bar}", file=sys.stderr, flush=True)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference in units of the largest expected magnitude; infinite where something is not finite."""
    difference = np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64))
    scale = max(float(np.abs(np.asarray(expected, np.float64)).max(initial=0)), 1e-6)
    worst = float(difference.max(initial=0)) / scale
    return worst if np.isfinite(difference).all() else float("inf")
