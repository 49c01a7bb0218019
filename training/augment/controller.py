"""How the strength of the augmentation follows overfitting (ADA paper, sections 3.1 and 3.2)."""

from __future__ import annotations

import math

MIN_GAP = 1e-8  # of the scores of reals and fakes, so that r_v stays finite


def overfitting_rv(real: float, fake: float, valid: float) -> float:
    """r_v of mean scores: 0 where held-out images look like training images to D, 1 where they look like fakes.

    Where D does not tell fakes from reals nothing lies between them, and only the sign says something.
    """
    return (real - valid) / max(real - fake, MIN_GAP)


def adjust_p(p: float, measured: float, images: float, target: float, tune_kimg: float, p_max: float) -> float:
    """p after `images` images more: a step towards more augmentation where D overfits, towards less where not.

    Args:
        p: probability so far, in [0, 1].
        measured: r_t (mean sign of D(real)) or r_v since the last adjustment; where it is not finite, p stays.
        images: real images shown since the last adjustment.
        target: value of the heuristic at which p stays.
        tune_kimg: thousands of images in which p moves by 1.
        p_max: upper limit; the published code has none, and p above 1 saturates there.

    Returns p in [0, p_max].
    """
    if not math.isfinite(measured):
        return p
    direction = (measured > target) - (measured < target)
    return min(max(p + direction * images / (tune_kimg * 1000), 0.0), p_max)
