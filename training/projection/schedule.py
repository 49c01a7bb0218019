"""What changes during a projection, as functions of the share t of its steps that are done (appendix D)."""

from __future__ import annotations

import math

from training.projection.options import ProjectionOptions


def learning_rate(t: float, options: ProjectionOptions) -> float:
    """Rises linearly from 0 over the first `ramp_up`, falls to 0 as a half cosine over the last `ramp_down`."""
    down = min(1.0, (1 - t) / options.ramp_down) if options.ramp_down else 1.0
    up = min(1.0, t / options.ramp_up) if options.ramp_up else 1.0
    return options.learning_rate * (0.5 - 0.5 * math.cos(math.pi * down)) * up


def w_noise_strength(t: float, options: ProjectionOptions) -> float:
    """Strength of the noise on w in standard deviations of w: falls quadratically, 0 from t = `w_noise_ramp` on."""
    left = max(0.0, 1 - t / options.w_noise_ramp) if options.w_noise_ramp else 0.0
    return options.w_noise * left**2


def snapshot_steps(count: int, steps: int) -> list[int]:
    """Numbers of steps after which to look, evenly spaced, the last one among them; for 5 of 1000: 200, 400, ..."""
    count = min(count, steps)
    return [steps * (index + 1) // count for index in range(count)]
