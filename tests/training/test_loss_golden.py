"""Losses, gradients, optimizer steps and a lazy-regularisation sequence against the published implementation."""

import dataclasses
import json

import numpy as np
import pytest

from dnnlib import tflib
from dnnlib.tflib import tfutil
from dnnlib.tflib.optimizer import Optimizer, SideUpdate, Tower
from dnnlib.tflib.tfutil import tf
from training import adversarial
from training import loss as losses
from training.schedule import lazy_adam

TOLERANCE = 1e-4


class RecordedRandom:
    """Replays the numbers that the published code drew."""

    def __init__(self, data, prefix):
        self._data, self._prefix = data, prefix

    def _get(self, name, low=None):
        value = self._data[f"{self._prefix}/{name}"]
        return tf.constant(value)

    def normal(self, name, shape):
        return self._get(name)

    def uniform(self, name, shape):
        if name == "penalty_mix":
            return tf.constant(self._data["extra/D_wgan_gp/mixing_factors"])
        return self._get(name)

    def integers(self, name, shape, low, high):
        value = self._get(name)
        return value

    def child(self, prefix):
        return self


def relative_error(actual, expected, floor=0.0):
    return np.max(np.abs(actual - expected)) / max(np.max(np.abs(expected)), floor, 1e-12)


class Setup:
    def __init__(self, golden, fused=False):
        self.data = golden("sg2_train_uncond.npz")
        nets = golden("sg2_uncond_Gskip_Dresnet.npz")
        kwargs = json.loads(str(nets["static_kwargs_json"]))
        self.G = tflib.Network("G", func_name="G_main", **kwargs["G"])
        self.D = tflib.Network("D", func_name="D_stylegan2", **kwargs["D"])
        self.Gs = self.G.clone("Gs")
        for name, net in (("G", self.G), ("D", self.D), ("Gs", self.Gs)):
            source = "G" if name == "Gs" else name
            tflib.set_vars({v: nets[f"vars/{source}/{n}"] for n, v in net.vars.items()})
        self.pl_mean = tf.get_variable("pl_mean", [], initializer=tf.initializers.zeros(), trainable=False)
        tflib.run(self.pl_mean.initializer)
        self.losses = losses.LossBuilder(self.G, self.D, self.pl_mean)
        if fused:
            # D has no modulated convolutions: only G knows the option.
            self.G.static_kwargs.fused_modconv = True
        self.reals, self.labels = tf.constant(self.data["in/reals"]), tf.constant(self.data["in/real_labels"])

    def terms(self, phase):
        rng = {
            "G_main": "rand_G/main",
            "G_reg": "rand_G/pl",
            "D_main": "rand_D/main",
        }
        source = RecordedRandom(self.data, rng[phase]) if phase in rng else None
        if phase == "G_main":
            return self.losses.g_main(8, tf.constant(self.data["in/random_labels_main"]), source)
        if phase == "G_reg":
            return self.losses.g_reg(4, tf.constant(self.data["in/random_labels_pl"]), source)
        if phase == "D_main":
            return self.losses.d_main(self.reals, self.labels, source)
        return self.losses.d_reg(self.reals, self.labels)


FACTOR = {"G_main": 1, "G_reg": 4, "D_main": 1, "D_reg": 16}


@pytest.fixture(scope="module")
def shared(golden):
    """(networks and losses, a session) for the tests that change nothing: building them takes seconds."""
    with tf.Graph().as_default(), tfutil.create_session() as session:
        yield Setup(golden), session


@pytest.mark.parametrize("phase", list(FACTOR))
def test_loss_and_gradients(shared, phase):
    check_loss_and_gradients(*shared, phase)


@pytest.mark.optimised
def test_loss_and_gradients_of_fused_layers(golden, session):
    setup = Setup(golden, fused=True)
    for phase in FACTOR:
        check_loss_and_gradients(setup, session, phase)


def check_loss_and_gradients(setup, session, phase):
    data, terms = setup.data, setup.terms(phase)
    net = setup.G if phase.startswith("G") else setup.D
    grads = tf.gradients(terms.loss * FACTOR[phase], list(net.trainables.values()))
    grads = [tf.zeros_like(v) if g is None else g for g, v in zip(grads, net.trainables.values(), strict=True)]
    value, grads = session.run([terms.loss, grads])
    key = {"G_main": "G_main/G_loss", "G_reg": "G_reg/G_reg", "D_main": "D_main/D_loss", "D_reg": "D_reg/D_reg"}[phase]
    assert relative_error(value, np.mean(data[key])) < TOLERANCE
    largest = max(np.max(np.abs(data[f"grad/{phase}/{n}"])) for n in net.trainables)
    for name, grad in zip(net.trainables, grads, strict=True):
        expected = data[f"grad/{phase}/{name}"]
        # The floor covers near-zero scalars such as noise strengths, where float32 sums cancel.
        assert relative_error(grad, expected, floor=largest * 1e-3) < TOLERANCE, name


