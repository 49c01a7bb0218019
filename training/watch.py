"""Notices a training that goes wrong: steps that are not finite, an overfitted D, fakes that become all the same.

Signals, from what a step or a tick reports, limits in `WatchConfig`:
- nan: one of the losses was not finite `nan_steps` times in a row, at the smallest loss scale if it has one;
- sign: r_t = mean sign(D(real)) near +-1: D tells its data from everything else (paper on adaptive augmentation, 2.2);
- gap: D(real) - D(fake) explodes;
- path: path lengths of G jump over their average of earlier ticks;
- diversity: fakes of a minibatch differ much less from each other than reals do, in pixels at low resolution;
- metric: a metric on a snapshot is far worse than the best one (FID rising, `diversity...` of features falling).

Everything that a decision depends on is in `WatchState`, which is part of the training state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dnnlib.tflib.loss_scaling import MIN_SCALE
from dnnlib.util import UserError
from training.config_precision import PHASES
from training.config_watch import WatchConfig

_PATH_MEMORY = 0.9  # weight of the past in the average of path lengths over ticks
_TAGS = {
    "r_t": "Loss/signs/real",
    "real": "Loss/scores/real",
    "fake": "Loss/scores/fake_D",
    "path": "Loss/pl_lengths",
    "reals": "Diversity/real",
    "fakes": "Diversity/fake",
}


class TrainingStopped(UserError):
    """A run that was stopped because of an alarm. Its state is kept."""


@dataclass
class WatchState:
    """What the watch remembers.

    bad_steps: loss -> steps that were not finite, in a row; sums, counts: of the tick so far, by short name; lasting:
    signal -> ticks in a row beyond its limit; alarms: signals that have been reported and last; path_mean: average
    path length of earlier ticks; good_tick: tick of the newest good state, -1 for none.
    """

    bad_steps: dict[str, int] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    lasting: dict[str, int] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)
    path_mean: float | None = None
    good_tick: int = -1


@dataclass(frozen=True)
class Alarm:
    """A signal beyond its limit. action: what is done; text: what was found, the limit, and what may help."""

    signal: str
    action: str
    text: str


class Watch:
    """Turns reports into alarms. state: read and kept up to date; new alarms wait in `pending` until they are taken."""

    def __init__(self, config: WatchConfig, state: WatchState) -> None:
        self.config, self.state = config, state
        self.pending: list[Alarm] = []

    def take(self) -> list[Alarm]:
        """The alarms since the last call."""
        found, self.pending = self.pending, []
        return found

    @property
    def healthy(self) -> bool:
        """Nothing is beyond a limit, not even for less than `ticks` ticks."""
        s = self.state
        return not (s.alarms or any(s.lasting.values()) or any(s.bad_steps.values()))

    def _alarm(self, signal: str, text: str) -> None:
        self.pending.append(Alarm(signal, self.config.action_for(signal), f"{signal}: {text}"))

    def minibatch(self, values: Mapping[str, Any]) -> None:
        """Look at the reports of one minibatch."""
        s, limit = self.state, self.config.nan_steps
        for phase in PHASES:
            skipped = values.get(f"Skipped/{phase}")
            if skipped is None:
                continue
            # Overflow is what finds the right scale; at the smallest one something is wrong with the numbers.
            bad = bool(skipped) and values.get(f"LossScale/{phase}", MIN_SCALE) <= MIN_SCALE
            s.bad_steps[phase] = s.bad_steps.get(phase, 0) + 1 if bad else 0
            if limit is not None and s.bad_steps[phase] >= limit:
                s.bad_steps[phase] = 0
                self._alarm(
                    "nan",
                    f"{limit} steps of {phase} in a row were not finite; the variables are those before them. Go on "
                    "from an earlier state with lower learning rates (opt.G_lrate, opt.D_lrate), a larger "
                    "loss.r1_gamma, or --precision float32",
                )
        for short, tag in _TAGS.items():
            value = values.get(tag)
            if value is not None and math.isfinite(value):
                s.sums[short] = s.sums.get(short, 0.0) + float(value)
                s.counts[short] = s.counts.get(short, 0) + 1

    def end_tick(self, kimg: float) -> None:
        """Look at the means of a tick that ends at `kimg`."""
        s, c = self.state, self.config
        mean = {short: s.sums[short] / s.counts[short] for short in s.sums}
        s.sums, s.counts = {}, {}
        remember = s.path_mean
        if "path" in mean:
            s.path_mean = mean["path"] if remember is None else lerp(mean["path"], remember, _PATH_MEMORY)
        if kimg < c.start_kimg:
            return
        if "r_t" in mean:
            text = (
                f"mean sign of D(real) is {mean['r_t']:.3f}, limit {c.sign_limit}; D knows its data by heart: adaptive "
                "augmentation, more data, or a larger loss.r1_gamma help"
            )
            self._lasts("sign", c.sign_limit is not None and abs(mean["r_t"]) > c.sign_limit, text)
        if "real" in mean and "fake" in mean:
            gap = mean["real"] - mean["fake"]
            text = f"D(real) - D(fake) is {gap:.1f}, limit {c.gap_limit}; a larger loss.r1_gamma or a lower opt.D_lrate"
            self._lasts("gap", c.gap_limit is not None and gap > c.gap_limit, f"{text} helps")
        if "path" in mean and remember:
            text = (
                f"path length jumped to {mean['path']:.3g} from {remember:.3g}, limit {c.path_factor} times; "
                "a lower opt.G_lrate helps"
            )
            self._lasts("path", c.path_factor is not None and mean["path"] > c.path_factor * remember, text)
        if mean.get("reals") and "fakes" in mean:
            ratio = mean["fakes"] / mean["reals"]
            text = (
                f"fakes differ {ratio:.2f} times as much as reals, limit {c.diversity_limit}; G shows few modes: "
                "go back to an earlier state with lower learning rates or a larger loss.r1_gamma"
            )
            self._lasts("diversity", c.diversity_limit is not None and ratio < c.diversity_limit, text)

    def _lasts(self, signal: str, beyond: bool, text: str) -> None:
        s = self.state
        s.lasting[signal] = s.lasting.get(signal, 0) + 1 if beyond else 0
        if not beyond and signal in s.alarms:
            s.alarms.remove(signal)
        if s.lasting[signal] >= self.config.ticks and signal not in s.alarms:
            s.alarms.append(signal)
            self._alarm(signal, text)

    def metric(self, name: str, value: float, best: float, higher_is_better: bool) -> None:
        """Look at a metric of a snapshot. best: the best value so far, this one included."""
        s, factor = self.state, self.config.metric_factor
        mark = f"metric {name}"
        if factor is None or best <= 0:  # ratios of a metric that can be negative say nothing
            return
        beyond = value * factor < best if higher_is_better else value > best * factor
        beyond = beyond or not math.isfinite(value)
        if beyond and mark not in s.alarms:
            s.alarms.append(mark)
            self._alarm("metric", f"{name} is {value:.4g}, best so far {best:.4g}, limit {factor} times worse")
        if not beyond and mark in s.alarms:
            s.alarms.remove(mark)

    def forget(self) -> None:
        """After a stop: what lasts is reported again when the run goes on."""
        self.state.bad_steps, self.state.lasting, self.state.alarms = {}, {}, []


def lerp(new: float, old: float, weight: float) -> float:
    """Moving average."""
    return new + (old - new) * weight
