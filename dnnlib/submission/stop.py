"""Ways to end a run in good order: Ctrl-C, SIGTERM, or a file `abort.txt` in its directory."""

import os
import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

ABORT_FILE = "abort.txt"


def abort_requested(run_dir: os.PathLike | str) -> bool:
    """True if someone put a file `abort.txt` into the run directory."""
    return (Path(run_dir) / ABORT_FILE).exists()


def clear_abort(run_dir: os.PathLike | str) -> None:
    """Removes `abort.txt`, so that a resumed run does not stop at once."""
    (Path(run_dir) / ABORT_FILE).unlink(missing_ok=True)


class Stopped(Exception):  # noqa: N818
    """Raised by long work that was told to stop before its end."""


class GracefulStop:
    """Context manager: the first SIGINT or SIGTERM sets `requested`; the loop looks at it between steps.

    A second SIGINT raises KeyboardInterrupt where it arrives. The earlier handlers come back at the end of the block.
    Outside the main thread no handler can be set: then only `request` works.

    Attributes:
        requested: True once the run should end.
        reason: what asked for it, e.g. `SIGTERM`; empty before.
    """

    def __init__(self) -> None:
        self.requested = False
        self.reason = ""
        self._previous: dict[signal.Signals, Any] = {}

    def request(self, reason: str) -> None:
        """Asks for a stop as a signal would. The first reason stays."""
        if not self.requested:
            self.reason = reason
        self.requested = True

    def __enter__(self) -> "GracefulStop":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            # None: the earlier handler was not set from Python, and cannot be put back from there.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.requested:
            # os.write: print() inside a handler can meet a print() that the signal interrupted.
            os.write(2, f"\n{name}: finishing this step and saving; Ctrl-C (again) stops at once\n".encode())
        self.request(name)
