"""What an operation did: one line per variable that is not as it was, and notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.table import Table

from training.surgery.states import Model, flat_variables

ORDER = ("copied", "resized", "changed", "new", "kept", "left out")


@dataclass(frozen=True)
class Change:
    """One variable: network, flat name, what happened, shape before and after ("" where there is none)."""

    network: str
    variable: str
    what: str
    before: str = ""
    after: str = ""


@dataclass
class Report:
    """Changes and notes; a note is one sentence about the whole."""

    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, network: str, variable: str, what: str, before: object = None, after: object = None) -> None:
        """One variable; `before` and `after` are arrays or None."""
        self.changes.append(Change(network, variable, what, _shape(before), _shape(after)))

    def counts(self) -> Counter[str]:
        """How many variables each thing happened to."""
        return Counter(change.what for change in self.changes)


def _shape(value: object) -> str:
    return "" if value is None else "x".join(map(str, np.shape(value))) or "scalar"


def compare(before: Model, after: Model) -> Report:
    """What differs between two models, variable by variable."""
    report = Report()
    for name, state in after.networks.items():
        old = flat_variables(before.networks[name]) if name in before.networks else {}
        new = flat_variables(state)
        for variable, value in new.items():
            if variable not in old:
                report.add(name, variable, "new", None, value)
            elif old[variable].shape != value.shape:
                report.add(name, variable, "resized", old[variable], value)
            elif np.array_equal(old[variable], value):
                report.add(name, variable, "copied", old[variable], value)
            else:
                report.add(name, variable, "changed", old[variable], value)
        for variable, value in old.items():
            if variable not in new:
                report.add(name, variable, "left out", value, None)
    for name in before.networks:
        if name not in after.networks:
            report.notes.append(f"{name} is left out")
    return report


def print_report(report: Report, verbose: bool = False) -> None:
    """Prints the table to stdout; without `verbose`, variables that were simply copied are only counted."""
    console = Console(soft_wrap=True, highlight=False)
    shown = [change for change in report.changes if verbose or change.what != "copied"]
    if shown:
        table = Table("network", "variable", "what", "before", "after", box=None, pad_edge=False)
        for change in shown:
            table.add_row(change.network, change.variable, change.what, change.before, change.after)
        console.print(table)
    for note in report.notes:
        console.print(note, markup=False)
    counts: Mapping[str, int] = report.counts()
    console.print(", ".join(f"{counts[what]} {what}" for what in ORDER if counts.get(what)) or "nothing to do")
