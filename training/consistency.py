"""Consistency regularisation of D and G: bCR and zCR (Zhao et al. 2020, "Improved Consistency Regularization").

bCR: D should score an image and the same image shifted alike. zCR: D should score fakes of nearly the same z alike, and
G should draw them differently. Both were compared with adaptive augmentation by its authors, whose weights are those of
`--cmethod`. Differences of scores are squared; those of images too, and averaged over their pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dnnlib.tflib.tfutil import tf
from training.augment.shift import draw_shift, shift
from training.config_schedule import LossConfig


@dataclass(frozen=True)
class Consistency:
    """Weights of the terms, 0 for none; shift: of bCR, at most, as a share of the size; std: of the changes of z."""

    bcr_real: float = 0.0
    bcr_fake: float = 0.0
    shift: float = 1 / 32
    zcr_gen: float = 0.0
    zcr_dis: float = 0.0
    std: float = 0.1

    @staticmethod
    def of(loss: LossConfig) -> Consistency:
        """As configured."""
        return Consistency(
            loss.bcr_real, loss.bcr_fake, loss.bcr_shift, loss.zcr_gen, loss.zcr_dis, loss.zcr_std
        )  # fmt: skip

    @property
    def shifts(self) -> bool:
        """Whether D scores shifted images."""
        return bool(self.bcr_real or self.bcr_fake)

    def shifted(self, images: tf.Tensor, rng: Any) -> tf.Tensor:
        """Images [N, C, H, W] moved by whole pixels, each by its own; the border is reflected. `rng` draws `bcr`."""
        n, _, height, width = images.shape.as_list()
        reach = (int(self.shift * height + 0.5), int(self.shift * width + 0.5))
        amounts = draw_shift(rng.uniform("bcr", [2, n]), (self.shift * height, self.shift * width))
        return shift(images, amounts, reach, "REFLECT")


def disagreement(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of scores [N, 1], or of images [N, C, H, W] over samples and pixels: a scalar."""
    return tf.reduce_mean(tf.square(a - b))