def test_side_statistics(shared):
    setup, session = shared
    data = setup.data
    avg = session.run(setup.G.own_vars["dlatent_avg"])
    means = session.run({phase: setup.terms(phase).side for phase in ("G_main", "G_reg", "D_main")})
    for phase in means:
        after = means[phase]["w_avg"] + (avg - means[phase]["w_avg"]) * 0.995
        assert relative_error(after, data[f"{phase}/dlatent_avg_after"]) < TOLERANCE
    assert relative_error(means["G_reg"]["pl_mean"] * 0.01, data["G_reg/pl_mean_after"]) < TOLERANCE
    stats = session.run(setup.terms("D_reg").stats)
    assert relative_error(stats["Loss/gradient_penalty"], np.mean(data["D_reg/gradient_penalty"])) < TOLERANCE


@pytest.mark.optimised
@pytest.mark.parametrize("phase", ["G_main", "D_main"])
def test_one_optimizer_step(golden, session, phase):
    setup = Setup(golden)
    net = setup.G if phase == "G_main" else setup.D
    before = session.run(dict(net.trainables))
    terms = setup.terms(phase)
    opt = Optimizer("Train", net.trainables, 0.002, 0.0, 0.99, 1e-8)
    step = opt.phase(phase, [Tower(None, terms.loss)])
    session.run([v.initializer for v in opt.variables()])
    session.run(step.step)
    for name, value in session.run(dict(net.trainables)).items():
        expected = setup.data[f"step/{phase}/{name}"]
        grad = setup.data[f"grad/{phase}/{name}"]
        # The first step of Adam is a sign: compare where the gradient is clearly not zero.
        clear = np.abs(grad) > 1e-3 * np.max(np.abs(grad))
        moved, should = (value - before[name])[clear], (expected - before[name])[clear]
        resolution = np.max(np.abs(before[name])) * 1.2e-7
        if moved.size:
            assert np.max(np.abs(moved - should)) < 2e-4 * TOLERANCE * 10 + 2 * resolution, name


def test_lazy_regularisation_sequence(golden, session):
    """Three iterations with shared Adam state: G main, G reg (every 4th), Gs, D main, D reg (every 16th)."""
    setup = Setup(golden)
    G, D, Gs, data = setup.G, setup.D, setup.Gs, setup.data
    g, d = lazy_adam(0.002, 0.0, 0.99, 1e-8, 4), lazy_adam(0.002, 0.0, 0.99, 1e-8, 16)
    opts = {
        "G": Optimizer("TrainG", G.trainables, g.lrate, g.beta1, g.beta2),
        "D": Optimizer("TrainD", D.trainables, d.lrate, d.beta1, d.beta2),
    }
    known = {"w_avg": SideUpdate(G.own_vars["dlatent_avg"], 0.995), "pl_mean": SideUpdate(setup.pl_mean, 0.99)}
    phases = {}
    for name, factor in FACTOR.items():
        terms = setup.terms(name)
        updates = {k: known[k] for k in terms.side}
        tower = Tower(None, terms.loss * factor, terms.side)
        phases[name] = opts[name[0]].phase(name, [tower], updates)
    beta = float(data["seq/Gs_beta"])
    assert beta == pytest.approx(0.5 ** (8 / 10))
    ema = Gs.setup_as_moving_average_of(G, beta=beta)
    session.run([v.initializer for o in opts.values() for v in o.variables()])
    for iteration in range(3):
        session.run(phases["G_main"].step)
        if iteration % 4 == 0:
            session.run(phases["G_reg"].step)
        session.run(ema)
        session.run(phases["D_main"].step)
        if iteration % 16 == 0:
            session.run(phases["D_reg"].step)
        if iteration in (0, 2):
            self_check(session, data, iteration, {"G": G, "D": D, "Gs": Gs}, setup.pl_mean)


