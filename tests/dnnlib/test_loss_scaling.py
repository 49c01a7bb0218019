"""Loss scaling: the scale against a plain simulation, and what it does for gradients in float16."""

import numpy as np
import pytest

from dnnlib.tflib.loss_scaling import LossScaler
from dnnlib.tflib.optimizer import Optimizer, Tower
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError


def variable(name, value):
    return tf.get_variable(name, initializer=tf.constant(value, tf.float32), use_resource=True)


def test_the_scale_follows_good_and_bad_steps(session):
    scaler, finite = LossScaler("scale", 8.0, growth_steps=3, maximum=32.0), tf.placeholder(tf.bool, [])
    update = scaler.update(finite)
    session.run(tf.global_variables_initializer())
    expected, good, scale = [], 0, 8.0
    outcomes = [True] * 4 + [False] + [True] * 13 + [False] * 7 + [True] * 2
    found = []
    for ok in outcomes:
        session.run(update, {finite: ok})
        found.append(float(session.run(scaler.value)))
        good = good + 1 if ok else 0
        if not ok:
            scale = max(scale / 2, 1.0)
        elif good == 3:
            scale, good = min(scale * 2, 32.0), 0
        expected.append(scale)
    assert found == expected
    assert {1.0, 8.0, 32.0} <= set(found)  # both ends were reached
    assert session.run(scaler.state["good_steps"]) == 2


@pytest.mark.parametrize("rounds", [1, 2])
def test_scaling_changes_no_bit_of_finite_steps(session, rounds):
    values = np.random.RandomState(0).randn(6, 4).astype(np.float32)
    target, results = tf.placeholder(tf.float32, [4]), []
    for name, scaler in (("plain", None), ("scaled", LossScaler("scale", 1024.0, growth_steps=2))):
        x = variable(name, np.linspace(-1, 1, 4))
        opt = Optimizer(f"Opt_{name}", {"x": x}, 0.01, 0.5, 0.99)
        phase = opt.phase("main", [Tower(None, tf.reduce_sum(tf.square(x - target)))], scaler=scaler)
        session.run([v.initializer for v in (x, *opt.variables(), *(scaler.state.values() if scaler else ()))])
        for pair in values.reshape(3, 2, 4):
            for value in pair[:rounds]:
                session.run(phase.step if rounds == 1 else phase.accumulate, {target: value})
            if rounds == 2:
                session.run(phase.apply)
        results.append(session.run(x))
    assert np.array_equal(*results)
    assert session.run(scaler.value) == 2048


def test_small_float16_gradients_survive(session):
    x = variable("x", 1.0)
    loss = tf.cast(tf.cast(x, tf.float16), tf.float32) * 1e-9
    scaler = LossScaler("scale")
    plain, scaled = tf.gradients(loss, x)[0], scaler.unscale(tf.gradients(scaler.scale(loss), x)[0])
    session.run(tf.global_variables_initializer())
    assert session.run(plain) == 0  # below the smallest float16
    assert session.run(scaled) == pytest.approx(1e-9, rel=1e-2)


@pytest.mark.parametrize("rounds", [1, 2])
def test_overflow_is_skipped_and_halves_the_scale(session, rounds):
    x, factor = variable("x", 1.0), tf.placeholder(tf.float32, [])
    loss = tf.cast(tf.cast(x, tf.float16), tf.float32) * factor
    scaler = LossScaler("scale", 65536.0)
    opt = Optimizer("Opt", {"x": x}, 0.01)
    phase = opt.phase("main", [Tower(None, loss)], scaler=scaler)
    session.run(tf.global_variables_initializer())

    def step(value):
        if rounds == 1:
            return session.run([phase.step, phase.step_skipped, phase.step_norm], {factor: value})[1:]
        session.run(phase.accumulate, {factor: 0.0})
        session.run(phase.accumulate, {factor: value * 2})
        return session.run([phase.apply, phase.apply_skipped, phase.apply_norm])[1:]

    before = session.run([x, *opt.state.values()])
    for scale in (32768.0, 16384.0):
        assert step(3.0)[0] == 1  # 3 (or 6) times the scale is beyond 65504, the largest float16
        assert session.run(scaler.value) == scale
    for name, a, b in zip(["x", *opt.state], before, session.run([x, *opt.state.values()]), strict=True):
        assert name == "skipped" or np.array_equal(a, b), name
    assert session.run(opt.skipped) == 2
    skipped, norm = step(0.5)
    assert skipped == 0 and norm == pytest.approx(0.5) and session.run(x) < 1


@pytest.mark.parametrize("init", [0.5, 3.0, 0.0])
def test_scales_that_would_round_are_refused(session, init):
    with pytest.raises(UserError, match="expected a power of two >= 1"):
        LossScaler("scale", init)
