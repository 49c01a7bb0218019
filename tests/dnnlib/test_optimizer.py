"""Adam over towers and rounds, against numpy and against one large minibatch."""

import numpy as np
import pytest

from dnnlib.tflib.optimizer import Optimizer, SideUpdate, Tower, either
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError


def variable(name, value):
    return tf.get_variable(name, initializer=tf.constant(value, tf.float32), use_resource=True)


def numpy_adam(x, grads, lr, beta1, beta2, eps):
    """TensorFlow's form, epsilon beside the uncorrected root; betas may change from step to step."""
    m, v, p1, p2 = np.zeros_like(x), np.zeros_like(x), 1.0, 1.0
    for g in grads:
        p1, p2 = p1 * beta1, p2 * beta2
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        x = x - lr * np.sqrt(1 - p2) / (1 - p1) * m / (np.sqrt(v) + eps)
    return x


@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_steps_are_those_of_adam(session, beta1):
    rng = np.random.RandomState(0)
    x = variable("x", rng.randn(5))
    target = tf.placeholder(tf.float32, [5])
    opt = Optimizer("Opt", {"x": x}, 0.01, beta1, 0.99, 1e-8)
    phase = opt.phase("main", [Tower(None, tf.reduce_sum(x * target))])
    session.run(tf.global_variables_initializer())
    start, grads = session.run(x), rng.randn(7, 5)
    for g in grads:
        session.run(phase.step, {target: g})
    np.testing.assert_allclose(session.run(x), numpy_adam(start, grads, 0.01, beta1, 0.99, 1e-8), rtol=2e-5)
    assert session.run(opt.state["steps"]) == 7 and session.run(opt.skipped) == 0


def test_phases_share_moments(session):
    x, scale = variable("x", [1.0]), tf.placeholder(tf.float32, [])
    opt = Optimizer("Opt", {"x": x}, 0.01, 0.5, 0.9)
    main = opt.phase("main", [Tower(None, tf.reduce_sum(x) * scale)])
    reg = opt.phase("reg", [Tower(None, tf.reduce_sum(x) * 3 * scale)])
    session.run(tf.global_variables_initializer())
    for phase in (main, reg, main):
        session.run(phase.step, {scale: 1})
    expected = numpy_adam(np.array([1.0]), [np.array([g]) for g in (1.0, 3.0, 1.0)], 0.01, 0.5, 0.9, 1e-8)
    np.testing.assert_allclose(session.run(x), expected, rtol=1e-5)


