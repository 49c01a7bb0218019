"""Augmentation in training: losses with gradients through it, p in the state, resuming bit-exactly."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dnnlib.tflib import tfutil
from dnnlib.tflib.network import Network
from dnnlib.tflib.optimizer import Phase
from dnnlib.tflib.rng import StatelessRandom
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from tests.tiny import tiny_config, tiny_dataset
from training import state as states
from training.augment import state as augment_state
from training.augment.held_out import HeldOutScore, open_held_out
from training.augment.pipeline import make_augment
from training.config_augment import AugmentConfig
from training.config_io import apply_set
from training.dataset import TFRecordDataset
from training.dataset_writer import DatasetWriter
from training.loss import LossBuilder
from training.training_loop import train

STRONG = AugmentConfig(mode="fixed", p=0.8, pipe="bgcfnc", diffaugment=("color", "translation", "cutout"))


@pytest.fixture
def config(tmp_path):
    """A run of 128 images at 8x8: 8 minibatches of 16."""
    tiny_dataset(tmp_path / "data" / "tiny", num_images=40, resolution=8)
    return apply_set(
        tiny_config(),
        f"data.data_dir={tmp_path / 'data'}", "data.dataset=tiny", "schedule.total_kimg=0.128", "schedule.batch=16",
        "schedule.kimg_per_tick=0.064", "loss.G_reg_interval=2", "loss.D_reg_interval=3", "snapshots.image_ticks=0",
        "snapshots.first_tick=false", "augment.mode=ada", "augment.tune_kimg=1", "augment.interval=2",
        "augment.p=0.3", "loss.pl_weight=0",
    )  # fmt: skip


def variables_of(result):
    return states.read_state(result.state)[1]


def stats_of(result):
    return [json.loads(line) for line in (result.run_dir / "stats.jsonl").read_text().splitlines()]


def assert_equal_states(a, b):
    assert list(a) == list(b)
    assert not [name for name in a if not np.array_equal(a[name], b[name])]


def test_p_is_in_the_state_and_resumes_bit_exactly(config, tmp_path):
    """Stopped after 3 of 8 minibatches, in the middle of an adjustment's interval, with half of the sums made."""
    config = apply_set(config, "loss.r1_gamma=0")
    whole = train(config, tmp_path / "whole")
    part = train(apply_set(config, "schedule.total_kimg=0.048"), tmp_path / "part")
    before = variables_of(part)
    assert before["augment_sums"][3] == 16  # images since the adjustment after minibatch 2
    rest = train(config, tmp_path / "part", resume="latest")
    found = variables_of(whole)
    assert_equal_states(found, variables_of(rest))
    assert found["augment_p"] != np.float32(0.3) and found["augment_sums"][3] == 0
    last = stats_of(whole)[-1]
    assert abs(last["Progress/augment"]["mean"] - found["augment_p"]) < 0.07
    assert -1 <= last["Progress/augment_rt"]["mean"] <= 1
    log = (whole.run_dir / "log.txt").read_text()
    assert "  augment 0." in log and "  r_t " in log


def test_another_mode_starts_as_configured(config, tmp_path):
    config = apply_set(config, "loss.r1_gamma=0")
    none = apply_set(config, "augment.mode=noaug", "augment.p=none", "schedule.total_kimg=0.016")
    assert variables_of(train(none, tmp_path / "r"))["augment_p"] == 0
    later = train(apply_set(config, "schedule.total_kimg=0.032"), tmp_path / "r", resume="latest")
    assert variables_of(later)["augment_p"] == pytest.approx(0.3, abs=0.07)


def test_held_out_images_steer_adarv(config, tmp_path):
    """And zooming in works in a run: images of 16x16 at 8x8."""
    with pytest.raises(UserError, match="augment.mode=adarv needs held-out images.*--validation N"):
        open_held_out(TFRecordDataset(tmp_path / "data" / "tiny"))
    images = np.random.RandomState(1).randint(0, 256, [24, 3, 16, 16]).astype(np.uint8)
    with DatasetWriter(tmp_path / "data" / "held", (3, 16, 16)) as writer:
        for index, image in enumerate(images):
            writer.add(image, None, validation=index % 3 == 0)
    config = apply_set(config, "augment.mode=adarv", "data.dataset=held", "schedule.total_kimg=0.032")
    config = apply_set(config, "data.resolution=8", "augment.zoom_prob=0.5")
    result = train(config, tmp_path / "r")
    rv = stats_of(result)[-1]["Progress/augment_rv"]["mean"]
    assert variables_of(result)["augment_p"] == pytest.approx(0.3 + np.sign(rv - 0.5) * 0.032, abs=1e-6)


