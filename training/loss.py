"""Losses of StyleGAN2 (paper sections 3 and 4.1, appendix B; spec 4.2).

Plain functions of tensors first, then `LossBuilder`, which runs the networks and hands typed results to the optimizer.
What G and D want of scores is in `training/adversarial.py`. All per-sample losses are [N, 1] or [N] float32; what is
optimised is their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dnnlib.tflib.network import Network
from dnnlib.tflib.rng import StatelessRandom
from dnnlib.tflib.tfutil import lerp, tf
from training.adversarial import LOSSES_OF_D, LOSSES_OF_G, PENALTIES, mix_images, of_best, squared_gradient
from training.consistency import Consistency, disagreement
from training.discriminator import MBSTD_GROUP_SIZE
from training.flooding import flood

Pair = tuple[tf.Tensor, tf.Tensor]


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


def pixel_diversity(images: tf.Tensor, n: int, resolution: int = 8) -> tf.Tensor:
    """Mean squared distance per pixel of two different images of a minibatch, averaged down to `resolution`.

    images: float32 [n, C, H, W], n >= 2. Zero if all are the same, twice the variance of a pixel for independent ones.
    The averaging makes noise and texture count little, what is drawn count much.
    """
    height, width = int(images.shape[2]), int(images.shape[3])
    cell = 1 << max((min(height, width) // resolution).bit_length() - 1, 0)
    small = tf.reduce_mean(tf.reshape(images, [n, -1, height // cell, cell, width // cell, cell]), axis=[3, 5])
    centred = small - tf.reduce_mean(small, axis=0, keepdims=True)
    return tf.reduce_mean(tf.reduce_sum(tf.square(centred), axis=0)) * np.float32(2 / (n - 1))


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

    G, D: networks; pl_mean: scalar variable; pl_weight, pl_decay: spec 4.2; r1_gamma: weight of the penalty of D, a
    number or scalar tensor; G_loss, D_loss, D_penalty: names in `training.adversarial`; top_k: share of the fakes that
    G's main loss looks at, those that D likes best; G_flood, D_flood, flood_stops: see `training.flooding`.
    augment: (images, rng) -> images for everything that D sees, zoom: the same for fakes, before; None: nothing.
    Every method draws from the `rng` it is given, under names that do not depend on the tower.
    """

    G: Network
    D: Network
    pl_mean: Any
    pl_weight: float = 2.0
    pl_decay: float = 0.01
    r1_gamma: Any = 10.0
    G_options: Mapping[str, Any] = field(default_factory=dict)
    D_options: Mapping[str, Any] = field(default_factory=dict)
    augment: Callable[[tf.Tensor, Any], tf.Tensor] | None = None
    zoom: Callable[[tf.Tensor, Any], tf.Tensor] | None = None
    G_loss: str = "logistic_ns"
    D_loss: str = "logistic"
    D_penalty: str = "r1"
    top_k: float = 1.0
    G_flood: float | None = None
    D_flood: float | None = None
    flood_stops: bool = False
    consistency: Consistency = Consistency()

    def _fakes(
        self, n: Any, labels: tf.Tensor, rng: Any, nudge: float = 0.0
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """(images, dlatents after mixing, batch mean of w before it).

        nudge: standard deviation of what is added to the latents; everything else is that of the same call without.
        """
        latents = rng.normal("latents", [n, self.G.input_shape[1]])
        if nudge:
            latents += np.float32(nudge) * rng.normal("nudge", [n, self.G.input_shape[1]])
        means: list[tf.Tensor] = []
        images, dlatents = self.G.get_output_for(
            latents, labels, is_training=True, return_dlatents=True, rng=rng, w_avg_sink=means, **self.G_options
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
        fakes.set_shape(reals.shape)
        if self.augment is None:
            return fakes, reals
        both = self._augmented(tf.concat([fakes, reals], axis=0), rng)
        return tuple(tf.split(both, 2, axis=0))

    def _d(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return self.D.get_output_for(images, labels, **self.D_options)

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

        scores = self.D.get_output_for(
            join(fakes, reals), join(labels, labels), mbstd_group_size=group, **self.D_options
        )
        both = tf.split(split(scores), 2, axis=1)
        return tuple(tf.reshape(s, [n, 1]) for s in both)

    def g_main(self, n: Any, labels: tf.Tensor, rng: StatelessRandom) -> LossTerms:
        """Main loss of G on `n` samples with labels [n, label_size]."""
        images, _, mean = self._fakes(n, labels, rng)
        scores = self._d(self._augmented(self._zoomed(images, rng), rng), labels)
        loss = tf.reduce_mean(LOSSES_OF_G[self.G_loss](of_best(scores, self.top_k)))
        stats = {"Loss/G/loss": loss, **_score_stats("fake", scores)}
        total = flood(loss, self.G_flood, self.flood_stops)
        if self.consistency.zcr_gen:
            change = disagreement(images, self._fakes(n, labels, rng, self.consistency.std)[0])
            stats["Loss/G/zcr"] = change
            total -= self.consistency.zcr_gen * change
        return LossTerms(total, self._side(mean), stats)

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
        images = tf.stop_gradient(images)
        seen = self._augmented_pair(images, reals, rng)
        fake_scores, real_scores = self.score_both(*seen, labels)
        loss = tf.reduce_mean(LOSSES_OF_D[self.D_loss](real_scores, fake_scores))
        stats = {"Loss/D/loss": loss, **_score_stats("real", real_scores)}
        total = flood(loss, self.D_flood, self.flood_stops)
        for tag, weight, term in self._inconsistency(seen, (fake_scores, real_scores), reals, labels, rng):
            stats[tag] = term
            total += weight * term
        if int(reals.shape[0]) > 1:
            n = int(reals.shape[0])
            stats |= {"Diversity/real": pixel_diversity(reals, n), "Diversity/fake": pixel_diversity(images, n)}
        return LossTerms(total, self._side(mean), {**stats, "Loss/scores/fake_D": tf.reduce_mean(fake_scores)})

    def _inconsistency(
        self, seen: Pair, scores: Pair, reals: tf.Tensor, labels: tf.Tensor, rng: Any
    ) -> Iterator[tuple[str, float, tf.Tensor]]:
        """(name, weight, scalar) of the terms of `training.consistency` that D is trained with.

        seen, scores: fakes and reals as D saw them, and their scores; reals: before augmentation.
        """
        weights = self.consistency
        if weights.shifts:
            both = weights.shifted(tf.concat(seen, axis=0), rng)
            fake_scores, real_scores = self.score_both(*tf.split(both, 2, axis=0), labels)
            yield "Loss/D/bcr_fake", weights.bcr_fake, disagreement(scores[0], fake_scores)
            yield "Loss/D/bcr_real", weights.bcr_real, disagreement(scores[1], real_scores)
        if weights.zcr_dis:
            near = tf.stop_gradient(self._fakes(tf.shape(reals)[0], labels, rng, weights.std)[0])
            near, _ = self._augmented_pair(near, reals, rng)  # by the same numbers as the fakes
            yield "Loss/D/zcr", weights.zcr_dis, disagreement(scores[0], self._d(near, labels))

    def d_reg(self, reals: tf.Tensor, labels: tf.Tensor, rng: StatelessRandom | None = None) -> LossTerms:
        """Regularisation of D: the penalty on its gradient at images, through their augmentation.

        reals: [N, C, H, W] in [-1, 1], N static but for R1; rng: needed for all but R1 without augmentation. The
        gradient is that with respect to the images before they are augmented.
        """
        penalty_of = PENALTIES[self.D_penalty]
        images, side, n = tf.identity(reals), {}, reals.shape.as_list()[0]
        if penalty_of.at != "reals":
            fakes, _, mean = self._fakes(n, labels, rng)
            fakes.set_shape(reals.shape)
            images, side = tf.stop_gradient(self._zoomed(fakes, rng)), self._side(mean)
        if penalty_of.at == "mixed":
            images = mix_images(reals, images, rng.uniform("penalty_mix", [n, 1, 1, 1]))
        scores = self._d(self._augmented(images, rng), labels)
        penalty = tf.reduce_mean(penalty_of.of(squared_gradient(scores, images)))
        loss = penalty * (self.r1_gamma * penalty_of.factor)
        return LossTerms(loss, side, {"Loss/gradient_penalty": penalty, "Loss/D/reg": loss})
