"""The part of a configuration that says what G and D are; its fields are the static arguments of their builders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from training.config_types import Section, is_power_of_two, non_default_fields
from training.layer_patterns import check_layers

ARCHITECTURES = ("orig", "skip", "resnet")
NONLINEARITIES = ("linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish")


class _FeatureMaps(Section):
    """What G and D share: channel counts (spec: nf(stage)), the resampling filter, precision."""

    def _check_network(self) -> None:
        check_layers(self.spectral_norm, self._path("spectral_norm"))
        if self.attention_resolution is not None and not is_power_of_two(self.attention_resolution):
            self._refuse("attention_resolution", "the resolution of a block: 4, 8, 16, ...")
        self._at_least(4, "attention_resolution")
        self._one_of("architecture", ARCHITECTURES)
        self._one_of("nonlinearity", NONLINEARITIES)
        self._at_least(1, "fmap_base", "fmap_min", "fmap_max")
        self._at_least(0, "fmap_decay", "num_fp16_res")
        self._positive("conv_clamp")
        if self.fmap_min > self.fmap_max:
            self._refuse("fmap_min", f"at most {self._path('fmap_max')}={self.fmap_max}")
        if not self.resample_kernel or sum(self.resample_kernel) <= 0:
            self._refuse("resample_kernel", "taps with a positive sum, e.g. [1,3,3,1]")
        for resolution, fmaps in (self.fmap_explicit or {}).items():
            if not is_power_of_two(resolution) or resolution < 4 or fmaps < 1:
                self._refuse("fmap_explicit", 'power-of-two resolutions >= 4 to counts >= 1, e.g. {"4": 64, "8": 32}')


@dataclass(frozen=True)
class GeneratorConfig(_FeatureMaps):
    """G: mapping z -> w and synthesis w -> image. Field names are the static arguments of the builder `G_main`."""

    section: ClassVar[str] = "G"
    latent_size: int = 512  # dimensions of z
    dlatent_size: int = 512  # dimensions of w
    mapping_layers: int = 8
    mapping_fmaps: int = 512  # width of the hidden mapping layers
    mapping_lrmul: float = 0.01  # learning rate multiplier of the mapping layers
    rectify_latents: bool = False  # z is a rectified Gaussian, max(0, N(0, 1)), as in BigGAN
    embed_labels: bool = False  # labels as in ADA: by a dense layer, normalised apart from z
    label_fmaps: int | None = None  # width of that layer; None: latent_size
    architecture: str = "skip"  # orig | skip | resnet
    fmap_base: int = 16384  # nf(stage) = clip(int(base / 2^(stage * decay)), min, max)
    fmap_decay: float = 1.0
    fmap_min: int = 1
    fmap_max: int = 512
    fmap_explicit: dict[int, int] | None = None  # resolution -> feature maps, instead of the formula
    use_noise: bool = True
    resample_kernel: tuple[int, ...] = (1, 3, 3, 1)
    nonlinearity: str = "lrelu"
    fused_modconv: bool | None = None  # None: chosen by device
    num_fp16_res: int = 0  # how many of the highest resolutions run in low precision
    conv_clamp: float | None = None  # clamp activations of convolutions to +-value
    noconst: bool = False  # the first block starts from w instead of a learned constant
    demodulate: bool = True  # normalise the weights of each sample after its style has scaled them
    spectral_norm: bool | str = False  # divide weights by their largest singular value; or patterns: */ToRGB,4x4/*
    attention_resolution: int | None = None  # self-attention after the block of that resolution
    style_mixing_prob: float | None = 0.9  # None: no mixing
    dlatent_avg_beta: float | None = 0.995  # decay of the running mean of w; None: not tracked

    def _check(self) -> None:
        self._check_network()
        self._at_least(1, "latent_size", "dlatent_size", "mapping_layers", "mapping_fmaps")
        self._positive("mapping_lrmul")
        self._at_least(1, "label_fmaps")
        if self.style_mixing_prob is not None and not 0 <= self.style_mixing_prob <= 1:
            self._refuse("style_mixing_prob", "a probability in [0, 1], or none")
        if self.dlatent_avg_beta is not None:
            self._below_one("dlatent_avg_beta")


@dataclass(frozen=True)
class DiscriminatorConfig(_FeatureMaps):
    """D. Field names are the static arguments of the builder `D_stylegan2`."""

    section: ClassVar[str] = "D"
    architecture: str = "resnet"  # orig | skip | resnet
    project_labels: bool = False  # labels as in ADA: the score is a projection on a vector mapped from them
    label_map_layers: int = 0  # layers after the embedding of labels, where they are projected on
    label_map_fmaps: int | None = None  # width of these; None: nf(0)
    label_map_lrmul: float = 0.1
    fmap_base: int = 16384
    fmap_decay: float = 1.0
    fmap_min: int = 1
    fmap_max: int = 512
    fmap_explicit: dict[int, int] | None = None
    mbstd_group_size: int | None = 4  # images per minibatch-stddev group, at most the n there are; None: n; 0, 1: off
    mbstd_num_features: int = 1  # feature maps that minibatch stddev adds; 0: off
    mbstd_of_one: bool = False  # groups of 1 add these too, of a small constant, as in ADA
    resample_kernel: tuple[int, ...] = (1, 3, 3, 1)
    nonlinearity: str = "lrelu"
    num_fp16_res: int = 0
    conv_clamp: float | None = None
    spectral_norm: bool | str = False  # as for G
    attention_resolution: int | None = None  # self-attention on what enters the block of that resolution

    def _check(self) -> None:
        self._at_least(0, "label_map_layers")
        self._at_least(1, "label_map_fmaps")
        self._positive("label_map_lrmul")
        self._check_network()
        self._at_least(0, "mbstd_group_size", "mbstd_num_features")


def G_kwargs(config: GeneratorConfig) -> dict[str, Any]:
    """Static arguments of `G_main` that differ from its defaults: a snapshot stores only these, like published ones."""
    return non_default_fields(config)


def D_kwargs(config: DiscriminatorConfig) -> dict[str, Any]:
    """Static arguments of `D_stylegan2` that differ from its defaults."""
    return non_default_fields(config)
