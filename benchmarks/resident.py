"""Resident memory of this process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _field(name: str) -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{_STATUS} has no {name}")


def resident() -> int:
    """Bytes resident now."""
    return _field("VmRSS")


def peak_resident() -> int:
    """The most bytes resident at once since the start of the process or `restart_peak`."""
    return _field("VmHWM")


def restart_peak() -> None:
    """Count the peak from now on."""
    _CLEAR.write_text("5", encoding="ascii")
