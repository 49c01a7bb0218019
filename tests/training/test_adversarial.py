"""Losses and penalties to choose from: NumPy formulas, derivatives by differences in float64, a minibatch of each."""

import numpy as np
import pytest

from dnnlib.tflib import tfutil
from dnnlib.tflib.network import Network
from dnnlib.tflib.rng import StatelessRandom
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from tests.tiny import tiny_config
from training.adversarial import LOSSES_OF_D, LOSSES_OF_G, PENALTIES, mix_images, of_best, squared_gradient
from training.config import TrainConfig
from training.config_io import apply_set
from training.config_networks import D_kwargs, G_kwargs
from training.config_schedule import D_LOSSES, D_PENALTIES, G_LOSSES
from training.loss import LossBuilder
from training.steps import MinibatchSettings, TrainingGraph

SCORES = np.array([-30.0, -2.5, -1.0001, -0.3, 0.0, 0.7, 0.9999, 2.0, 30.0])[:, np.newaxis]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


G_FORMULAS = {
    "logistic_ns": lambda f: -np.log(sigmoid(f)),
    "logistic": lambda f: np.log(sigmoid(-f)),
    "wgan": lambda f: -f,
    "hinge": lambda f: -f,
}
D_FORMULAS = {
    "logistic": lambda r, f: -np.log(sigmoid(-f)) - np.log(sigmoid(r)),
    "wgan": lambda r, f: f - r + 0.001 * r**2,
    "hinge": lambda r, f: np.clip(1 - r, 0, None) + np.clip(1 + f, 0, None),
}


def slopes(function, x, step=1e-6):
    """Central differences of an elementwise function."""
    return (function(x + step) - function(x - step)) / (2 * step)


def test_the_names_of_the_configuration_are_those_of_the_losses():
    assert tuple(map(tuple, (LOSSES_OF_G, LOSSES_OF_D, PENALTIES))) == (G_LOSSES, D_LOSSES, D_PENALTIES)
    assert set(G_FORMULAS) == set(G_LOSSES) and set(D_FORMULAS) == set(D_LOSSES)


