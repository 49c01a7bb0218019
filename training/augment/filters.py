"""Image-space filtering: amplify or weaken frequency bands (ADA paper, appendix B)."""

from __future__ import annotations

import numpy as np

from dnnlib.tflib.tfutil import tf
from training.augment.parameters import NUM_BANDS, Parameters
from training.augment.wavelets import BAND_POWER, filter_bank

_BANK = filter_bank(NUM_BANDS).astype(np.float32)


def band_gains(p: Parameters) -> tf.Tensor:
    """Gains of the bands [N, 4]. After each band's factor the gains are rescaled to the expected power of before."""
    total = tf.ones_like(p.log2_bands)
    for band in range(NUM_BANDS):
        hot = np.eye(NUM_BANDS, dtype=np.float32)[band]
        factors = tf.pow(np.float32(2), p.log2_bands[:, band : band + 1] * hot)
        power = tf.reduce_sum(tf.square(factors) * BAND_POWER.astype(np.float32), axis=1, keepdims=True)
        total *= factors * tf.rsqrt(power)
    return total


def transform(images: tf.Tensor, p: Parameters) -> tf.Tensor:
    """Filter images [N, C, H, W] along both axes, with reflected borders; untouched where no band is changed."""
    taps = tf.transpose(tf.matmul(band_gains(p), _BANK))
    # Images as channels of a depthwise convolution: each has its own filter.
    x = tf.transpose(_reflect(images, _BANK.shape[1] // 2), [1, 2, 3, 0])
    for kernel in (taps[:, tf.newaxis, :, tf.newaxis], taps[tf.newaxis, :, :, tf.newaxis]):
        x = tf.nn.depthwise_conv2d(x, kernel, strides=[1, 1, 1, 1], padding="VALID")
    filtered = tf.transpose(x, [3, 0, 1, 2])
    filtered.set_shape(images.shape)
    changed = tf.reduce_any(tf.not_equal(p.log2_bands, 0), axis=1)
    every = tf.broadcast_to(changed[:, tf.newaxis, tf.newaxis, tf.newaxis], tf.shape(images))
    return tf.where(every, filtered, images)


def _reflect(images: tf.Tensor, reach: int) -> tf.Tensor:
    """Extend by `reach` pixels on all sides; what is smaller than that is reflected several times."""
    for axis in (2, 3):
        left = reach
        while left > 0:
            # All there is but in the last step: mirrors stay at the ends of the image.
            step = min(left, images.shape.as_list()[axis] - 1)
            images = tf.pad(images, [[step, step] if i == axis else [0, 0] for i in range(4)], mode="REFLECT")
            left -= step
    return images