def test_rounds_equal_one_large_minibatch(session):
    rng = np.random.RandomState(1)
    w = variable("w", rng.randn(3))
    data = tf.placeholder(tf.float32, [None, 3])
    average = variable("average", 0.0)
    loss = tf.reduce_mean(tf.square(tf.linalg.matvec(data, w) - 1))
    tower = Tower(None, loss, {"mean": tf.reduce_mean(data)}, {"loss": loss})
    opt = Optimizer("Opt", {"w": w}, 0.1, 0.0, 0.99)
    phase = opt.phase("main", [tower], {"mean": SideUpdate(average, 0.75)})
    values = rng.randn(8, 3)
    session.run(tf.global_variables_initializer())
    _, whole_norm = session.run([phase.step, phase.step_norm], {data: values})
    whole = session.run([w, average])
    for _ in range(2):  # twice: the sums must be empty again for the second minibatch
        session.run([v.initializer for v in (w, average, *opt.state.values())])
        for part in (values[:2], values[2:4], values[4:6], values[6:]):
            session.run(phase.accumulate, {data: part})
        _, norm = session.run([phase.apply, phase.apply_norm])
        np.testing.assert_allclose(norm, whole_norm, rtol=1e-5)
        for got, expected in zip(session.run([w, average]), whole, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(whole[1], 0.25 * values.mean(), rtol=1e-5)


def test_towers_are_averaged(session):
    x = variable("x", [1.0, 2.0])
    towers = [Tower(None, tf.reduce_sum(x * factor)) for factor in (1.0, 3.0)]
    opt = Optimizer("Opt", {"x": x}, 0.01, 0.0, 0.9)
    phase = opt.phase("main", towers)
    session.run(tf.global_variables_initializer())
    _, norm = session.run([phase.step, phase.step_norm])
    assert norm == pytest.approx(2 * np.sqrt(2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rounds", [1, 2])
def test_non_finite_steps_change_nothing_and_are_counted(session, bad, rounds):
    x, other, average = variable("x", [1.0]), variable("other", [1.0]), variable("average", 5.0)
    scale = tf.placeholder(tf.float32, [])
    tower = Tower(None, tf.reduce_sum(x) * scale + tf.reduce_sum(other), {"mean": scale})
    opt = Optimizer("Opt", {"x": x, "other": other}, 0.01, 0.9, 0.9)
    phase = opt.phase("main", [tower], {"mean": SideUpdate(average, 0.5)})
    session.run(tf.global_variables_initializer())

    def step(*values):
        if rounds == 1:
            session.run(phase.step, {scale: values[-1]})
        else:
            for value in values:
                session.run(phase.accumulate, {scale: value})
            session.run(phase.apply)

    step(1.0, 1.0)
    before = session.run([x, other, average, *opt.state.values()])
    step(1.0, bad)
    after = session.run([x, other, average, *opt.state.values()])
    names = ["x", "other", "average", *opt.state]
    for name, a, b in zip(names, before, after, strict=True):
        if name != "skipped":
            assert np.array_equal(a, b), name
    assert session.run(opt.skipped) == 1
    step(1.0, 1.0)
    assert session.run(opt.state["steps"]) == 2 and np.isfinite(session.run(x)).all()


@pytest.mark.parametrize("what", ["loss", "side"])
def test_a_loss_or_mean_that_is_not_finite_skips_the_step_by_itself(session, what):
    """With gradients that are finite."""
    x, average, odd = variable("x", [1.0]), variable("average", 5.0), tf.placeholder(tf.float32, [])
    loss = tf.reduce_sum(x) + (tf.stop_gradient(odd) if what == "loss" else 0.0)
    tower = Tower(None, loss, {"mean": odd if what == "side" else tf.constant(1.0)})
    opt = Optimizer("Opt", {"x": x}, 0.01, 0.9, 0.9)
    phase = opt.phase("main", [tower], {"mean": SideUpdate(average, 0.5)})
    session.run(tf.global_variables_initializer())
    for value, skipped in ((np.nan, 1), (np.inf, 2), (1.0, 2)):
        session.run(phase.step, {odd: value})
        assert session.run(opt.skipped) == skipped
        assert (session.run([x[0], average]) == [1.0, 5.0]) == (value != 1.0)


def test_a_variable_without_gradient_stays(session):
    x, unused = variable("x", [1.0]), variable("unused", [3.0])
    opt = Optimizer("Opt", {"x": x, "unused": unused}, 0.01)
    phase = opt.phase("main", [Tower(None, tf.reduce_sum(x))], accumulates=False)
    assert phase.accumulate is None and phase.apply is None
    session.run(tf.global_variables_initializer())
    session.run(phase.step)
    assert session.run(unused) == [3.0] and session.run(x) < 1


def test_towers_that_disagree_are_named(session):
    x, y = variable("x", [1.0]), variable("y", [1.0])
    opt = Optimizer("Opt", {"x": x, "y": y})
    towers = [Tower(None, tf.reduce_sum(x + y)), Tower(None, tf.reduce_sum(x))]
    with pytest.raises(UserError, match="towers 0 and 1 disagree on gradients of y"):
        opt.phase("main", towers)


def test_refusals(session):
    with pytest.raises(UserError, match="optimizer 'Opt': no trainable variables"):
        Optimizer("Opt", {})
    x = variable("x", [1.0])
    opt = Optimizer("Opt", {"x": x})
    with pytest.raises(UserError, match=r"side tensors \['mean'\], updates \[\]"):
        opt.phase("main", [Tower(None, tf.reduce_sum(x), {"mean": tf.zeros([])})])


@pytest.mark.parametrize("how", [pytest.param("optimised", marks=pytest.mark.optimised), "as built"])
def test_one_of_two_operations_runs_and_what_follows_waits_for_it(session, how):
    condition, factor = tf.placeholder(tf.bool, []), tf.placeholder(tf.float32, [])
    x, y, z = (variable(name, 1.0) for name in "xyz")
    used = factor * 2  # a tensor and two variables from outside
    op = either(condition, lambda: x.assign(x * used).op, lambda: tf.group(y.assign(y + x).op, z.assign_add(10).op))
    with tf.control_dependencies([op]):
        after = tf.stack([v.read_value() for v in (x, y, z)])
    session.run(tf.global_variables_initializer())
    np.testing.assert_array_equal(session.run(after, {condition: True, factor: 4}), [8, 1, 1])
    session.run(op, {condition: True, factor: 0.25})
    np.testing.assert_array_equal(session.run([x, y, z]), [4, 1, 1])
    session.run(either(condition, lambda: x.assign_add(1).op, tf.no_op), {condition: False, factor: 1})
    np.testing.assert_array_equal(session.run([x, y, z]), [4, 1, 1])
    session.run(op, {condition: False, factor: np.nan})
    np.testing.assert_array_equal(session.run([x, y, z]), [4, 5, 11])
