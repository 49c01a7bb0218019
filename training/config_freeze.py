"""The part of a configuration that says which variables stay as they are, and until when."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

from training.config_types import Section

Stages = tuple[tuple[float, tuple[str, ...]], ...]


@dataclass(frozen=True)
class FreezeConfig(Section):
    """Patterns of trainable variables that do not move; see `training/freeze.py` for what a pattern may be.

    `*_layers`: patterns that are frozen from the start. `*_steps`: ((kimg, patterns), ...): from kimg on, those are
    frozen instead of the ones before, e.g. [[500, ["res>=64"]], [1000, []]] to unfreeze in two steps.
    """

    section: ClassVar[str] = "freeze"
    G_layers: tuple[str, ...] = ()  # e.g. G_mapping, res<=64, */ToRGB/*
    D_layers: tuple[str, ...] = ()  # e.g. first:4 (freeze-D), res>=32
    G_steps: Stages = ()
    D_steps: Stages = ()

    def _check(self) -> None:
        for name in ("G_steps", "D_steps"):
            kimgs = [kimg for kimg, _ in getattr(self, name)]
            if any(k < 0 for k in kimgs) or any(a >= b for a, b in itertools.pairwise(kimgs)):
                self._refuse(name, "[[kimg, [pattern, ...]], ...] with increasing kimg >= 0")

    def stages(self, network: str) -> Stages:
        """((kimg, patterns), ...) of `G` or `D`, the first from 0 kimg on."""
        return ((0.0, getattr(self, f"{network}_layers")), *getattr(self, f"{network}_steps"))
