"""What a training graph makes of its configuration: factors, decays, labels and random numbers of its phases."""

import dataclasses

import numpy as np
import pytest

from dnnlib import tflib
from dnnlib.tflib.optimizer import Optimizer
from dnnlib.tflib.tfutil import tf
from tests.tiny import tiny_config
from tests.training.test_loss_golden import RecordedRandom, Setup, self_check
from tests.training.test_turns import Turns
from training import run, schedule, steps
from training.config import TrainConfig
from training.config_io import apply_set
from training.config_networks import D_kwargs, DiscriminatorConfig, G_kwargs, GeneratorConfig
from training.loss import pixel_diversity
from training.steps import MinibatchSettings, TrainingGraph

BATCH = 8
SETTINGS = MinibatchSettings(G_lrate=0.002, D_lrate=0.002, r1_gamma=10.0, ema_beta=0.9, rounds=1)


@pytest.fixture(autouse=True)
def totals(monkeypatch):
    """Phases report what their optimizer step minimises as `Total/<phase>`, and their mean w as `w/<phase>`."""
    original = Optimizer.phase

    def phase(self, name, towers, *args, **kwargs):
        def more(tower):
            w = {f"w/{name}": tf.reduce_mean(tower.side["w_avg"])} if "w_avg" in tower.side else {}
            return {**tower.stats, **w, f"Total/{name}": tower.loss}

        return original(self, name, [dataclasses.replace(t, stats=more(t)) for t in towers], *args, **kwargs)

    monkeypatch.setattr(Optimizer, "phase", phase)


class Steps:
    """A training graph of tiny networks, and images for it."""

    def __init__(self, *assignments, label_size=0):
        config = apply_set(tiny_config(), "batch_gpu=none", f"batch={BATCH}", *assignments)
        shape = dict(num_channels=3, resolution=8, label_size=label_size)
        self.G = tflib.Network("G", func_name="G_main", **shape, **G_kwargs(config.G))
        self.D = tflib.Network("D", func_name="D_stylegan2", **shape, **D_kwargs(config.D))
        g, d = schedule.G_adam(config), schedule.D_adam(config)
        betas = (g.beta1, g.beta2), (d.beta1, d.beta2)
        n = BATCH // config.num_gpus
        self.graph = TrainingGraph(self.G, self.D, self.G.clone("Gs"), config, n, False, *betas)
        rng = np.random.RandomState(1)
        self.reals = rng.randint(0, 256, [BATCH, 3, 8, 8]).astype(np.uint8)
        self.labels = np.zeros([BATCH, label_size], np.float32)

    def phase(self, name, labels=None, g_labels=None, nimg=0, **settings):
        """Reports of one phase that changes no weights."""
        settings = dataclasses.replace(SETTINGS, **{"G_lrate": 0.0, "D_lrate": 0.0} | settings)
        labels, g_labels = (self.labels if t is None else t for t in (labels, g_labels))
        return self.graph.run_phase(name, nimg, settings, self.reals, labels, g_labels)


def test_published_sequence(golden, session, monkeypatch):
    """Three minibatches through the graph itself against the published ones."""
    setup = Setup(golden)
    data = setup.data

    class Recorded:
        def __init__(self, seed):
            pass

        def child(self, phase):
            return RecordedRandom(data, {"G_main": "rand_G/main", "G_reg": "rand_G/pl"}.get(phase, "rand_D/main"))

    monkeypatch.setattr(steps, "StatelessRandom", Recorded)
    monkeypatch.setattr(steps, "process_reals", lambda reals: tf.constant(data["in/reals"]))
    config = TrainConfig(G=GeneratorConfig(), D=DiscriminatorConfig())
    g, d = schedule.G_adam(config), schedule.D_adam(config)
    with tf.variable_scope("graph"):  # the other one has a mean of path lengths, too
        graph = TrainingGraph(
            setup.G, setup.D, setup.Gs, config, 8, False, (g.beta1, g.beta2), (d.beta1, d.beta2)
        )  # fmt: skip
    settings = MinibatchSettings(g.lrate, d.lrate, config.loss.r1_gamma, float(data["seq/Gs_beta"]), 1)
    reals, none = np.zeros(data["in/reals"].shape, np.uint8), np.zeros([8, 0], np.float32)
    for iteration in range(3):
        graph.run_minibatch(8 * iteration, iteration, settings, reals, none, {})
        if iteration in (0, 2):
            nets = {"G": setup.G, "D": setup.D, "Gs": setup.Gs}
            self_check(session, data, iteration, nets, graph.pl_mean)


def test_lazy_phases_count_for_their_interval(session):
    made = Steps("G_reg_interval=5", "D_reg_interval=12", "pl_weight=3", "pl_decay=0.1")
    found = made.phase("G_reg")
    assert found["Total/G_reg"] == pytest.approx(5 * found["Loss/G/reg"], rel=1e-5)
    assert found["Loss/G/reg"] == pytest.approx(3 * found["Loss/pl_penalty"], rel=1e-5)
    assert session.run(made.graph.pl_mean) == pytest.approx(0.1 * found["Loss/pl_lengths"], rel=1e-5)
    found = made.phase("D_reg", r1_gamma=40.0)  # not the configured 10
    assert found["Total/D_reg"] == pytest.approx(12 * found["Loss/D/reg"], rel=1e-5)
    assert found["Loss/D/reg"] == pytest.approx(20 * found["Loss/gradient_penalty"], rel=1e-5)


