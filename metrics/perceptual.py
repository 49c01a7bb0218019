"""Perceptual distance of deep features (Zhang et al., arXiv:1801.03924, equation 1) as an embedding.

d(x, y) = sum over layers of 1 / (H W) * sum over positions and channels of w_c (a_c(x) - a_c(y))^2, with activations a
of unit length over channels. It is |e(x) - e(y)|^2 with e all sqrt(w_c / (H W)) a_c in one row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dnnlib.tflib.tfutil import tf

_EPSILON = 1e-10


def perceptual_embedding(activations: Sequence[tf.Tensor], weights: Sequence[np.ndarray | float]) -> tf.Tensor:
    """Embeddings float32 [N, E] of activations float32 [N, H, W, C], one tensor per layer.

    weights: per layer, w_c >= 0 of shape [C], or one number for all channels.
    """
    rows = []
    for layer, weight in zip(activations, weights, strict=True):
        height, width, channels = layer.shape[1:].as_list()
        length = tf.sqrt(tf.reduce_sum(tf.square(layer), axis=3, keepdims=True))
        scale = np.sqrt(np.asarray(weight, np.float64) / (height * width)).astype(np.float32)
        rows.append(tf.reshape(layer / (length + _EPSILON) * scale, [-1, height * width * channels]))
    return tf.concat(rows, axis=1)
