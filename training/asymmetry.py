"""Warns of networks of unequal capacity."""

from __future__ import annotations

from collections.abc import Iterator

from training.config import TrainConfig
from training.config_networks import DiscriminatorConfig, GeneratorConfig
from training.fmaps import Fmaps


def feature_maps(config: GeneratorConfig | DiscriminatorConfig) -> Fmaps:
    """How many feature maps a network has at each resolution."""
    return Fmaps(config.fmap_base, config.fmap_decay, config.fmap_min, config.fmap_max, config.fmap_explicit)


def asymmetry_warnings(config: TrainConfig, resolution: int) -> Iterator[str]:
    """One line if G and D have different feature maps at some resolution up to that of the networks; else nothing."""
    g, d = feature_maps(config.G), feature_maps(config.D)
    levels = [2**level for level in range(2, resolution.bit_length())]
    unequal = [f"{r}: {g.at(r)} and {d.at(r)}" for r in levels if g.at(r) != d.at(r)]
    if unequal:
        yield (
            f'warning: G and D have unequal feature maps ({"; ".join(unequal)}). "Scaling up StyleGAN2", annex B: '
            "more in G alone crippled training, likely since D could not give G useful gradients; widen both alike"
        )
