"""What every graph that makes fakes begins and ends with: what is fed for them, and whether they came out finite."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dnnlib.tflib.tfutil import tf
from metrics.images import all_finite
from metrics.inputs import Generator
from metrics.noise import latents_of


class FakeInputs(NamedTuple):
    """Placeholders: latents float32 [n, L], labels float32 [n, K]; first_index int64 scalar, of the first fake (or pair
    of fakes), after which the others follow."""

    latents: tf.Tensor
    labels: tf.Tensor
    first_index: tf.Tensor

    def feeds(self, seed: int, indices: np.ndarray, labels: np.ndarray) -> dict[tf.Tensor, np.ndarray]:
        """What to feed for the fakes with these indices int64 [n], which follow each other; labels float32 [n, K]."""
        latents = latents_of(seed, indices, self.latents.shape.as_list()[1])
        return {self.latents: latents, self.labels: labels, self.first_index: indices[0]}


def fake_inputs(Gs: Generator) -> FakeInputs:  # noqa: N803
    """Adds the placeholders to the graph."""
    (_, latent_size), (_, label_size) = Gs.input_shapes[:2]
    return FakeInputs(
        tf.placeholder(tf.float32, [None, latent_size], name="latents"),
        tf.placeholder(tf.float32, [None, label_size], name="labels"),
        tf.placeholder(tf.int64, [], name="first_index"),
    )


def with_shape(images: tf.Tensor, Gs: Generator) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: N803
    """(images [N, C, H, W] with the static shape that the generator says, bool scalar: all values are finite)."""
    images.set_shape([None, *Gs.output_shape[1:]])
    return images, all_finite(images)
