"""What G and D want of D's scores, and how D's gradients are kept small: the losses to choose from.

`LOSSES_OF_G`, `LOSSES_OF_D` and `PENALTIES` hold them under the names that `loss.G_loss`, `loss.D_loss` and
`loss.D_penalty` choose from.
All are per sample and in float32; what is optimised is their mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from dnnlib.tflib.tfutil import lerp, tf

WGAN_EPSILON = 0.001  # weight of D(x)^2, which keeps the scores of WGAN near zero (Karras et al. 2017, A.1)

# ---------------------------------------------------------------- losses of G: of scores of fakes [N, 1]


def g_logistic_ns(fake_scores: tf.Tensor) -> tf.Tensor:
    """Non-saturating logistic loss: -log(sigmoid(D(G(z)))) (Goodfellow et al. 2014)."""
    return tf.nn.softplus(-fake_scores)


def g_logistic(fake_scores: tf.Tensor) -> tf.Tensor:
    """Saturating logistic loss: log(1 - sigmoid(D(G(z)))). Its gradient vanishes where D is sure of its fakes."""
    return -tf.nn.softplus(fake_scores)


def g_linear(fake_scores: tf.Tensor) -> tf.Tensor:
    """-D(G(z)): of WGAN (Arjovsky et al. 2017), and beside the hinge loss of D."""
    return -fake_scores


def of_best(fake_scores: tf.Tensor, share: float) -> tf.Tensor:
    """The scores of the fakes that D likes best, [ceil(share * N), 1]: G learns from those alone (top-k training, Sinha
    et al. 2020). N must be static where share < 1."""
    if share >= 1:
        return fake_scores
    k = max(math.ceil(share * int(fake_scores.shape[0])), 1)
    return tf.nn.top_k(tf.reshape(fake_scores, [-1]), k, sorted=False).values[:, tf.newaxis]


# ---------------------------------------------------------------- losses of D: of scores of reals and fakes [N, 1]


def d_logistic(real_scores: tf.Tensor, fake_scores: tf.Tensor) -> tf.Tensor:
    """Logistic loss: -log(1 - sigmoid(D(G(z)))) - log(sigmoid(D(x)))."""
    return tf.nn.softplus(fake_scores) + tf.nn.softplus(-real_scores)


def d_wgan(real_scores: tf.Tensor, fake_scores: tf.Tensor) -> tf.Tensor:
    """Critic of WGAN: D(G(z)) - D(x) + 0.001 D(x)^2."""
    return fake_scores - real_scores + WGAN_EPSILON * tf.square(real_scores)


def d_hinge(real_scores: tf.Tensor, fake_scores: tf.Tensor) -> tf.Tensor:
    """Hinge loss: max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Lim and Ye 2017; SAGAN, BigGAN)."""
    return tf.nn.relu(1 - real_scores) + tf.nn.relu(1 + fake_scores)


LOSSES_OF_G: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "logistic_ns": g_logistic_ns,
    "logistic": g_logistic,
    "wgan": g_linear,
    "hinge": g_linear,
}
LOSSES_OF_D: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "logistic": d_logistic,
    "wgan": d_wgan,
    "hinge": d_hinge,
}

# ---------------------------------------------------------------- penalties on gradients of D


def squared_gradient(scores: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Squared norm of the gradient of each score with respect to its image: [N, ...] and [N, C, H, W] to [N]."""
    grads = tf.gradients(tf.reduce_sum(scores), images)[0]
    return tf.reduce_sum(tf.square(grads), axis=[1, 2, 3])


def _distance_from_one(squared: tf.Tensor) -> tf.Tensor:
    # The gradient of a root is infinite at 0, where D is still flat.
    return tf.sqrt(tf.maximum(squared, 1e-30)) - 1


def mix_images(reals: tf.Tensor, fakes: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Images on the way from reals (factor 0) to fakes (1), where WGAN-GP looks at gradients. factors: [N, 1, 1, 1]."""
    return lerp(reals, fakes, factors)


@dataclass(frozen=True)
class Penalty:
    """at: images where the gradient is taken, `reals`, `fakes` or `mixed`; of: what becomes of its squared norm [N];
    factor: what the configured weight is multiplied by."""

    at: str
    of: Callable[[tf.Tensor], tf.Tensor]
    factor: float


PENALTIES = {
    # R1: gamma / 2 |grad D(x)|^2 at reals (Mescheder et al. 2018). R2: at fakes.
    "r1": Penalty("reals", tf.identity, 0.5),
    "r2": Penalty("fakes", tf.identity, 0.5),
    # WGAN-GP: lambda (|grad D| - 1)^2 between reals and fakes (Gulrajani et al. 2017).
    "gp": Penalty("mixed", lambda squared: tf.square(_distance_from_one(squared)), 1.0),
    # WGAN-LP: only where the norm is above 1 (Petzka et al. 2018).
    "lp": Penalty("mixed", lambda squared: tf.square(tf.nn.relu(_distance_from_one(squared))), 1.0),
}