def test_penalties_without_an_interval_are_part_of_the_main_loss(session):
    made = Steps("G_reg_interval=none", "D_reg_interval=none")
    assert set(made.graph.phases) == {"G_main", "D_main"}
    for phase, name in (("G_main", "G"), ("D_main", "D")):
        found = made.phase(phase)
        assert found[f"Loss/{name}/reg"] > 0
        assert found[f"Total/{phase}"] == pytest.approx(
            found[f"Loss/{name}/loss"] + found[f"Loss/{name}/reg"], rel=1e-5
        )


def test_decays_of_the_optimizers(session):
    made = Steps("opt.beta2=0.9")
    for name, expected in (("G", 0.9 ** (4 / 5)), ("D", 0.9 ** (16 / 17))):
        power = made.graph.variables[f"Train{name}/beta2_power"]
        session.run(power.initializer)  # ones
        made.phase(f"{name}_main")
        assert session.run(power) == pytest.approx(np.full(power.shape, expected), rel=1e-5)


@pytest.mark.parametrize("phase", ["G_main", "G_reg", "D_main"])
def test_mean_of_w(session, phase):
    made = Steps("G.dlatent_avg_beta=0.9")
    average = made.G.own_vars["dlatent_avg"]
    session.run(average.initializer)  # zeros
    mean = made.phase(phase)[f"w/{phase}"]
    assert np.mean(session.run(average)) == pytest.approx(0.1 * mean, rel=1e-4)


def test_style_mixing_is_that_of_the_moment(session):
    """The configured probability is 1: with 0 fed instead, scores are others, and those of a run without mixing."""
    mixing = Steps("style_mixing_prob=1", "mixing_steps=[[1,0]]")
    configured, fed, never = (mixing.phase("G_main", mixing=p)["Loss/scores/fake"] for p in (None, 1.0, 0.0))
    assert configured == fed != never


def test_labels_of_g_are_its_own(session):
    made = Steps(label_size=3)
    a, b = (np.eye(3, dtype=np.float32)[np.full(BATCH, i)] for i in (0, 1))

    for phase, tag in (("G_main", "Loss/scores/fake"), ("G_reg", "Loss/pl_lengths")):
        expected = made.phase(phase, labels=a, g_labels=b)[tag]
        assert made.phase(phase, labels=b, g_labels=b)[tag] == expected
        assert made.phase(phase, labels=a, g_labels=a)[tag] != expected


def test_labels_reach_their_phases():
    """Reals have those of their files; both phases of G random ones of their own."""
    graph = Turns(tiny_config())
    graph.run_minibatch(0, 0, SETTINGS, None, "reals", {"G_main": "main", "G_reg": "reg"})
    seen = {name: args[-2:] for name, args in graph.given.items()}
    assert seen["G_main"] == ("reals", "main") and seen["G_reg"] == ("reals", "reg")
    assert seen["D_main"][0] == seen["D_reg"][0] == "reals"
    assert len(set(run._LABEL_PHASES.values())) == len(run._LABEL_PHASES) == 2, "random labels of their own"


def test_phases_draw_their_own_latents(session):
    made = Steps("pl_minibatch_shrink=1")
    means = [made.phase(phase)[f"w/{phase}"] for phase in ("G_main", "G_reg", "D_main")]
    assert len(set(means)) == 3
    assert means[0] == made.phase("G_main")["w/G_main"] != made.phase("G_main", nimg=BATCH)["w/G_main"]


def test_the_minibatch_of_path_lengths_is_smaller(session, monkeypatch):
    sizes = []
    original = steps.LossBuilder.g_reg
    monkeypatch.setattr(steps.LossBuilder, "g_reg", lambda self, n, *args: sizes.append(n) or original(self, n, *args))
    Steps("pl_minibatch_shrink=4")
    assert sizes == [BATCH // 4]


def test_augmentation_counts_the_reals_of_all_towers(session):
    made = Steps("augment.mode=ada", "augment.interval=4", "num_gpus=2")
    sign = made.phase("D_main")["Loss/signs/real"]
    signs, _, _, images, _ = session.run(made.graph.variables["augment_sums"])
    assert images == BATCH and signs / images == pytest.approx(sign, rel=1e-5)


@pytest.mark.parametrize("shape", [(5, 3, 16, 16), (2, 1, 8, 32)])
def test_pixel_diversity(session, shape):
    """Mean over all pairs of the squared distance per pixel of images that are averaged down."""
    images = np.random.RandomState(0).randn(*shape).astype(np.float32)
    cell = max(min(shape[2:]) // 8, 1)
    small = images.reshape(*shape[:2], shape[2] // cell, cell, shape[3] // cell, cell).mean((3, 5))
    pairs = [np.mean((small[i] - small[j]) ** 2) for i in range(shape[0]) for j in range(i)]
    assert session.run(pixel_diversity(tf.constant(images), shape[0])) == pytest.approx(np.mean(pairs), rel=1e-5)
