"""Functions for worker processes, which import the module that has them: this one costs next to nothing."""

from __future__ import annotations

import os


def work(number: int) -> int:
    """The square. Raises `ValueError` for every seventh number from 3 on."""
    if number % 7 == 3:
        raise ValueError(f"no {number}")
    return number * number


def die(number: int) -> None:
    """Ends the process as a crash does: at once."""
    os._exit(1)


def die_at_seven(number: int) -> int:
    """The number; 7 ends the process."""
    if number == 7:
        die(number)
    return number
