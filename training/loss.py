"""Losses of StyleGAN2 (paper sections 3 and 4.1, appendix B; spec 4.2).

Plain functions of tensors first, then `LossBuilder`, which runs the networks and hands typed results to the optimizer.
All per-sample losses are [N, 1] or [N] float32; what is optimised is their mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dnnlib.tflib.network import Network
from dnnlib.tflib.rng import StatelessRandom
from dnnlib.tflib.tfutil import lerp, tf
from training.discriminator import MBSTD_GROUP_SIZE


def g_logistic_ns(fake_scores: tf.Tensor) -> tf.Tensor:
    """Non-saturating logistic loss of G: -log(sigmoid(D(G(z)))), per sample."""
    return tf.nn.softplus(-fake_scores)


def d_logistic(real_scores: tf.Tensor, fake_scores: tf.Tensor) -> tf.Tensor:
    """Logistic loss of D: -log(1 - sigmoid(D(G(z)))) - log(sigmoid(D(x))), per sample."""
    return tf.nn.softplus(fake_scores) + tf.nn.softplus(-real_scores)


def r1_penalty(real_scores: tf.Tensor, reals: tf.Tensor) -> tf.Tensor:
    """Squared gradient norm of the scores at real images, per sample [N]; the loss is gamma / 2 times this."""
    grads = tf.gradients(tf.reduce_sum(real_scores), reals)[0]
    return tf.reduce_sum(tf.square(grads), axis=[1, 2, 3])


def path_lengths(images: tf.Tensor, dlatents: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """Length of J_w^T y for images y ~ N(0, 1) / sqrt(H W), averaged over layers: [N] (paper section 3.2).

    noise: standard normal of the images' shape [N, C, H, W]; dlatents: [N, num_layers, dlatent_size].
    """
    y = noise * np.float32(1 / np.sqrt(int(images.shape[2]) * int(images.shape[3])))
    grads = tf.gradients(tf.reduce_sum(images * y), dlatents)[0]
    return tf.sqrt(tf.reduce_mean(tf.reduce_sum(tf.square(grads), axis=2), axis=1))


def path_length_penalty(lengths: tf.Tensor, pl_mean: Any, decay: float) -> tuple[tf.Tensor, tf.Tensor]:
    """(penalty [N], new running mean). The gradient flows through the new mean too, as published."""
    new_mean = lerp(pl_mean, tf.reduce_mean(lengths), decay)
    return tf.square(lengths - new_mean), new_mean


@dataclass(frozen=True)
class LossTerms:
    """What one loss gives: a scalar to minimise, side tensors for running means, scalars for reports."""

    loss: tf.Tensor
    side: dict[str, tf.Tensor] = field(default_factory=dict)
    stats: dict[str, tf.Tensor] = field(default_factory=dict)


def process_reals(images: tf.Tensor) -> tf.Tensor:
    """uint8 [0, 255] (or float of that range) to float32 [-1, 1]."""
    return tf.cast(images, tf.float32) * np.float32(2 / 255) - 1


def _score_stats(name: str, scores: tf.Tensor) -> dict[str, tf.Tensor]:
    return {
        f"Loss/scores/{name}": tf.reduce_mean(scores),
        f"Loss/signs/{name}": tf.reduce_mean(tf.sign(scores)),
    }


@dataclass(frozen=True)
class LossBuilder:
    """Builds the losses of one sub-batch.

    G, D: networks; pl_mean: scalar variable; pl_weight, pl_decay: spec 4.2; r1_gamma: number or scalar tensor.
    augment: (images, rng) -> images for everything that D sees, zoom: the same for fakes, before; None: nothing.
    Every method draws from the `rng` it is given, under names that do not depend on the tower.
    """

    G: Network
    D: Network
    pl_mean: Any
    pl_weight: float = 2.0
    pl_decay: float = 0.01
    r1_gamma: Any = 10.0
    augment: Callable[[tf.Tensor, Any], tf.Tensor] | None = None
    zoom: Callable[[tf.Tensor, Any], tf.Tensor] | None = None

    def _fakes(self, n: Any, labels: tf.Tensor, rng: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """(images, dlatents after mixing, batch mean of w before it)."""
        latents = rng.normal("latents", [n, self.G.input_shape[1]])
        means: list[tf.Tensor] = []
        images, dlatents = self.G.get_output_for(
            latents, labels, is_training=True, return_dlatents=True, rng=rng, w_avg_sink=means
        )
        # Without w tracking (dlatent_avg_beta None) there is nothing to report.
        return images, dlatents, means[0] if means else None

    def _side(self, mean: tf.Tensor | None) -> dict[str, tf.Tensor]:
        return {} if mean is None else {"w_avg": mean}

    def _augmented(self, images: tf.Tensor, rng: Any) -> tf.Tensor:
        return images if self.augment is None else self.augment(images, rng.child("augment"))

    def _zoomed(self, fakes: tf.Tensor, rng: Any) -> tf.Tensor:
        return fakes if self.zoom is None else self.zoom(fakes, rng.child("zoom"))

    def _augmented_pair(self, fakes: tf.Tensor, reals: tf.Tensor, rng: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Fakes and reals through one pass of the augmentation, each image with numbers of its own."""
        fakes = self._zoomed(fakes, rng)
        if self.augment is None:
            return fakes, reals
        fakes.set_shape(reals.shape)
        both = self._augmented(tf.concat([fakes, reals], axis=0), rng)
        return tuple(tf.split(both, 2, axis=0))

    def _d(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return self.D.get_output_for(images, labels)

    def score_both(self, fakes: tf.Tensor, reals: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores of fakes and of reals from one pass through D: twice the minibatch, half the operations.

        Minibatch stddev must not mix the two. Sample i of n belongs to set i mod (n / group), so joining the
        minibatches as [group, n / group, ...] along the second axis keeps every set together.
        """
        n, size = int(reals.shape[0]), self.D.static_kwargs.get("mbstd_group_size", MBSTD_GROUP_SIZE)
        if n == 1:  # sets of one sample each; in a minibatch of two the statistics would be switched off
            return self._d(fakes, labels), self._d(reals, labels)
        group = n if size is None else min(max(size, 1), n)

        def split(x: tf.Tensor) -> tf.Tensor:
            return tf.reshape(x, [group, -1, *[int(d) for d in x.shape[1:]]])

        def join(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
            both = tf.concat([split(a), split(b)], axis=1)
            return tf.reshape(both, [2 * n, *[int(d) for d in a.shape[1:]]])

        scores = self.D.get_output_for(join(fakes, reals), join(labels, labels), mbstd_group_size=group)
        both = tf.split(split(scores), 2, axis=1)
        return tuple(tf.reshape(s, [n, 1]) for s in both)

    def g_main(self, n: Any, labels: tf.Tensor, rng: StatelessRandom) -> LossTerms:
        """Main loss of G on `n` samples with labels [n, label_size]."""
        images, _, mean = self._fakes(n, labels, rng)
        scores = self._d(self._augmented(self._zoomed(images, rng), rng), labels)
        loss = tf.reduce_mean(g_logistic_ns(scores))
        return LossTerms(loss, self._side(mean), {"Loss/G/loss": loss, **_score_stats("fake", scores)})

    def g_reg(self, n: Any, labels: tf.Tensor, rng: StatelessRandom) -> LossTerms:
        """Path length regularisation of G on a fresh batch of `n` samples, already shrunk."""
        images, dlatents, mean = self._fakes(n, labels, rng)
        noise = rng.normal("pl_noise", tf.shape(images))
        lengths = path_lengths(images, dlatents, noise)
        penalty, _ = path_length_penalty(lengths, self.pl_mean, self.pl_decay)
        loss = tf.reduce_mean(penalty) * self.pl_weight
        stats = {"Loss/pl_lengths": tf.reduce_mean(lengths), "Loss/pl_penalty": tf.reduce_mean(penalty)}
        side = {**self._side(mean), "pl_mean": tf.stop_gradient(tf.reduce_mean(lengths))}
        return LossTerms(loss, side, {**stats, "Loss/G/reg": loss})

    def d_main(self, reals: tf.Tensor, labels: tf.Tensor, rng: StatelessRandom) -> LossTerms:
        """Main loss of D; the fakes take the reals' labels (spec 4.2). reals: [N, C, H, W] in [-1, 1]."""
        images, _, mean = self._fakes(tf.shape(reals)[0], labels, rng)
        seen = self._augmented_pair(tf.stop_gradient(images), reals, rng)
        fake_scores, real_scores = self.score_both(*seen, labels)
        loss = tf.reduce_mean(d_logistic(real_scores, fake_scores))
        stats = {"Loss/D/loss": loss, **_score_stats("real", real_scores)}
        return LossTerms(loss, self._side(mean), {**stats, "Loss/scores/fake_D": tf.reduce_mean(fake_scores)})

    def d_reg(self, reals: tf.Tensor, labels: tf.Tensor, rng: StatelessRandom | None = None) -> LossTerms:
        """R1 regularisation of D: gamma / 2 * |grad|^2 at the reals, through their augmentation (needs `rng`)."""
        reals = tf.identity(reals)
        penalty = tf.reduce_mean(r1_penalty(self._d(self._augmented(reals, rng), labels), reals))
        loss = penalty * (self.r1_gamma * 0.5)
        return LossTerms(loss, {}, {"Loss/gradient_penalty": penalty, "Loss/D/reg": loss})
