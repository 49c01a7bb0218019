"""The part of a configuration that says how images are augmented before D sees them.

Names and numbers of the adaptive augmentation follow "Training Generative Adversarial Networks with Limited Data"
(Karras et al. 2020): section 3.1 and appendix B; `diffaugment` follows "Differentiable Augmentation for Data-Efficient
GAN Training" (Zhao et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dnnlib.util import UserError, list_nearest
from training.config_types import Section

MODES = ("noaug", "ada", "fixed", "adarv")

# Families of operations, in the order in which the pipeline applies them.
FAMILIES: dict[str, tuple[str, ...]] = {
    "blit": ("xflip", "rotate90", "xint"),
    "geom": ("scale", "rotate", "aniso", "xfrac"),
    "color": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "filter": ("imgfilter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
}
OPERATIONS = tuple(name for family in FAMILIES.values() for name in family)
_COMBINED = {
    "bg": ("blit", "geom"),
    "bgc": ("blit", "geom", "color"),
    "bgcf": ("blit", "geom", "color", "filter"),
    "bgcfn": ("blit", "geom", "color", "filter", "noise"),
    "bgcfnc": ("blit", "geom", "color", "filter", "noise", "cutout"),
}
# Short names that the figures of the paper use.
_LETTERS = {"b": "blit", "g": "geom", "c": "color", "f": "filter", "n": "noise", "cut": "cutout"}
# Named pipelines -> families.
PIPES: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in FAMILIES},
    **{letter: (name,) for letter, name in _LETTERS.items()},
    **_COMBINED,
}
POLICIES = ("color", "translation", "cutout")

# What the heuristics aim at: the mean sign of D(real), or the overfitting that held-out images show.
DEFAULT_TARGET = {"ada": 0.6, "adarv": 0.5}


@dataclass(frozen=True)
class AugmentConfig(Section):
    """Augmentation of everything that D sees: reals, and fakes in the losses of both networks.

    mode: noaug; ada: p follows r_t = E[sign(D(real))]; adarv: p follows r_v of held-out images; fixed: p stays.
    """

    section: ClassVar[str] = "augment"
    mode: str = "noaug"  # noaug | ada | fixed | adarv
    p: float | None = None  # fixed: probability of every operation, in [0, 1]; ada, adarv: where to start; none: 0
    target: float | None = None  # of r_t (none: 0.6) or r_v (none: 0.5)
    pipe: str = "bgc"  # blit geom color filter noise cutout, or b g c f n cut, or bg bgc bgcf bgcfn bgcfnc
    multipliers: dict[str, float] | None = None  # of p for operations or families, e.g. {"hue": 0, "geom": 0.5}
    tune_kimg: float = 500.0  # p moves by 1 in so many thousand images
    interval: int = 4  # minibatches between adjustments of p
    p_max: float = 0.85  # p never exceeds it: close to 1, augmentations leak into what G draws
    alarm_kimg: float = 100.0  # p this long at its limit means that D overfits all the same; 0: no alarm
    diffaugment: tuple[str, ...] = ()  # policies color, translation, cutout; applied to every image, after the pipe
    zoom_prob: float = 0.0  # of showing a part of an image, taken from a higher resolution of the data set
    zoom_range: tuple[float, float] = (1.0, 2.0)  # of the factor, log-uniform
    zoom_fakes: bool = True  # zoom into fakes as often; false: G learns to draw parts, too

    def _check(self) -> None:
        self._one_of("mode", MODES)
        if self.mode == "fixed" and self.p is None:
            self._refuse("p", "a probability in [0, 1] with augment.mode=fixed")
        if self.mode == "noaug" and self.p is not None:
            self._refuse("p", "none with augment.mode=noaug", "choose fixed, ada or adarv")
        if self.p is not None and not 0 <= self.p <= 1:
            self._refuse("p", "a probability in [0, 1]")
        if not 0 < self.p_max <= 1:
            self._refuse("p_max", "a probability in (0, 1]")
        if self.adaptive and self.p is not None and self.p > self.p_max:
            self._refuse("p", f"a start of at most augment.p_max={self.p_max:g}")
        if self.target is not None and not self.adaptive:
            self._refuse("target", f"none with augment.mode={self.mode}", "only ada and adarv aim at something")
        if self.target is not None and not -1 <= self.target <= 1:
            self._refuse("target", "a number in [-1, 1]")
        if self.pipe not in PIPES:
            self._refuse("pipe", "a named pipeline", list_nearest(self.pipe, PIPES))
        check_multipliers(self.multipliers or {}, self._path("multipliers"))
        self._positive("tune_kimg")
        self._at_least(1, "interval")
        self._at_least(0, "alarm_kimg")
        self._check_policies()
        self._check_zoom()

    def _check_policies(self) -> None:
        for name in self.diffaugment:
            if name not in POLICIES:
                self._refuse("diffaugment", "policies of DiffAugment", list_nearest(name, POLICIES))
        if len(set(self.diffaugment)) != len(self.diffaugment):
            self._refuse("diffaugment", "distinct policies")

    def _check_zoom(self) -> None:
        if not 0 <= self.zoom_prob <= 1:
            self._refuse("zoom_prob", "a probability in [0, 1]")
        low, high = self.zoom_range
        if not 1 <= low <= high <= 64:
            self._refuse("zoom_range", "a pair of factors, 1 <= from <= to <= 64")

    @property
    def adaptive(self) -> bool:
        """Whether p is adjusted while training."""
        return self.mode in DEFAULT_TARGET

    @property
    def goal(self) -> float | None:
        """What the heuristic aims at; none where p is not adjusted."""
        return DEFAULT_TARGET.get(self.mode) if self.target is None else self.target

    @property
    def initial_p(self) -> float:
        """p of the first minibatch."""
        return self.p or 0.0

    @property
    def operations(self) -> dict[str, float]:
        """Multiplier of p for every operation of the pipeline, zeros left out; empty without augmentation."""
        if self.mode == "noaug":
            return {}
        given = self.multipliers or {}
        result: dict[str, float] = {}
        for family in PIPES[self.pipe]:
            for name in FAMILIES[family]:
                factor = given.get(name, given.get(family, 1.0))
                if factor > 0:
                    result[name] = factor
        return result


def check_multipliers(multipliers: Mapping[str, float], where: str) -> None:
    """Names of operations or families, to numbers >= 0. Raises `UserError` with the nearest name."""
    for name, value in multipliers.items():
        if name not in OPERATIONS and name not in FAMILIES:
            known = [*OPERATIONS, *(family for family in FAMILIES if family not in OPERATIONS)]
            raise UserError(f"{where}: unknown operation {name!r}: {list_nearest(name, known)}")
        if not 0 <= value < float("inf"):
            raise UserError(f"{where}: {name}: found {value!r}, expected a number >= 0")
