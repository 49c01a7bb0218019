"""Consistency terms of D and G against NumPy, on networks whose function and gradient are known."""

import numpy as np
import pytest

from dnnlib.tflib.rng import StatelessRandom
from dnnlib.tflib.tfutil import tf
from training.augment.shift import draw_shift, shift
from training.consistency import Consistency
from training.loss import LossBuilder

N, SHAPE = 3, (2, 16, 8)
RNG = np.random.RandomState(0)
TO_PIXELS, TO_SCORE = RNG.randn(4, np.prod(SHAPE)).astype(np.float32), RNG.randn(*SHAPE).astype(np.float32)
REALS = RNG.uniform(-1, 1, [N, *SHAPE]).astype(np.float32)


class LinearG:
    """Images are linear in z and in noise of their own."""

    input_shape = (None, 4)

    def get_output_for(self, latents, labels, rng, w_avg_sink, **options):
        w_avg_sink.append(tf.reduce_mean(latents, axis=0))
        images = tf.reshape(tf.matmul(latents, TO_PIXELS), [-1, *SHAPE]) + rng.normal("noise", [N, *SHAPE])
        return images, latents


class LinearD:
    """The score is a product with `weights`; `seen` holds what was scored."""

    static_kwargs = {"mbstd_group_size": 1}

    def __init__(self):
        self.weights = tf.constant(TO_SCORE)

    def get_output_for(self, images, labels, **options):
        return tf.reduce_sum(images * self.weights, axis=[1, 2, 3])[:, tf.newaxis]


def moved(image, down, right):
    """NumPy: the image shifted, its border reflected."""
    height, width = image.shape[1:]
    rows = np.pad(np.arange(height), height // 2, mode="reflect")[height // 2 - down :][:height]
    columns = np.pad(np.arange(width), width // 2, mode="reflect")[width // 2 - right :][:width]
    return image[:, rows][:, :, columns]


def scores(images):
    return np.sum(images * TO_SCORE, axis=(1, 2, 3))


def slope(a, b):
    """Of the mean of squared differences of scores of `a` and `b`, in the weights of D."""
    return np.mean(2 * (scores(a) - scores(b)).reshape(-1, 1, 1, 1) * (a - b), axis=0)


def losses_with(**weights):
    D = LinearD()  # noqa: N806
    return D, LossBuilder(LinearG(), D, None, consistency=Consistency(**weights))


def source():
    return StatelessRandom(tf.constant([5, 6], tf.int64))


def fakes(session, nudge=0.0):
    z = source().normal("latents", [N, 4]) + nudge * source().normal("nudge", [N, 4])
    noise = source().normal("noise", [N, *SHAPE])
    z, noise = session.run([z, noise])
    return (z @ TO_PIXELS).reshape(N, *SHAPE) + noise


def test_whole_shifts_are_exact(session):
    shifts = np.array([[4, -4, 0], [-2, 0, 2]])
    found = session.run(shift(tf.constant(REALS), tf.constant(shifts, tf.int32), (4, 2), "REFLECT"))
    for image, result, (down, right) in zip(REALS, found, shifts.T, strict=True):
        np.testing.assert_array_equal(result, moved(image, down, right))
    u = np.array([[0.0, 0.5, 0.999], [0.3, 0.6, 0.9]])
    assert session.run(draw_shift(tf.constant(u, tf.float32), (4.0, 2.0))).tolist() == [[-4, 0, 4], [-1, 0, 2]]


def test_shifted_reals_and_fakes_should_score_alike(session):
    D, losses = losses_with(bcr_real=10.0, bcr_fake=7.0, shift=0.25)  # noqa: N806
    _, plain = losses_with()
    labels = tf.zeros([N, 0])
    terms, without = (each.d_main(tf.constant(REALS), labels, source()) for each in (losses, plain))
    amounts = draw_shift(source().uniform("bcr", [2, 2 * N]), (4.0, 2.0))
    grads = tf.gradients(terms.loss, D.weights)[0] - tf.gradients(without.loss, plain.D.weights)[0]
    shifts, found, base, stats, grads = session.run([amounts, terms.loss, without.loss, terms.stats, grads])
    assert np.abs(shifts).max() > 0
    seen = np.concatenate([fakes(session), REALS])
    there = np.stack([moved(image, *by) for image, by in zip(seen, shifts.T, strict=True)])
    squares = (scores(seen) - scores(there)) ** 2
    assert stats["Loss/D/bcr_fake"] == pytest.approx(squares[:N].mean(), rel=1e-4)
    assert stats["Loss/D/bcr_real"] == pytest.approx(squares[N:].mean(), rel=1e-4)
    assert stats["Loss/D/loss"] == pytest.approx(base, rel=1e-5)
    assert found - base == pytest.approx(7 * squares[:N].mean() + 10 * squares[N:].mean(), rel=1e-4)
    expected = 7 * slope(seen[:N], there[:N]) + 10 * slope(seen[N:], there[N:])
    np.testing.assert_allclose(grads, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_fakes_of_nearly_the_same_z_should_score_alike(session):
    """They differ by z alone: noise, zoom and augmentation are those of the others."""
    augmentation = []

    def augment(images, rng):
        augmentation.append(images)
        return images * (1 + rng.uniform("gain", [2 * N, 1, 1, 1]))

    D = LinearD()  # noqa: N806
    both = [
        LossBuilder(LinearG(), D, None, augment=augment, consistency=Consistency(zcr_dis=weight, std=0.5))
        for weight in (0.2, 0.0)
    ]
    terms, without = (each.d_main(tf.constant(REALS), tf.zeros([N, 0]), source()) for each in both)
    gain = 1 + source().child("augment").uniform("gain", [2 * N, 1, 1, 1])
    gain, found, base, term = session.run([gain, terms.loss, without.loss, terms.stats["Loss/D/zcr"]])
    difference = scores(gain[:N] * fakes(session)) - scores(gain[:N] * fakes(session, 0.5))
    assert np.abs(difference).min() > 0.01
    assert term == pytest.approx(np.mean(difference**2), rel=1e-4)
    assert found - base == pytest.approx(0.2 * np.mean(difference**2), rel=1e-4)
    assert "Loss/D/zcr" not in without.stats and len(augmentation) == 3


def test_g_is_rewarded_for_images_that_change_with_z(session):
    _, losses = losses_with(zcr_gen=0.02, std=0.5)
    _, plain = losses_with()
    terms, without = (each.g_main(N, tf.zeros([N, 0]), source()) for each in (losses, plain))
    found, base, change = session.run([terms.loss, without.loss, terms.stats["Loss/G/zcr"]])
    expected = np.mean((fakes(session) - fakes(session, 0.5)) ** 2)
    assert change == pytest.approx(expected, rel=1e-4)
    assert base - found == pytest.approx(0.02 * expected, rel=1e-3)
