"""Progress bars on stderr: of people who watch, and of log files, which would fill up with them."""

from __future__ import annotations

import sys

from tqdm import tqdm

_WATCHED_SEC, _LOGGED_SEC = 0.1, 30.0  # between two states of a bar


def progress_bar(
    total: int | None, title: str, unit: str, *, shown: bool = True, leave: bool = True, initial: int = 0
) -> tqdm:
    """A bar to be used as a context manager, with the rate and the time left. unit: what is counted, bytes as "B"."""
    interval = _WATCHED_SEC if sys.stderr.isatty() else _LOGGED_SEC
    return tqdm(
        total=total, desc=title, unit=unit, unit_scale=unit == "B", initial=initial, disable=not shown, leave=leave,
        mininterval=interval, maxinterval=max(interval, 10.0), file=sys.stderr,
    )  # fmt: skip
