"""Generators that are linear in w, with or without a graph in the manner of output skips."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from dnnlib.tflib.ops import upsample_2d
from dnnlib.tflib.tfutil import tf
from dnnlib.util import EasyDict

LAYERS = 3


class LinearSynthesis:
    """images = w . A + bias + strength * noise for the w of the first layer."""

    def __init__(self, matrix, shape, strength=0.0, bias=0.0):
        self.matrix, self.shape, self.strength = np.asarray(matrix, np.float32), tuple(shape), strength
        self.bias = np.asarray(bias, np.float32)
        self.input_shape, self.static_kwargs = [None, LAYERS, len(self.matrix)], {}

    def get_output_for(self, dlatents, randomize_noise, rng=None):
        images = tf.reshape(tf.matmul(dlatents[:, 0], tf.constant(self.matrix)) + self.bias, [-1, *self.shape])
        if randomize_noise and self.strength:
            images += self.strength * rng.normal("noise0", [tf.shape(dlatents)[0], *self.shape])
        return images


class SkipSynthesis:
    """Adds a constant image times a component of w at each of the resolutions 4, 8, 16, upsampled by a box."""

    def __init__(self, patterns, architecture="skip"):
        self.patterns = {r: np.asarray(x, np.float32) for r, x in patterns.items()}
        self.input_shape, self.static_kwargs = [None, LAYERS, len(patterns)], {"resample_kernel": [1, 1]}
        self.static_kwargs["architecture"] = architecture

    def get_output_for(self, dlatents, randomize_noise, rng=None):
        image = None
        with tf.name_scope("G_use"):
            for index, (resolution, pattern) in enumerate(self.patterns.items()):
                with tf.name_scope(f"{resolution}x{resolution}"):
                    if image is not None:
                        image = upsample_2d(image, k=[1, 1])
                    with tf.name_scope("ToRGB"):
                        t = dlatents[:, 0, index, None, None, None] * tf.constant(pattern)
                    image = tf.identity(t) if image is None else image + t
        return image


def generator(synthesis, image_shape, label_size=0):
    """A generator whose w are its z, for all layers."""
    size = synthesis.input_shape[2]
    mapping = SimpleNamespace(get_output_for=lambda z, labels: tf.tile(z[:, None], [1, LAYERS, 1]))
    return SimpleNamespace(
        components=EasyDict(mapping=mapping, synthesis=synthesis),
        input_shapes=[[None, size], [None, label_size]],
        output_shape=[None, *image_shape],
    )


class Pixels:
    """Pixels as features: float32 [N, 3 H W] in 0..255; perceptual on request, at a tenth of that."""

    name, weights_sha256 = "pixels", "none"

    def __init__(self, perceptual=False):
        if perceptual:
            self.perceptual = lambda images: self.features(images) / 10

    def features(self, images):
        return tf.reshape(images, [-1, int(np.prod(images.shape[1:].as_list()))])
