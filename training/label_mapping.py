"""How StyleGAN2-ADA uses labels (spec 2.7, 2.10): an embedding in the mapping network, a projection in D.

Option `embed_labels` of G: labels become `label_fmaps` numbers (None: latent_size), normalised apart from z. Option
`project_labels` of D: labels become `label_map_fmaps` numbers (None: nf(0)) by an embedding and `label_map_layers`
layers, and the score is the inner product of these and as many features.
"""

from __future__ import annotations

import numpy as np

from dnnlib.tflib.tfutil import tf
from training.layers import dense_act, normalize_2nd_moment


def embed_labels(labels: tf.Tensor, fmaps: int) -> tf.Tensor:
    """Labels [N, label_size] by a dense layer `LabelEmbed` without activation, normalised: [N, fmaps]."""
    with tf.variable_scope("LabelEmbed"):
        return normalize_2nd_moment(dense_act(tf.cast(labels, tf.float32), fmaps))


def map_labels(labels: tf.Tensor, fmaps: int, layers: int, lrmul: float, act: str) -> tf.Tensor:
    """The vector [N, fmaps] that D compares its features with: the embedding, then dense layers `Mapping{i}`."""
    x = embed_labels(labels, fmaps)
    for layer in range(layers):
        with tf.variable_scope(f"Mapping{layer}"):
            x = dense_act(x, fmaps, act, lrmul)
    return x


def project(features: tf.Tensor, embedding: tf.Tensor) -> tf.Tensor:
    """Scores [N, 1]: inner product of features and embedding [N, fmaps], divided by sqrt(fmaps)."""
    factor = np.float32(1 / np.sqrt(int(embedding.shape[1])))
    return tf.reduce_sum(features * embedding, axis=1, keepdims=True) * factor
