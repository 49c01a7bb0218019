"""Flooded losses: values and slopes on both sides of the level, and where they enter the losses of G and D."""

import numpy as np
import pytest

from dnnlib.tflib.rng import StatelessRandom
from dnnlib.tflib.tfutil import tf
from tests.training.test_consistency import REALS, LinearD, LinearG
from training.flooding import flood
from training.loss import LossBuilder


@pytest.mark.parametrize(
    ("value", "level", "stops", "expected", "slope"),
    [
        (0.7, None, False, 0.7, 1),
        (0.7, 0.2, False, 0.7, 1),
        (0.05, 0.2, False, 0.35, -1),
        (0.05, 0.2, True, 0.2, 0),
        (0.7, 0.2, True, 0.7, 1),
        (-3.0, -2.0, False, -1.0, -1),
    ],
)
def test_below_its_level_a_loss_turns_round_or_stops(session, value, level, stops, expected, slope):
    loss = tf.constant(value)
    flooded = flood(loss, level, stops)
    found, change = session.run([flooded, tf.gradients(flooded, loss)[0]])
    assert (found, change) == (pytest.approx(expected), slope)


def test_each_network_has_its_own_level(session):
    labels, rng = tf.zeros([3, 0]), StatelessRandom(tf.constant([5, 6], tf.int64))

    def losses(**options):
        builder = LossBuilder(LinearG(), LinearD(), None, **options)
        return builder.g_main(3, labels, rng), builder.d_main(tf.constant(REALS), labels, rng)

    plain, flooded = losses(), losses(G_flood=1e6, D_flood=2e6)
    stopped = losses(G_flood=1e6, D_flood=2e6, flood_stops=True)
    g, d = session.run([terms.loss for terms in plain])
    assert min(g, d) > 0.01
    np.testing.assert_allclose(session.run([terms.loss for terms in flooded]), [2e6 - g, 4e6 - d], rtol=1e-6)
    np.testing.assert_allclose(session.run([terms.loss for terms in stopped]), [1e6, 2e6])
    # What is reported is the loss itself.
    reports = [flooded[0].stats["Loss/G/loss"], flooded[1].stats["Loss/D/loss"]]
    np.testing.assert_allclose(session.run(reports), [g, d], rtol=1e-5)