@pytest.mark.parametrize("name", G_LOSSES)
def test_losses_of_g(session, name):
    fake = tf.constant(SCORES)
    loss = LOSSES_OF_G[name](fake)
    value, slope = session.run([loss, tf.gradients(loss, fake)[0]])
    np.testing.assert_allclose(value, G_FORMULAS[name](SCORES), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(slope, slopes(G_FORMULAS[name], SCORES), atol=1e-8)


@pytest.mark.parametrize("name", D_LOSSES)
def test_losses_of_d(session, name):
    reals, fakes = map(np.ascontiguousarray, np.broadcast_arrays(SCORES, SCORES.T))
    real, fake = tf.constant(reals), tf.constant(fakes)
    loss = LOSSES_OF_D[name](real, fake)
    value, slope = session.run([loss, tf.gradients(loss, [real, fake])])
    np.testing.assert_allclose(value, D_FORMULAS[name](reals, fakes), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(slope[0], slopes(lambda r: D_FORMULAS[name](r, fakes), reals), atol=1e-8)
    np.testing.assert_allclose(slope[1], slopes(lambda f: D_FORMULAS[name](reals, f), fakes), atol=1e-8)


def test_the_saturating_loss_gives_no_gradient_where_d_is_sure(session):
    fake = tf.constant([[-20.0]])
    saturating, other = (tf.gradients(LOSSES_OF_G[name](fake), fake)[0] for name in ("logistic", "logistic_ns"))
    a, b = session.run([saturating, other])
    assert abs(a) < 1e-8 and b < -0.999


# ---------------------------------------------------------------- penalties

PENALTY_FORMULAS = {
    "r1": lambda norm: norm**2 / 2,
    "r2": lambda norm: norm**2 / 2,
    "gp": lambda norm: (norm - 1) ** 2,
    "lp": lambda norm: np.where(norm > 1, norm - 1, 0) ** 2,
}


@pytest.mark.parametrize("name", D_PENALTIES)
def test_penalty_of_a_score_whose_gradient_is_known(session, name):
    """D(x) = sum(b x^2) / 2 has gradient b x: value, and the derivative by b against differences, in float64."""
    rng = np.random.RandomState(0)
    x, start = rng.randn(5, 3, 4, 4), rng.randn(3, 4, 4) * 0.15  # norms on both sides of 1
    b, images = tf.placeholder(tf.float64, start.shape), tf.constant(x)
    penalty = PENALTIES[name]
    scores = tf.reduce_sum(tf.square(images) * b, axis=[1, 2, 3])[:, tf.newaxis] / 2
    loss = tf.reduce_mean(penalty.of(squared_gradient(scores, images))) * penalty.factor

    def expected(value):
        return np.mean(PENALTY_FORMULAS[name](np.sqrt(np.sum((value * x) ** 2, axis=(1, 2, 3)))))

    norms = np.sqrt(np.sum((start * x) ** 2, axis=(1, 2, 3)))
    assert norms.min() < 1 < norms.max()
    value, slope = session.run([loss, tf.gradients(loss, b)[0]], {b: start})
    assert value == pytest.approx(expected(start), rel=1e-12)
    for index in [(0, 0, 0), (1, 2, 3), (2, 3, 1)]:
        change = np.zeros_like(start)
        change[index] = 1e-6
        assert slope[index] == pytest.approx((expected(start + change) - expected(start - change)) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("name", D_PENALTIES)
def test_a_flat_d_has_finite_gradients(session, name):
    images, b = tf.constant(np.ones([2, 3, 4, 4], np.float32)), tf.constant(0.0)
    loss = PENALTIES[name].of(squared_gradient(b * tf.reduce_sum(images, axis=[1, 2, 3]), images))
    assert np.isfinite(session.run(tf.gradients(loss, b)[0]))


def test_mixed_images(session):
    reals, fakes = np.random.RandomState(1).randn(2, 3, 3, 4, 4)
    factors = np.array([0.0, 0.25, 1.0]).reshape(3, 1, 1, 1)
    mixed = session.run(mix_images(tf.constant(reals), tf.constant(fakes), tf.constant(factors)))
    np.testing.assert_allclose(mixed, reals * (1 - factors) + fakes * factors)


@pytest.mark.parametrize(("share", "kept"), [(1.0, 5), (0.999, 5), (0.6, 3), (0.41, 3), (0.4, 2), (0.01, 1)])
def test_the_best_fakes(session, share, kept):
    scores = np.array([[0.5], [-2.0], [3.0], [1.0], [-0.1]], np.float32)
    found = session.run(of_best(tf.constant(scores), share))
    assert found.shape == (kept, 1)
    assert sorted(found.ravel()) == sorted(np.sort(scores.ravel())[-kept:])


# ---------------------------------------------------------------- with networks


class Nets:
    def __init__(self):
        config, shape = tiny_config(), dict(num_channels=3, resolution=8, label_size=0)
        self.config = config
        self.G = Network("G", func_name="G_main", **shape, **G_kwargs(config.G))
        self.D = Network("D", func_name="D_stylegan2", **shape, **D_kwargs(config.D))

    def builder(self, **options):
        return LossBuilder(self.G, self.D, tf.constant(0.0), **options)


def test_only_the_best_fakes_teach_g(session):
    """The gradient of G's loss with respect to scores: those of the best share alone, averaged over them."""
    scores = tf.constant([[0.5], [-2.0], [3.0], [1.0]])
    nets = Nets()
    seen = []

    class Builder(LossBuilder):
        def _d(self, images, labels):
            seen.append(scores)
            return scores

    losses = Builder(nets.G, nets.D, tf.constant(0.0), top_k=0.5)
    terms = losses.g_main(4, tf.zeros([4, 0]), StatelessRandom(tf.constant([1, 2], tf.int64)))
    assert len(seen) == 1
    slope = session.run(tf.gradients(terms.loss, scores)[0]).ravel()
    np.testing.assert_allclose(slope, [0, 0, -sigmoid(-3.0) / 2, -sigmoid(-1.0) / 2], rtol=1e-5)


@pytest.mark.parametrize("name", D_PENALTIES)
def test_where_the_gradient_is_taken(session, name):
    """Reals count for r1 and mixtures, fakes for r2 and mixtures; the penalty teaches D, never G."""
    nets = Nets()
    nets.D.set_var("Output/weight", 50 * nets.D.get_var("Output/weight"))  # gradients longer than 1, for lp
    rng = StatelessRandom(tf.constant([1, 2], tf.int64))
    reals = tf.constant(np.random.RandomState(0).uniform(-1, 1, [4, 3, 8, 8]).astype(np.float32))
    terms = nets.builder(D_penalty=name, r1_gamma=3.0).d_reg(reals, tf.zeros([4, 0]), rng)
    d_grads = tf.gradients(terms.loss, list(nets.D.trainables.values()))
    assert all(grad is None for grad in tf.gradients(terms.loss, list(nets.G.trainables.values())))
    to_reals = tf.gradients(terms.loss, reals)[0]
    assert (to_reals is None) == (name == "r2")
    assert ("w_avg" in terms.side) == (name != "r1")
    loss, penalty, grads = session.run(
        [terms.loss, terms.stats["Loss/gradient_penalty"], [g for g in d_grads if g is not None]]
    )
    assert loss == pytest.approx(3 * penalty * (0.5 if name in ("r1", "r2") else 1), rel=1e-6)
    assert all(np.isfinite(g).all() for g in grads)
    assert penalty > 0 and sum(np.abs(g).sum() for g in grads) > 0
    # Another G draws other fakes: all but R1 notice. (Fakes of another size would not do: an untrained D scales.)
    session.run([v.assign(v + [1.0, 0.0, -2.0]) for n, v in nets.G.trainables.items() if n.endswith("ToRGB/bias")])
    assert (session.run(terms.stats["Loss/gradient_penalty"]) != penalty) == (name != "r1")


def test_penalties_at_fakes_go_through_augmentation_and_zoom(session):
    nets, passed = Nets(), []
    losses = nets.builder(
        D_penalty="r2",
        augment=lambda images, rng: passed.append("augment") or images * 2,
        zoom=lambda images, rng: passed.append("zoom") or images,
    )
    losses.d_reg(tf.zeros([2, 3, 8, 8]), tf.zeros([2, 0]), StatelessRandom(tf.constant([1, 2], tf.int64)))
    assert passed == ["zoom", "augment"]


@pytest.mark.parametrize(
    ("g_loss", "d_loss", "penalty", "lazy"),
    [("logistic", "hinge", "r1", True), ("hinge", "hinge", "lp", True), ("wgan", "wgan", "gp", False),
     ("logistic_ns", "logistic", "r2", False)],
)  # fmt: skip
def test_a_minibatch_of_every_kind(session, g_loss, d_loss, penalty, lazy):
    config = apply_set(
        tiny_config(), f"G_loss={g_loss}", f"D_loss={d_loss}", f"D_penalty={penalty}", "top_k=0.5",
        "pl_weight=0",
        f"D_reg_interval={16 if lazy else 'none'}", "batch=4", "batch_gpu=4",
    )  # fmt: skip
    shape = dict(num_channels=3, resolution=8, label_size=0)
    G = Network("G", func_name="G_main", **shape, **G_kwargs(config.G))
    D = Network("D", func_name="D_stylegan2", **shape, **D_kwargs(config.D))
    graph = TrainingGraph(G, D, G.clone("Gs"), config, 4, False, (0.0, 0.99), (0.0, 0.99))
    assert ("D_reg" in graph.phases) == lazy
    reals = np.random.RandomState(0).randint(0, 256, [4, 3, 8, 8]).astype(np.uint8)
    labels, before = np.zeros([4, 0], np.float32), tfutil.run(dict(D.trainables))
    values = graph.run_minibatch(0, 0, MinibatchSettings(0.01, 0.01, 10.0, 0.5, 1), reals, labels, {})
    assert all(np.isfinite(value) for value in values.values())
    weight = 5 if penalty in ("r1", "r2") else 10
    assert values["Loss/D/reg"] == pytest.approx(weight * values["Loss/gradient_penalty"], rel=1e-5)
    after = tfutil.run(dict(D.trainables))
    assert any(not np.array_equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss.G_loss=wgn", "loss.G_loss: found 'wgn', expected one of logistic_ns, logistic, wgan, hinge"),
        ("loss.D_loss=logistic_ns", "loss.D_loss: found 'logistic_ns', expected one of logistic, wgan, hinge"),
        ("loss.D_penalty=r3", "loss.D_penalty: found 'r3', expected one of r1, r2, gp, lp"),
        ("loss.top_k=0", "loss.top_k: found 0.0, expected a share in (0, 1]"),
        ("loss.bcr_shift=0", "loss.bcr_shift: found 0.0, expected a share in (0, 0.5]"),
        ("loss.zcr_gen=-1", "loss.zcr_gen: found -1.0, expected a number >= 0"),
        ("loss.zcr_std=0", "loss.zcr_std: found 0.0, expected a number > 0"),
        ("schedule.D_repeats=0", "schedule.D_repeats: found 0, expected a number >= 1"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(UserError) as error:
        apply_set(TrainConfig(), text)
    assert str(error.value) == message


def test_signs_of_wgan_scores_steer_no_augmentation():
    with pytest.raises(UserError, match=r"augment.mode: found 'ada', .*wgan.*choose adarv, fixed or noaug"):
        apply_set(TrainConfig(), "augment.mode=ada", "loss.D_loss=wgan")
    apply_set(TrainConfig(), "augment.mode=adarv", "loss.D_loss=wgan")
    apply_set(TrainConfig(), "augment.mode=ada", "loss.D_loss=hinge")
