"""What holds at an image count: minibatch, learning rates, R1 weight, decay of Gs, length of a tick.

Everything is a pure function of (configuration, nimg), so a resumed run is where an uninterrupted one would be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from training.config import TrainConfig
from training.config_schedule import ScheduleConfig

# kimg per tick by resolution; larger ones take 4 (spec 4.1).
KIMG_PER_TICK = {8: 28.0, 16: 24.0, 32: 20.0, 64: 16.0, 128: 12.0, 256: 8.0, 512: 6.0, 1024: 4.0}


@dataclass(frozen=True)
class StepSettings:
    """Settings of one optimizer step.

    batch: images per step over all towers = batch_gpu * rounds * num_gpus; batch_gpu: images per tower and round;
    G_lrate, D_lrate: before the lazy-regularisation correction; ema_beta: Gs <- lerp(G, Gs, ema_beta); mixing:
    probability of style mixing.
    """

    batch: int
    batch_gpu: int
    rounds: int
    G_lrate: float
    D_lrate: float
    r1_gamma: float
    ema_beta: float
    kimg_per_tick: float
    mixing: float


@dataclass(frozen=True)
class AdamSettings:
    """Hyper-parameters of Adam."""

    lrate: float
    beta1: float
    beta2: float
    epsilon: float


def schedule(config: TrainConfig, nimg: float, resolution: int) -> StepSettings:
    """Settings of the step that starts when `nimg` images have been shown to D.

    Args:
        nimg: images so far, >= 0.
        resolution: larger side of the images; decides the length of a tick and the minibatch per tower where not
            configured.
    """
    plan, kimg = config.schedule, nimg / 1000
    batch_gpu, batch = choose_batch_gpu(config, resolution), int(piecewise(plan.batch_steps, kimg, plan.batch))
    return StepSettings(
        batch=batch,
        batch_gpu=batch_gpu,
        rounds=batch // (batch_gpu * config.num_gpus),
        G_lrate=interpolate(plan.G_lrate_steps, kimg, config.opt.G_lrate, plan.lrate_curve),
        D_lrate=interpolate(plan.D_lrate_steps, kimg, config.opt.D_lrate, plan.lrate_curve),
        r1_gamma=interpolate(plan.gamma_steps, kimg, config.loss.r1_gamma, plan.gamma_curve),
        ema_beta=ema_beta(plan, nimg, batch),
        kimg_per_tick=plan.kimg_per_tick or KIMG_PER_TICK.get(1 << (resolution - 1).bit_length(), 4.0),
        mixing=interpolate(plan.mixing_steps, kimg, config.G.style_mixing_prob or 0.0, plan.mixing_curve),
    )


def uses_rounds(config: TrainConfig, resolution: int) -> bool:
    """Whether any minibatch of the run takes several rounds, which need accumulators."""
    return max(config.schedule.batches) > choose_batch_gpu(config, resolution) * config.num_gpus


def interpolate(points: Sequence[tuple[float, float]], kimg: float, before: float, curve: str) -> float:
    """Value at `kimg` of a schedule through `points` (kimg, value).

    curve: `steps` holds each value from its kimg on, `before` until the first. `linear`, `exponential` (a constant
    factor per kimg) and `cosine` (level at both ends) go from point to point, from (0, `before`) unless the first
    point is at 0, and stay at the last value.
    """
    if curve == "steps" or not points:
        return piecewise(points, kimg, before)
    knots = [*points] if points[0][0] <= 0 else [(0.0, before), *points]
    for (start, a), (end, b) in zip(knots, knots[1:], strict=False):
        if kimg < end:
            t = (kimg - start) / (end - start)
            if t <= 0:
                return a
            if curve == "exponential":
                return a * (b / a) ** t
            return a + (b - a) * (t if curve == "linear" else (1 - math.cos(math.pi * t)) / 2)
    return knots[-1][1]


def piecewise(steps: Sequence[tuple[float, float]], kimg: float, before: float) -> float:
    """Value of the last step (start in kimg, value) that has begun, `before` the first one."""
    value = before
    for start, step_value in steps:
        if kimg >= start:
            value = step_value
    return value


def choose_batch_gpu(config: TrainConfig, resolution: int) -> int:
    """Images per tower and round: as configured, else the most that fits up to 4 at 1024x1024, 32 at 128 and below.

    Larger rounds run faster; the limit grows as the images shrink so that memory stays about that of the published
    setting (4 per GPU at 1024x1024).
    """
    if config.schedule.batch_gpu is not None:
        return config.schedule.batch_gpu
    limit = min(max(4096 // resolution, 4), 32)
    return max(n for n in config.batch_gpu_choices() if n <= limit)


def ema_beta(plan: ScheduleConfig, nimg: float, batch: int | None = None) -> float:
    """Decay of Gs per step: 0.5 ^ (batch / half-life in images) (spec 4.7). batch: of this step, if it changes.

    With `ema_rampup` the half-life is at most that fraction of the images seen, so that Gs does not drag the
    untrained G along; it starts at 0, where Gs is a copy of G.
    """
    half_nimg = plan.ema_kimg * 1000
    if plan.ema_rampup is not None:
        half_nimg = min(half_nimg, nimg * plan.ema_rampup)
    return 0.5 ** ((batch or plan.batch) / max(half_nimg, 1e-8))


def lazy_adam(lrate: float, beta1: float, beta2: float, epsilon: float, interval: int | None) -> AdamSettings:
    """Adam for a network whose regularisation runs as a step of its own every `interval` minibatches.

    Such a network takes k+1 steps where it would take k: with c = k / (k+1) the rate becomes lrate*c, the decays
    beta1^c and beta2^c (paper appendix B). Interval None: no extra steps, nothing to correct.
    """
    c = 1.0 if interval is None else interval / (interval + 1)
    return AdamSettings(lrate * c, beta1**c, beta2**c, epsilon)


def G_adam(config: TrainConfig) -> AdamSettings:
    """G's Adam at the start, corrected if path length runs lazily."""
    interval = config.loss.G_reg_interval if config.loss.pl_weight else None
    return lazy_adam(config.opt.G_lrate, config.opt.beta1, config.opt.beta2, config.opt.epsilon, interval)


def has_r1(config: TrainConfig) -> bool:
    """Whether D is regularised at any time of the run."""
    return bool(config.loss.r1_gamma or any(gamma for _, gamma in config.schedule.gamma_steps))


def D_adam(config: TrainConfig) -> AdamSettings:
    """D's Adam at the start, corrected if R1 runs lazily."""
    interval = config.loss.D_reg_interval if has_r1(config) else None
    return lazy_adam(config.opt.D_lrate, config.opt.beta1, config.opt.beta2, config.opt.epsilon, interval)