def test_held_out_scores_are_those_of_d(session, config, tmp_path):
    """Without augmentation: the mean over the images at those positions, in sub-batches."""
    D = Network("D", func_name="D_stylegan2", num_channels=3, resolution=8, label_size=0, fmap_base=64, fmap_max=8)
    score = HeldOutScore(D, None, tf.placeholder(tf.int64, [2]), batch_gpu=4, run_seed=1, D_options={})
    score.images = TFRecordDataset(tmp_path / "data" / "tiny", seed=5)
    images, _ = score.images.get(np.arange(16, 28))
    parts = [D.run(part / 127.5 - 1, None) for part in images.astype(np.float32).reshape(3, 4, 3, 8, 8)]
    assert score(16, 12) == pytest.approx(np.mean(parts), rel=1e-4)


class MadeState:
    """An `AugmentState` whose sums are set by hand."""

    def __init__(self, **fields):
        self.state = augment_state.AugmentState(AugmentConfig(**fields))
        self.sums = self.state.variables["augment_sums"]
        tfutil.run([v.initializer for v in self.state.variables.values()])

    def after(self, step, signs, images=100.0, **rest):
        tfutil.run(self.sums.assign_add([signs, rest.get("real", 0), rest.get("fake", 0), images, 0]))
        return self.state.after_minibatch(step, lambda: rest["valid"])

    @property
    def p(self):
        return float(tfutil.run(self.state.variables["augment_p"]))


def test_p_moves_by_the_images_shown(session):
    made = MadeState(mode="ada", p=0.3, tune_kimg=10, interval=2)
    assert made.after(1, signs=90) == {}
    found = made.after(2, signs=50)
    assert found["Progress/augment_rt"] == pytest.approx(0.7)
    assert made.p == pytest.approx(0.32) == found["Progress/augment"]
    made.after(4, signs=30)
    assert made.p == pytest.approx(0.31)
    assert made.after(6, signs=0, images=0) == {"Progress/augment": pytest.approx(0.31)}


def test_rv_needs_reals_fakes_and_held_out_images(session):
    made = MadeState(mode="adarv", p=0.3, tune_kimg=10, interval=1)
    found = made.after(1, signs=0, real=200, fake=-100, valid=1.25)
    assert found["Progress/augment_rv"] == pytest.approx(0.25)
    assert made.p == pytest.approx(0.29)
    # Where D does not tell fakes from reals p follows the sign alone, and the size is not reported.
    assert made.after(2, signs=0, real=100, fake=100, valid=0.5) == {"Progress/augment": pytest.approx(0.3)}


def test_fixed_strength_is_that_of_the_configuration(session):
    made = MadeState(mode="fixed", p=0.4)
    assert made.after(4, signs=100) == {"Progress/augment": 0.4}
    tfutil.run(made.state.variables["augment_p"].assign(0.9))  # as restored from a run with another one
    assert tfutil.run(made.state.p) == np.float32(0.4)
    assert MadeStateOff().after_minibatch(4) == {}


class MadeStateOff(augment_state.AugmentState):
    """Without augmentation, under another name in the same graph."""

    def __init__(self):
        with tf.variable_scope("off"):
            super().__init__(AugmentConfig())


def test_steps_that_are_not_finite_count_for_nothing(session):
    """The sums follow D's main phase, one round after the other."""
    state = augment_state.AugmentState(AugmentConfig(mode="ada"))
    tfutil.run([v.initializer for v in state.variables.values()])
    value = tf.placeholder(tf.float32, [])
    stats = {"Loss/signs/real": value, "Loss/scores/real": 2 * value, "Loss/scores/fake_D": -value}
    phase = state.record(
        Phase("D_main", tf.no_op(), tf.no_op(), tf.no_op(), stats, value, value, value, value), images=8
    )
    session.run(phase.step, {value: 0.5})
    session.run(phase.accumulate, {value: 0.25})
    session.run(phase.step, {value: np.nan})
    np.testing.assert_allclose(session.run(state.variables["augment_sums"]), [6, 12, -6, 16, 0])


def test_alarm_when_p_stays_at_its_limit(session, capsys):
    """Signs of +1 all the time: p rises to its limit, and once it has been there too long, it says so, once."""
    made = MadeState(mode="ada", tune_kimg=1, interval=1, p_max=0.5, alarm_kimg=2)
    history = [made.after(step, signs=100)["Progress/augment"] for step in range(1, 41)]
    np.testing.assert_allclose(history[:6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.5], atol=1e-6)
    out = capsys.readouterr().out
    assert out.count("warning: augmentation p has stayed at its limit 0.5 for 2 kimg") == 1
    assert "augment.p_max" in out


def test_summary_of_a_tick():
    assert augment_state.summary({}) == ""
    means = {"Progress/augment": 0.25, "Progress/augment_rt": 0.5}
    assert augment_state.summary(means) == "  augment 0.250  r_t 0.500"


