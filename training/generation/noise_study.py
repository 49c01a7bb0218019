"""What noise inputs do: realisations, their deviation, and noise in some layers alone (figures 4 and 5 of
arXiv:1812.04948)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dnnlib.util import UserError
from training.generation.keys import noise_kept, set_noise, synthesize

if TYPE_CHECKING:
    from dnnlib.tflib.network import Network

GROUPS = ("all", "none", "coarse", "fine")


class NoiseStudy(NamedTuple):
    """Of one w. realizations: uint8 [n, C, H, W]; deviation: float64 [H, W], of the mean over colours, in pixel
    values; groups: uint8 [C, H, W] with noise in these layers: `all`, `none`, `coarse` (up to the resolution that was
    asked for), `fine` (above it)."""

    realizations: np.ndarray
    deviation: np.ndarray
    groups: dict[str, np.ndarray]


def study_noise(
    Gs: Network,  # noqa: N803
    dlatents: np.ndarray,
    num: int,
    coarse: int,
    seed: int,
) -> NoiseStudy:
    """Draws one w [num_layers, dlatent_size] with `num` realisations of noise, and with parts of the first of them.

    coarse: highest resolution that counts as coarse. seed: of noise. Raises `UserError` for a network without noise.
    """
    rng = np.random.RandomState(seed)
    with noise_kept(Gs) as buffers:
        if not buffers:
            raise UserError("this network has no noise inputs")

        def render(values: list[np.ndarray]) -> np.ndarray:
            set_noise(dict(zip(buffers, values, strict=True)))
            return next(synthesize(Gs, dlatents[None]))

        draws = [[rng.randn(*v.shape.as_list()).astype(np.float32) for v in buffers] for _ in range(num)]
        realizations = np.stack([render(values) for values in draws])
        groups = {}
        for group in GROUPS:
            values = [x if _included(group, max(x.shape[2:]), coarse) else np.zeros_like(x) for x in draws[0]]
            groups[group] = render(values)
    deviation = realizations.astype(np.float64).mean(axis=1).std(axis=0)
    return NoiseStudy(realizations, deviation, groups)


def _included(group: str, size: int, coarse: int) -> bool:
    return {"all": True, "none": False, "coarse": size <= coarse, "fine": size > coarse}[group]


def deviation_picture(deviation: np.ndarray, channels: int) -> np.ndarray:
    """Deviations [H, W] as an image uint8 [channels, H, W]: white where largest, black for none; alpha opaque."""
    most = deviation.max()
    grey = np.rint(deviation * (255 / most if most > 0 else 0)).astype(np.uint8)
    image = np.repeat(grey[None], channels, axis=0)
    if channels in (2, 4):
        image[-1] = 255
    return image
