"""The part of a configuration that says what counts as a sick training, and what is done about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dnnlib.util import list_nearest
from training.config_types import Section

ACTIONS = ("warn", "stop", "rollback")
SIGNALS = ("nan", "sign", "gap", "path", "diversity", "metric")


@dataclass(frozen=True)
class WatchConfig(Section):
    """Limits per signal (none: not watched) and actions; see `training/watch.py` for what the signals are."""

    section: ClassVar[str] = "watch"
    action: str = "warn"  # warn | stop | rollback, for every signal but nan, which stops
    actions: dict[str, str] | None = None  # signal -> action, e.g. {"nan": "rollback", "gap": "stop"}
    start_kimg: float = 50.0  # before, only nan is watched: young networks look sick
    ticks: int = 3  # a signal counts when it lasts this many ticks; nan and metric at once
    nan_steps: int | None = 20  # consecutive steps of one loss that were skipped because they were not finite
    sign_limit: float | None = 0.98  # |r_t|, the mean sign of D(real): D has learned the data by heart
    gap_limit: float | None = 30.0  # mean D(real) - D(fake)
    path_factor: float | None = 5.0  # mean path length over its average of earlier ticks
    diversity_limit: float | None = 0.3  # spread of fakes over spread of reals, in pixels at low resolution
    metric_factor: float | None = 2.0  # a metric this many times worse than its best
    good_ticks: int = 4  # ticks between the two good states that are kept to roll back to
    max_rollbacks: int = 3  # then the run stops
    rollback_lrate: float = 0.5  # learning rates of G and D are multiplied by this at every roll-back

    def _check(self) -> None:
        self._one_of("action", ACTIONS)
        for signal, action in (self.actions or {}).items():
            if signal not in SIGNALS:
                self._refuse("actions", "signals of " + ", ".join(SIGNALS), list_nearest(signal, SIGNALS))
            if action not in ACTIONS:
                self._refuse("actions", "actions of " + ", ".join(ACTIONS), list_nearest(action, ACTIONS))
        self._at_least(0, "start_kimg", "max_rollbacks")
        self._at_least(1, "ticks", "nan_steps", "good_ticks", "metric_factor", "path_factor")
        self._positive("sign_limit", "gap_limit", "diversity_limit")
        if not 0 < self.rollback_lrate <= 1:
            self._refuse("rollback_lrate", "a factor in (0, 1]")

    def action_for(self, signal: str) -> str:
        """What is done about a signal."""
        return (self.actions or {}).get(signal, "stop" if signal == "nan" else self.action)

    @property
    def may_roll_back(self) -> bool:
        """Whether any signal leads to a roll-back, which needs good states to be kept."""
        return any(self.action_for(signal) == "rollback" for signal in SIGNALS)