def self_check(session, data, iteration, nets, pl_mean):
    prefix = f"seq/iter{iteration}"
    assert relative_error(session.run(pl_mean), data[f"{prefix}/pl_mean"]) < 1e-3
    compared = 0
    for name, net in nets.items():
        if name != "D" and f"{prefix}/{name}_dlatent_avg" in data:
            average = session.run(net.own_vars["dlatent_avg"])
            assert relative_error(average, data[f"{prefix}/{name}_dlatent_avg"]) < 1e-3
        for key, value in session.run(dict(net.trainables)).items():
            if f"{prefix}/{name}/{key}" in data:
                expected = data[f"{prefix}/{name}/{key}"]
                compared += 1
                # Steps are +-lr whatever the size of the gradient, so an element whose gradient is about zero may
                # go the other way: nearly all must agree closely, none may be further off than the steps taken.
                off = np.abs(value - expected)
                scale = np.max(np.abs(expected)) * 1e-6 + 2e-5
                assert np.mean(off > scale) < 0.02, (name, key)
                assert np.max(off) < 0.002 * 2 * (2 * iteration + 2), (name, key)
    assert compared >= 50


@pytest.mark.parametrize(("name", "published"), [("logistic_ns", "G_logistic_ns"), ("logistic", "G_logistic"),
                                                 ("wgan", "G_wgan")])  # fmt: skip
def test_losses_of_g(golden, session, name, published):
    data = golden("sg2_train_uncond.npz")
    loss = adversarial.LOSSES_OF_G[name](tf.constant(data["G_main/fake_scores"]))
    assert relative_error(session.run(loss), data[f"extra/{published}/loss"]) < TOLERANCE


@pytest.mark.parametrize(("name", "published"), [("logistic", "D_logistic"), ("wgan", "D_wgan")])
def test_losses_of_d(golden, session, name, published):
    data = golden("sg2_train_uncond.npz")
    real, fake = tf.constant(data["D_main/real_scores"]), tf.constant(data["D_main/fake_scores"])
    loss = adversarial.LOSSES_OF_D[name](real, fake)
    assert relative_error(session.run(loss), data[f"extra/{published}/loss"]) < TOLERANCE


@pytest.mark.parametrize(("name", "published"), [("r1", "D_logistic_r1"), ("r2", "D_logistic_r2"), ("gp", "D_wgan_gp")])
def test_penalties_of_d(shared, name, published):
    """With the weights of the published code, gamma and lambda 10."""
    setup, session = shared
    losses = dataclasses.replace(setup.losses, D_penalty=name)
    terms = losses.d_reg(setup.reals, setup.labels, RecordedRandom(setup.data, "rand_D/main"))
    expected = np.mean(setup.data[f"extra/{published}/reg"])
    assert relative_error(session.run(terms.loss), expected) < TOLERANCE


def test_images_dlatents_and_scores_on_the_way(shared):
    setup, session = shared
    data = setup.data
    for phase, prefix, n in (("G_main", "rand_G/main", 8), ("G_reg", "rand_G/pl", 4)):
        rng = RecordedRandom(data, prefix)
        labels = tf.zeros([n, 0])
        options = dict(is_training=True, return_dlatents=True, rng=rng, w_avg_sink=[])
        images, dlatents = setup.G.get_output_for(rng.normal("latents", None), labels, **options)
        names = ("fake_images", "fake_dlatents") if phase == "G_main" else ("pl_images", "pl_dlatents")
        values = session.run([images, dlatents])
        for name, value in zip(names, values, strict=True):
            assert relative_error(value, data[f"{phase}/{name}"]) < TOLERANCE, name
        if phase == "G_main":
            scores = session.run(setup.D.get_output_for(images, labels))
            assert relative_error(scores, data["G_main/fake_scores"]) < TOLERANCE
        else:
            lengths = session.run(losses.path_lengths(images, dlatents, rng.normal("pl_noise", None)))
            assert relative_error(lengths, data["G_reg/pl_lengths"]) < TOLERANCE
            penalty, _ = losses.path_length_penalty(tf.constant(lengths), setup.pl_mean, 0.01)
            assert relative_error(session.run(penalty), data["G_reg/pl_penalty"]) < TOLERANCE
    scores = setup.D.get_output_for(setup.reals, setup.labels)
    penalty = session.run([scores, adversarial.squared_gradient(scores, setup.reals)])
    assert relative_error(penalty[0], data["D_main/real_scores"]) < TOLERANCE
    assert relative_error(penalty[1], data["D_reg/gradient_penalty"]) < TOLERANCE
