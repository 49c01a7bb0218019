"""A generator, a data set and a feature network small enough to be worked out by hand."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from dnnlib.tflib.tfutil import tf
from metrics.frechet import compute_frechet
from metrics.registry import MetricSpec

LATENT_SIZE = 6
PIXELS = "pixels"  # the feature network below


class LinearGenerator:
    """images = latents . A + labels . B + 0.1 noise + bias, in the manner of `dnnlib.tflib.network.Network`."""

    name = "linear"

    def __init__(self, shape=(3, 4, 4), label_size=0, bias=0.0, seed=0):
        rng = np.random.RandomState(seed)
        self.shape, self.bias = tuple(shape), bias
        self.input_shapes = [[None, LATENT_SIZE], [None, label_size]]
        self.output_shape = [None, *shape]
        self.a = rng.randn(LATENT_SIZE, int(np.prod(shape))).astype(np.float32) * 0.2
        self.b = rng.randn(label_size, int(np.prod(shape))).astype(np.float32)
        self.strength = 0.1
        self.components = {"mapping": _Mapping(self), "synthesis": _Synthesis(self)}

    def get_output_for(self, latents, labels, *, is_validation, randomize_noise, rng):
        """Images [N, C, H, W]."""
        assert is_validation and randomize_noise
        w = self.components["mapping"].get_output_for(latents, labels)
        return self.components["synthesis"].get_output_for(w, randomize_noise=True, rng=rng)


class _Mapping:
    """w [N, 2, L + K]: latents beside labels, for two layers alike."""

    def __init__(self, generator):
        self.generator = generator

    def get_output_for(self, latents, labels):
        """w."""
        return tf.tile(tf.concat([latents, labels], axis=1)[:, None], [1, 2, 1])


class _Synthesis:
    """Images from the mean of the layers' w."""

    def __init__(self, generator):
        self.generator, self.static_kwargs = generator, {}

    def get_output_for(self, dlatents, *, randomize_noise, rng):
        """Images [N, C, H, W]."""
        assert randomize_noise
        self, dlatents = self.generator, tf.reduce_mean(dlatents, axis=1)
        latents, labels = tf.split(dlatents, [LATENT_SIZE, self.input_shapes[1][1]], axis=1)
        noise = rng.normal("noise0", [tf.shape(latents)[0], 1, *self.shape[1:]])
        images = tf.matmul(latents, tf.constant(self.a)) + tf.matmul(labels, tf.constant(self.b)) + self.bias
        return tf.reshape(images, [-1, *self.shape]) + self.strength * noise


@dataclass
class ArrayDataset:
    """Images and labels in memory, in the manner of `training.dataset.TFRecordDataset`."""

    images: np.ndarray
    labels: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    name: str = "arrays"
    reads: int = 0

    def __post_init__(self):
        if not self.labels.size:
            self.labels = np.zeros((len(self.images), 0), np.float32)
        self.num_images, self.shape = len(self.images), self.images.shape[1:]
        self.label_size = self.labels.shape[1]
        self.content_hash = hashlib.sha256(self.images.tobytes() + self.labels.tobytes()).hexdigest()

    def read(self, indices):
        """Images uint8 [n, C, H, W]."""
        self.reads += len(indices)
        return self.images[np.asarray(indices)].copy()


class PixelFeatures:
    """Mean colour of each quarter of the image, and of all of it; classes by colour; pixels as they are."""

    name, num_features, num_classes, weights_sha256 = PIXELS, 15, 3, "none"

    def resize_name(self, height, width):
        """Nothing is resized."""
        return "none"

    def features(self, images):
        """Features [N, 15]."""
        h, w = images.shape[2] // 2, images.shape[3] // 2
        parts = [images, images[:, :, :h, :w], images[:, :, h:, :w], images[:, :, :h, w:], images[:, :, h:, w:]]
        return tf.concat([tf.reduce_mean(part, axis=[2, 3]) for part in parts], axis=1)

    def probabilities(self, images):
        """Softmax [N, 3] of the mean colour."""
        return tf.nn.softmax(tf.reduce_mean(images, axis=[2, 3]) / 30)

    def perceptual(self, images):
        """[N, 3 H W], of which the squared distance is the mean squared difference of pixels."""
        return tf.reshape(images, [-1, int(np.prod(images.shape[1:]))]) / np.sqrt(float(np.prod(images.shape[1:])))

    def numpy_features(self, images):
        """The same in float64."""
        images = images.astype(np.float64)
        h, w = images.shape[2] // 2, images.shape[3] // 2
        parts = [images, images[:, :, :h, :w], images[:, :, h:, :w], images[:, :, :h, w:], images[:, :, h:, w:]]
        return np.concatenate([part.mean(axis=(2, 3)) for part in parts], axis=1)


def random_dataset(count=90, shape=(3, 4, 4), label_size=0, seed=0):
    """Noise with a gradient, so that mirroring changes the features."""
    rng = np.random.RandomState(seed)
    images = rng.randint(0, 200, (count, *shape)) + np.linspace(0, 55, shape[2])
    labels = np.eye(label_size, dtype=np.float32)[rng.randint(0, max(label_size, 1), count)] if label_size else None
    images = images.astype(np.uint8)
    return ArrayDataset(images) if labels is None else ArrayDataset(images, labels)


def pixel_metric(count=50, name="fd_pixels"):
    """A Fréchet distance of `count` images in the space of `PixelFeatures`."""
    return MetricSpec(name, PIXELS, compute_frechet, count, count)
