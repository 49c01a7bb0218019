"""`log.txt` of a run: everything printed goes to the screen and to the file."""

import os
import re
import sys
import threading
import traceback
from types import TracebackType
from typing import Any, TextIO

from dnnlib.util import UserError

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_]")


class _Stream:
    """Stands in for sys.stdout or sys.stderr: passes everything on, and hands complete lines to the log."""

    def __init__(self, original: TextIO, tee: "LogTee") -> None:
        self._original = original
        self._tee = tee
        self._pending = ""

    def write(self, text: str) -> int:
        """Writes to the screen and, line by line, to the log."""
        self._original.write(text)
        with self._tee.lock:
            *lines, self._pending = (self._pending + text).split("\n")
            for line in lines:
                self._tee.write_line(line)
            # A progress bar rewrites its line thousands of times: only what stands there at the end is kept.
            head, _, last = self._pending.rpartition("\r")
            self._pending = last or head.rpartition("\r")[2]
            if head and not last:
                self._pending += "\r"
        return len(text)

    def finish(self) -> None:
        """Logs a last line that has no newline."""
        with self._tee.lock:
            if self._pending:
                self._tee.write_line(self._pending)
            self._pending = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class LogTee:
    """Context manager: copies stdout and stderr of this process to a file, which is appended to.

    Terminal colours and the intermediate states of progress bars are left out of the file. An exception that leaves
    the block is logged with its traceback (a `UserError` as one line). What libraries write past Python, straight to
    the file descriptors, is not caught. If the disk fills up, logging stops with one warning and the run goes on.

    Raises:
        UserError: on entering, if the file cannot be opened.
    """

    def __init__(self, path: os.PathLike | str) -> None:
        self.path = os.fspath(path)
        self.lock = threading.RLock()
        self._file: TextIO | None = None
        self._streams: dict[str, _Stream] = {}

    def __enter__(self) -> "LogTee":
        try:
            self._file = open(self.path, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        except OSError as err:
            raise UserError(f"cannot write {self.path}: {err.strerror or err}") from err
        for name in ("stdout", "stderr"):
            self._streams[name] = _Stream(getattr(sys, name), self)
            setattr(sys, name, self._streams[name])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, stream in self._streams.items():
            stream.finish()
            if getattr(sys, name) is stream:
                setattr(sys, name, stream._original)
        if isinstance(error, UserError):
            self.write_line(f"error: {error}")
        elif error is not None and not isinstance(error, SystemExit):
            self.write_line("".join(traceback.format_exception(kind, error, trace)).rstrip())
        with self.lock:
            if self._file is not None:
                self._file.close()
            self._file = None

    def write_line(self, line: str) -> None:
        """Writes one line to the file alone."""
        with self.lock:
            if self._file is None:
                return
            line = _ESCAPES.sub("", line.rstrip("\r").rpartition("\r")[2])
            try:
                self._file.write(line + "\n")
                self._file.flush()
            except OSError as err:
                broken, self._file = self._file, None
                original = self._streams["stderr"]._original
                original.write(f"warning: {self.path} is no longer written: {err.strerror or err}\n")
                try:
                    broken.close()
                except OSError:
                    return
