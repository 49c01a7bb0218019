"""Progress bars: quiet in log files, complete for people."""

from __future__ import annotations

import io
import sys

import pytest

from metrics.progress import progress_bar


class Terminal(io.StringIO):
    """stderr of somebody who watches, or a log file."""

    def __init__(self, watched):
        super().__init__()
        self._watched = watched

    def isatty(self):
        return self._watched


def states(monkeypatch, watched, **options):
    """What stands on stderr after a thousand steps of a second, one state of the bar per entry."""
    stream, clock = Terminal(watched), iter(range(10**6))
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(1000, "fakes", "img", **options) as bar:
        bar._time = lambda: float(next(clock))
        bar.last_print_t = bar.start_t = 0.0
        for _ in range(1000):
            bar.update()
    return [state for state in stream.getvalue().split("\r") if state.strip()]


def test_a_log_file_gets_a_line_in_half_a_minute(monkeypatch):
    watched, logged = (states(monkeypatch, where) for where in (True, False))
    assert len(watched) > 300 and 5 < len(logged) < 80
    assert "fakes" in logged[-1] and "1000/1000" in logged[-1] and "img/s" in logged[1]


@pytest.mark.parametrize("watched", [True, False])
def test_not_shown(monkeypatch, watched):
    assert states(monkeypatch, watched, shown=False) == []


def test_bytes_are_scaled(monkeypatch):
    stream = Terminal(True)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(5_000_000, "x.pth", "B", initial=2_000_000) as bar:
        bar.update(3_000_000)
    assert "5.00M/5.00M" in stream.getvalue()
