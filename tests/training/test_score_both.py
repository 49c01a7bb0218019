"""D scores reals and fakes in one pass: the same numbers as in two, whatever minibatch stddev does."""

import numpy as np
import pytest

from dnnlib import tflib
from dnnlib.tflib.tfutil import tf
from training.loss import LossBuilder


def _scores(group, n, label_size):
    rng = np.random.RandomState(3)
    shape = dict(num_channels=3, resolution=8, label_size=label_size, fmap_base=64, fmap_max=8)
    D = tflib.Network("D", func_name="D_stylegan2", mbstd_group_size=group, **shape)
    tflib.set_vars({v: rng.randn(*v.shape.as_list()) for v in D.vars.values()})
    fakes, reals = (tf.constant(rng.randn(n, 3, 8, 8), tf.float32) for _ in range(2))
    labels = tf.constant(np.eye(label_size)[rng.randint(label_size, size=n)] if label_size else np.zeros([n, 0]))
    labels = tf.cast(labels, tf.float32)
    losses = LossBuilder(None, D, None)
    both = losses.score_both(fakes, reals, labels)
    apart = [D.get_output_for(x, labels) for x in (fakes, reals)]
    return tflib.run([both, apart])


@pytest.mark.parametrize(
    "group,n", [(4, 8), (4, 4), (4, 2), (4, 1), (2, 6), (3, 9), (None, 5), (None, 1), (0, 3), (1, 4)]
)
def test_equal_to_two_passes(session, group, n):
    both, apart = _scores(group, n, 0)
    np.testing.assert_allclose(both, apart, rtol=1e-4, atol=1e-4)
    assert np.abs(apart[0] - apart[1]).max() > 0.01  # otherwise mixed up results would pass


def test_labels_go_along(session):
    both, apart = _scores(4, 8, 3)
    np.testing.assert_allclose(both, apart, rtol=1e-4, atol=1e-4)
