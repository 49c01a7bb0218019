"""The part of a configuration that says how G and D are trained: losses, optimizers, and what changes on the way."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

from training.config_types import Section

# How a value goes from one point of a schedule to the next: all at once, or gradually.
CURVES = ("steps", "linear", "exponential", "cosine")

# The names of `training/adversarial.py`, which needs TensorFlow.
G_LOSSES = ("logistic_ns", "logistic", "wgan", "hinge")
D_LOSSES = ("logistic", "wgan", "hinge")
D_PENALTIES = ("r1", "r2", "gp", "lp")


@dataclass(frozen=True)
class LossConfig(Section):
    """Non-saturating logistic loss, path length regularisation of G, R1 of D, both lazy (paper section 3).

    Other losses, of the published code and of the anime faces tutorial: see `training/adversarial.py`.
    """

    section: ClassVar[str] = "loss"
    G_loss: str = "logistic_ns"  # logistic_ns | logistic (saturating) | wgan | hinge
    D_loss: str = "logistic"  # logistic | wgan | hinge
    D_penalty: str = "r1"  # on gradients of D: r1 at reals | r2 at fakes | gp (WGAN-GP) | lp (WGAN-LP) between both
    r1_gamma: float = (
        10.0  # weight of that penalty (gp, lp: lambda); for r1 about 0.0002 * resolution^2 / batch; 0: off
    )
    top_k: float = 1.0  # share of the fakes, those with the highest scores, that G's main loss looks at
    G_flood: float | None = None  # level that the main loss of a round does not fall below (training/flooding.py)
    D_flood: float | None = None
    flood_stops: bool = False  # below its level a loss teaches nothing; else it is driven back up to the level
    bcr_real: float = 0.0  # bCR: weight of how much D's scores of reals change when they are shifted
    bcr_fake: float = 0.0  # the same for fakes
    bcr_shift: float = 1 / 32  # by at most this share of width and height
    zcr_gen: float = 0.0  # zCR: weight with which G is rewarded for images that change with z
    zcr_dis: float = 0.0  # weight of how much D's scores of fakes change with z
    zcr_std: float = 0.1  # standard deviation of these changes of z
    pl_weight: float | None = 2.0  # path length weight; 0: off
    pl_decay: float = 0.01  # of the running mean of path lengths
    pl_minibatch_shrink: int = 2  # the path length minibatch is this much smaller
    G_reg_interval: int | None = 4  # minibatches between path length steps; none: added to the main loss
    D_reg_interval: int | None = 16  # minibatches between R1 steps; none: added to the main loss

    def _check(self) -> None:
        self._normalize(
            pl_weight=self.pl_weight or 0.0,
            G_reg_interval=self.G_reg_interval or None,
            D_reg_interval=self.D_reg_interval or None,
        )
        self._one_of("G_loss", G_LOSSES)
        self._one_of("D_loss", D_LOSSES)
        self._one_of("D_penalty", D_PENALTIES)
        if not 0 < self.top_k <= 1:
            self._refuse("top_k", "a share in (0, 1]")
        self._at_least(0, "r1_gamma", "pl_weight", "bcr_real", "bcr_fake", "zcr_gen", "zcr_dis")
        self._positive("zcr_std")
        if not 0 < self.bcr_shift <= 0.5:
            self._refuse("bcr_shift", "a share in (0, 0.5]")
        self._at_least(1, "pl_minibatch_shrink", "G_reg_interval", "D_reg_interval")
        if not 0 < self.pl_decay <= 1:
            self._refuse("pl_decay", "a number in (0, 1]")


@dataclass(frozen=True)
class OptimizerConfig(Section):
    """Adam for G and D, before the lazy-regularisation correction (`schedule.lazy_adam`)."""

    section: ClassVar[str] = "opt"
    G_lrate: float = 0.002
    D_lrate: float = 0.002
    beta1: float = 0.0
    beta2: float = 0.99
    epsilon: float = 1e-8

    def _check(self) -> None:
        self._positive("G_lrate", "D_lrate", "epsilon")
        self._below_one("beta1", "beta2")


@dataclass(frozen=True)
class ScheduleConfig(Section):
    """How long, in which minibatches, and what changes on the way.

    `*_steps`: ((kimg, value), ...). With the curve `steps` a value holds from its kimg on; with the others it is
    reached there, coming from the point before (the first from the configured value at 0 kimg), and kept at the end.
    """

    section: ClassVar[str] = "schedule"
    total_kimg: float = 25000.0
    batch: int = 32  # images per optimizer step, over all devices
    D_repeats: int = 1  # minibatches that D learns from for each that G learns from
    batch_gpu: int | None = None  # images per device and round; rounds accumulate gradients; None: chosen
    kimg_per_tick: float | None = None  # None: by resolution, 28 at 8x8 to 4 at 1024x1024
    ema_kimg: float = 10.0  # half-life of the moving average Gs
    ema_rampup: float | None = None  # half-life at most this fraction of the images seen so far
    G_lrate_steps: tuple[tuple[float, float], ...] = ()
    D_lrate_steps: tuple[tuple[float, float], ...] = ()
    gamma_steps: tuple[tuple[float, float], ...] = ()
    mixing_steps: tuple[tuple[float, float], ...] = ()  # probability of style mixing
    batch_steps: tuple[tuple[float, int], ...] = ()  # images per optimizer step; always in steps
    lrate_curve: str = "steps"  # steps | linear | exponential | cosine, of both learning rates
    gamma_curve: str = "steps"
    mixing_curve: str = "steps"

    @property
    def batches(self) -> tuple[int, ...]:
        """Every minibatch size of the run, in order."""
        return (self.batch, *(batch for _, batch in self.batch_steps))

    def _check(self) -> None:
        self._at_least(0, "total_kimg", "ema_kimg")
        self._at_least(1, "batch", "D_repeats", "batch_gpu")
        self._positive("kimg_per_tick", "ema_rampup")
        for name in ("lrate_curve", "gamma_curve", "mixing_curve"):
            self._one_of(name, CURVES)
        for name in ("G_lrate_steps", "D_lrate_steps", "gamma_steps", "mixing_steps", "batch_steps"):
            steps = getattr(self, name)
            kimgs = [kimg for kimg, _ in steps]
            if any(k < 0 for k in kimgs) or any(a >= b for a, b in itertools.pairwise(kimgs)):
                self._refuse(name, "[[kimg, value], ...] with increasing kimg >= 0")
            if any(v < 0 or (v == 0 and name not in ("gamma_steps", "mixing_steps")) for _, v in steps):
                self._refuse(name, "positive values")
        if any(p > 1 for _, p in self.mixing_steps):
            self._refuse("mixing_steps", "probabilities in [0, 1]")
        for curve, name in (("gamma_curve", "gamma_steps"), ("mixing_curve", "mixing_steps")):
            if getattr(self, curve) == "exponential" and any(v == 0 for _, v in getattr(self, name)):
                self._refuse(name, f"values > 0 with {self._path(curve)}=exponential", "use linear or cosine")
