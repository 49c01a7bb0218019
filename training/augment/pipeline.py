"""The pipeline of adaptive discriminator augmentation (Karras et al. 2020, figure 4 and appendix B)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dnnlib.tflib.tfutil import tf
from training.augment import color, filters, geometric, noise_cutout
from training.augment.diffaugment import apply_policies
from training.augment.parameters import Parameters, draw_parameters
from training.augment.zoom import zoom_fakes
from training.config_augment import FAMILIES, AugmentConfig

Augment = Callable[[tf.Tensor, Any], tf.Tensor]


def make_augment(config: AugmentConfig, p: Any) -> Augment | None:
    """The function that everything passes on its way to D: (images, rng) -> images; None where nothing is to be done.

    p: probability of every operation of the pipeline, a scalar tensor or variable in [0, 1].
    """
    operations = config.operations
    if not operations and not config.diffaugment:
        return None

    def augment(images: tf.Tensor, rng: Any) -> tf.Tensor:
        if operations:
            images = augment_pipeline(images, p, operations, rng)
        return apply_policies(images, config.diffaugment, rng)

    return augment


def make_zoom(config: AugmentConfig) -> Augment | None:
    """What is done to fakes because reals are zoomed into while they are read; None where nothing is."""
    if not config.zoom_prob or not config.zoom_fakes:
        return None
    return lambda images, rng: zoom_fakes(images, config, rng)


def augment_pipeline(images: tf.Tensor, p: Any, operations: Mapping[str, float], rng: Any) -> tf.Tensor:
    """Random augmentation, differentiable with respect to the images to any order.

    images: [N, C, H, W] float32 in [-1, 1], C, H and W static; operations: name -> factor on p; see `draw_parameters`.
    Returns the same shape; values may leave the range. At p = 0 the result equals the images.
    """
    n = images.shape.as_list()[0]
    parameters = draw_parameters(tf.shape(images)[0] if n is None else n, p, operations, rng)
    return apply_parameters(images, parameters, operations, rng)


def apply_parameters(images: tf.Tensor, p: Parameters, operations: Mapping[str, float], rng: Any) -> tf.Tensor:
    """The deterministic part, but for the noise that `rng` draws. Families without an operation leave no node."""

    def uses(*families: str) -> bool:
        return any(name in operations for family in families for name in FAMILIES[family])

    if uses("blit", "geom"):
        images = geometric.transform(images, p)
    if uses("color"):
        images = color.transform(images, p)
    if uses("filter"):
        images = filters.transform(images, p)
    if uses("noise"):
        images = noise_cutout.add_noise(images, p, rng)
    if uses("cutout"):
        images = noise_cutout.cut_out(images, p)
    return images