class Recorder:
    """An augmentation that remembers what it was given."""

    def __init__(self):
        self.seen = []

    def __call__(self, images, rng):
        self.seen.append(images)
        return images * rng.uniform("factor", [])


def losses_of(augment, zoom=None):
    kwargs = dict(num_channels=3, resolution=8, label_size=0, fmap_base=64, fmap_max=8)
    G = Network("G", func_name="G_main", latent_size=8, dlatent_size=8, mapping_layers=2, mapping_fmaps=8, **kwargs)
    D = Network("D", func_name="D_stylegan2", **kwargs)
    return LossBuilder(G, D, tf.constant(0.0), augment=augment, zoom=zoom), StatelessRandom(
        tf.constant([1, 2], tf.int64)
    )


def test_everything_that_enters_d_is_augmented(session):
    """Fakes for G; fakes and reals for D; reals for R1, with the gradient at the images before augmentation."""
    recorder, zoomer = Recorder(), Recorder()
    losses, rng = losses_of(recorder, zoomer)
    reals, labels = tf.zeros([4, 3, 8, 8]), tf.zeros([4, 0])
    losses.g_main(4, labels, rng.child("a"))
    assert [x.shape.as_list() for x in recorder.seen] == [[4, 3, 8, 8]]
    losses.d_main(reals, labels, rng.child("b"))
    assert recorder.seen[1].shape.as_list() == [8, 3, 8, 8]
    assert len(zoomer.seen) == 2
    losses.d_reg(reals, labels, rng.child("c"))
    assert recorder.seen[2].shape.as_list() == [4, 3, 8, 8]
    losses.g_reg(2, labels[:2], rng.child("d"))
    assert len(recorder.seen) == 3 and len(zoomer.seen) == 2


def test_gradients_reach_g_through_the_pipeline(session):
    losses, rng = losses_of(make_augment(STRONG, 0.8))
    terms = losses.g_main(4, tf.zeros([4, 0]), rng)
    grads = tf.gradients(terms.loss, list(losses.G.trainables.values()))
    values = session.run([g for g in grads if g is not None])
    assert len(values) > 10 and all(np.isfinite(v).all() for v in values)
    assert sum(np.abs(v).sum() for v in values) > 0


def test_r1_through_the_pipeline_has_exact_second_derivatives(session):
    """For a linear D the penalty is |A^T w|^2 with the pipeline's matrix A, and its slope in w is 2 A A^T w."""
    n, shape = 2, [1, 6, 6]
    size = 36
    config = AugmentConfig(mode="fixed", p=1.0, pipe="bgcf")
    augment = make_augment(config, 1.0)
    w = tf.constant(np.random.RandomState(0).randn(n, size).astype(np.float32))

    def through(x):
        return tf.reshape(augment(x, StatelessRandom(tf.constant([3, 4], tf.int64))), [n, size])

    reals = tf.constant(np.random.RandomState(1).randn(n, *shape).astype(np.float32))
    grads = tf.gradients(tf.reduce_sum(through(reals) * w), reals)[0]
    penalty = tf.reduce_sum(tf.square(grads))
    slope = tf.gradients(penalty, w)[0]
    basis = tf.placeholder(tf.float32, [n, *shape])
    image = through(basis)
    columns = []
    zero = session.run(image, {basis: np.zeros([n, *shape])})
    for pixel in np.eye(size).reshape([size, *shape]):
        columns.append(session.run(image, {basis: np.stack([pixel] * n)}) - zero)
    matrix = np.stack(columns, axis=2).astype(np.float64)  # [n, out, in]
    found_penalty, found_slope, weights = session.run([penalty, slope, w])
    back = np.einsum("noi,no->ni", matrix, weights)
    assert found_penalty == pytest.approx(np.sum(back**2), rel=1e-4)
    wanted = 2 * np.einsum("noi,ni->no", matrix, back)
    np.testing.assert_allclose(found_slope, wanted, atol=1e-4 * np.abs(wanted).max())
    assert np.abs(matrix - np.eye(size)).max() > 0.1


def test_the_pipeline_is_a_function_of_the_seed(session):
    images = tf.constant(np.random.RandomState(0).randn(4, 3, 8, 8).astype(np.float32))
    seed = tf.placeholder(tf.int64, [2])
    y = make_augment(STRONG, 0.8)(images, StatelessRandom(seed))
    a, b, c = (session.run(y, {seed: s}) for s in ([1, 2], [1, 2], [1, 3]))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_nothing_is_built_without_augmentation():
    assert make_augment(AugmentConfig(), 0.0) is None
    off = AugmentConfig(mode="ada", multipliers=dict.fromkeys(("blit", "geom", "color"), 0))
    assert make_augment(off, 0.0) is None
