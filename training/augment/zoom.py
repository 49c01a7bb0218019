"""Zooming in: a part of an image, with the detail of a higher resolution ("Scaling up StyleGAN2", annex C).

Geometric augmentations blur what they enlarge. Where the data set has a higher resolution than what is trained, a part
of it, drawn at the training resolution, is as sharp as the whole. Reals are read so; fakes, which have no more detail,
are enlarged by interpolation, equally often. So D cannot tell fakes by their framing, and G is pushed to draw detail
that survives enlargement; with `zoom_fakes` off, G learns to draw parts as well.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image

from dnnlib.tflib.ops import affine_warp
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from training.config_augment import AugmentConfig
from training.dataset import TFRecordDataset
from training.sampling import uniform_numbers

_STREAM = 0x7A6F6F6D  # sets these numbers apart from others that depend on (seed, position)
_PICTURE_CHANNELS = (1, 3)  # grey and RGB; with alpha, Pillow would weigh colours by it, which data sets do not


def zoom_factor(uniform: Any, zoom_range: tuple[float, float]) -> Any:
    """Log-uniform factor for numbers in [0, 1), arrays or tensors."""
    low, high = zoom_range
    power = tf.exp if isinstance(uniform, tf.Tensor) else np.exp
    return low * power(uniform * math.log(high / low))


def zoom_fakes(images: tf.Tensor, config: AugmentConfig, rng: Any) -> tf.Tensor:
    """Enlarge random parts of images [N, C, H, W], each image with probability `zoom_prob`. `rng` draws `zoom`."""
    n, _, height, width = images.shape.as_list()
    count = tf.shape(images)[0] if n is None else n
    gate, factor, x, y = tf.unstack(rng.uniform("zoom", [4, count]), num=4)
    part = 1 / zoom_factor(factor, config.zoom_range)
    part = tf.where(gate < np.float32(config.zoom_prob), part, tf.ones_like(part))
    # The middle of the part is uniform where the part lies inside.
    shift_x, shift_y = (x - 0.5) * (1 - part) * width, (y - 0.5) * (1 - part) * height
    zeros = tf.zeros_like(part)
    theta = tf.stack([part, zeros, shift_x, zeros, part, shift_y], axis=1)
    return affine_warp(images, tf.reshape(theta, [-1, 2, 3]))


class ZoomedDataset:
    """A data set whose images are, now and then, parts of themselves at a higher resolution.

    It has what `Prefetcher` reads from a `TFRecordDataset`. What is shown at a position depends on (seed, position)
    alone.

    Args:
        dataset: at the resolution of training.
        finer: the same images in the same order at a higher resolution.
        config: probability and range of the zoom.
    """

    def __init__(self, dataset: TFRecordDataset, finer: TFRecordDataset, config: AugmentConfig) -> None:
        check_zoom(dataset, finer, config)
        self._dataset, self._finer, self._config = dataset, finer, config
        self.shape, self.label_size, self.encoding = dataset.shape, dataset.label_size, finer.encoding

    def lod_shape(self, lod: int) -> tuple[int, int, int]:
        """(C, H, W) at a level of detail."""
        return self._dataset.lod_shape(lod)

    def get_into(self, positions: np.ndarray, images: np.ndarray, labels: np.ndarray) -> None:
        """Images and labels at global positions, see `TFRecordDataset.get_into`; only at full size."""
        self._dataset.get_into(positions, images, labels)
        numbers = uniform_numbers(self._dataset.seed, _STREAM, np.asarray(positions), 4)
        chosen = np.flatnonzero(numbers[:, 0] < self._config.zoom_prob)
        if not len(chosen):
            return
        sources, _ = self._finer.get(np.asarray(positions)[chosen])
        for slot, source, (_, factor, x, y) in zip(chosen, sources, numbers[chosen], strict=True):
            part = 1 / zoom_factor(factor, self._config.zoom_range)
            images[slot] = cut(source, part, x, y, images.shape[2:])


def cut(image: np.ndarray, part: float, x: float, y: float, size: tuple[int, int]) -> np.ndarray:
    """A part of an image at another size, filtered as it should be.

    image: uint8 [C, H, W]; part: share of width and height, in (0, 1]; x, y: where the part lies, 0 left or top, 1
    right or bottom; size: (H, W) of the result.
    """
    _, height, width = image.shape
    left, top = x * (1 - part) * width, y * (1 - part) * height
    box = (left, top, min(left + part * width, width), min(top + part * height, height))
    if len(image) not in _PICTURE_CHANNELS:
        return np.concatenate([cut(channel[np.newaxis], part, x, y, size) for channel in image])
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0) if len(image) > 1 else image[0])
    picture = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.LANCZOS, box=box)
    result = np.asarray(picture)
    return result.transpose(2, 0, 1) if result.ndim == 3 else result[np.newaxis]


def check_zoom(dataset: TFRecordDataset, finer: TFRecordDataset, config: AugmentConfig) -> None:
    """Raises `UserError` where the data set has too little detail for the zoom, saying what there is."""
    times = finer.shape[1] / dataset.shape[1]
    if times < config.zoom_range[1]:
        raise UserError(
            f"augment.zoom_range: found {list(config.zoom_range)}, expected factors up to {times:g}: images of "
            f"{dataset.path} have {finer.resolution} pixels, training uses {dataset.resolution}; train at a lower "
            "--resolution, build the data set from larger images, or zoom less"
        )


def zoomed(dataset: TFRecordDataset, config: AugmentConfig) -> TFRecordDataset | ZoomedDataset:
    """What training reads: the data set itself, or zoomed into where so configured.

    Raises `UserError` where the data set has no higher resolution.
    """
    if not config.zoom_prob:
        return dataset
    finer = TFRecordDataset(
        dataset.path, max_label_size=dataset.label_size, mirror_augment=dataset.mirror_augment, seed=dataset.seed,
        shuffle=dataset.shuffle, max_images=dataset.num_images,
    )  # fmt: skip
    return ZoomedDataset(dataset, finer, config)
