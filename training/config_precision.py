"""The part of a configuration that says what runs in low precision besides `num_fp16_res`, and how losses are scaled.

Variables, mapping network, styles and losses are float32 always.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from dnnlib.util import UserError, list_nearest
from training.config_types import Section

# The losses that are optimised by steps of their own; each has its own loss scale.
PHASES = ("G_main", "G_reg", "D_main", "D_reg")
_ALL = 10  # more resolutions than any network has
_CLAMP = 256.0


@dataclass(frozen=True)
class PrecisionConfig(Section):
    """Mixed precision. A loss is scaled only where the networks behind it have `num_fp16_res` > 0."""

    section: ClassVar[str] = "precision"
    dtype: str = "auto"  # auto: float16 on GPUs, bfloat16 on CPUs | float16 | bfloat16
    G_4x4: bool = False  # the 4x4 layers of G as well, if G.num_fp16_res reaches them
    D_4x4: bool = False  # the 4x4 layers and the output of D as well, if D.num_fp16_res reaches them
    loss_scaling: tuple[str, ...] = ("G_main", "D_main")  # of G_main, G_reg (path length), D_main, D_reg (R1)
    scale_init: float = 65536.0  # first loss scale
    scale_growth_steps: int = 2000  # good steps after which a scale is doubled; it is halved on overflow
    scale_max: float = 2.0**24

    def _check(self) -> None:
        self._one_of("dtype", ("auto", "float16", "bfloat16"))
        self._at_least(1, "scale_init", "scale_growth_steps", "scale_max")
        for name in ("scale_init", "scale_max"):
            if math.frexp(getattr(self, name))[0] != 0.5:
                self._refuse(name, "a power of two, so that scaling rounds nothing")
        if self.scale_init > self.scale_max:
            self._refuse("scale_init", f"at most {self._path('scale_max')}={self.scale_max:g}")
        for name in self.loss_scaling:
            if name not in PHASES:
                self._refuse("loss_scaling", "none or losses of " + ", ".join(PHASES), list_nearest(name, PHASES))


def _variant(
    G: int, D: int, clamp: float | None, scaling: tuple[str, ...], G_4x4: bool = False, D_4x4: bool = False
) -> dict[str, Any]:
    return {
        "G.num_fp16_res": G,
        "D.num_fp16_res": D,
        "G.conv_clamp": clamp,
        "D.conv_clamp": clamp,
        "precision.G_4x4": G_4x4,
        "precision.D_4x4": D_4x4,
        "precision.loss_scaling": scaling,
    }


# What `--precision` names. Published results on FFHQ at 256x256 after 800k steps (FID; float32: 3.99) stand beside.
PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": _variant(0, 0, None, ()),
    # StyleGAN2-ADA: the four highest resolutions, activations clamped, no scaling.
    "ada": _variant(4, 4, _CLAMP, ()),
    # The same, with losses scaled too.
    "scaled": _variant(4, 4, _CLAMP, ("G_main", "D_main")),
    # Four resolutions without clamping, scaling of all but path length: 4.33.
    "partial": _variant(4, 4, None, ("G_main", "D_main", "D_reg")),
    # All of G, four resolutions of D; neither path length nor R1 scaled, which diverged when they were: 4.36.
    "whole-G": _variant(_ALL, 4, None, ("G_main", "D_main"), G_4x4=True),
    # All of both, one scale each for G and D, none for path length and R1: 4.61.
    "whole": _variant(_ALL, _ALL, None, ("G_main", "D_main"), G_4x4=True, D_4x4=True),
}


def find_precision(name: str) -> dict[str, Any]:
    """Fields that `--precision NAME` sets. Raises `UserError` with the nearest name."""
    if name not in PRECISIONS:
        raise UserError(f"--precision {name!r} is unknown: {list_nearest(name, PRECISIONS)}")
    return PRECISIONS[name]
