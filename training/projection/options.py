"""Numbers of a projection, those of appendix D unless changed."""

from __future__ import annotations

from dataclasses import dataclass

from dnnlib.util import UserError

MOST_STEPS = 1_000_000
MOST_SEED = 2**32 - 1


@dataclass(frozen=True)
class ProjectionOptions:
    """How to project. Raises `UserError` for values out of range.

    steps: of Adam. learning_rate: its highest. ramp_down, ramp_up: shares of the steps. w_noise: strength of the noise
    on w at the start, in standard deviations of w; w_noise_ramp: share of the steps after which it is gone.
    noise_weight: of the regularisation of noise maps. pyramid_gain: factor after each halving of noise maps: 1 as the
    published program does, 2 as appendix D says, which keeps unit variance and weighs coarse signal 16 times more per
    level. w_plus: a w of its own for every layer. optimize_noise: whether noise maps follow. seed: of noise.
    """

    steps: int = 1000
    learning_rate: float = 0.1
    ramp_down: float = 0.25
    ramp_up: float = 0.05
    w_noise: float = 0.05
    w_noise_ramp: float = 0.75
    noise_weight: float = 1e5
    pyramid_gain: float = 1.0
    w_plus: bool = False
    optimize_noise: bool = True
    seed: int = 303

    def __post_init__(self) -> None:
        ranges = {
            "steps": (1, MOST_STEPS),
            "learning_rate": (0, float("inf")),
            "ramp_down": (0, 1),
            "ramp_up": (0, 1),
            "w_noise": (0, float("inf")),
            "w_noise_ramp": (0, 1),
            "noise_weight": (0, float("inf")),
            "pyramid_gain": (0, float("inf")),
            "seed": (0, MOST_SEED),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise UserError(f"projection: {name} is {value}, expected {least} to {most}")
