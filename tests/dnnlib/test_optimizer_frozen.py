"""Variables that do not move, always or at times, against Adam in numpy."""

import numpy as np
import pytest

from dnnlib.tflib.optimizer import Optimizer, Tower
from dnnlib.tflib.tfutil import tf
from tests.dnnlib.test_optimizer import numpy_adam, variable


class Model:
    """x moves, y at times, z never; their gradients are what is fed."""

    def __init__(self, session):
        self.session, self.moves = session, tf.placeholder(tf.bool, [])
        self.variables = {n: variable(n, [1.0, 2.0]) for n in "xyz"}
        self.fed = {n: tf.placeholder(tf.float32, [2]) for n in "xyz"}
        loss = tf.add_n([tf.reduce_sum(self.variables[n] * self.fed[n]) for n in "xyz"])
        active = {"y": self.moves, "z": False}
        self.opt = Optimizer("Opt", self.variables, 0.01, 0.5, 0.99, 1e-8, active)
        self.phase = self.opt.phase("main", [Tower(None, loss)])
        session.run(tf.global_variables_initializer())

    def step(self, grads, moves, rounds=1):
        feed = {self.fed[n]: g for n, g in grads.items()} | {self.moves: moves}
        if rounds == 1:
            return self.session.run([self.phase.step, self.phase.step_norm], feed)[1]
        for _ in range(rounds):
            self.session.run(self.phase.accumulate, feed)
        return self.session.run([self.phase.apply, self.phase.apply_norm], {self.moves: moves})[1]

    def values(self):
        tensors = {**self.variables, **self.opt.state}
        return dict(zip(tensors, self.session.run(list(tensors.values())), strict=True))


@pytest.mark.parametrize("rounds", [1, 2])
def test_frozen_variables_stay_to_the_bit_and_start_afresh(session, rounds):
    model, rng = Model(session), np.random.RandomState(0)
    grads = [{n: rng.randn(2) for n in "xyz"} for _ in range(8)]
    schedule = [False] * 3 + [True] * 2 + [False] + [True] * 2
    start = before = model.values()
    for g, moves in zip(grads, schedule, strict=True):
        norm = model.step(g, moves, rounds)
        counted = [*g["x"], *(g["y"] if moves else [])]
        assert norm == pytest.approx(np.linalg.norm(counted), rel=1e-5)
        after = model.values()
        still = ["z", "z/m", "z/v"] + ([] if moves else ["y", "y/m", "y/v"])
        assert all(np.array_equal(before[n], after[n]) for n in still)
        assert not np.array_equal(before["x"], after["x"])
        for power in ("beta1_power", "beta2_power"):
            aged = before[power] != after[power]
            assert list(aged) == [True, moves, False]
        before = after
    moved = {"x": grads, "y": [g for g, moves in zip(grads, schedule, strict=True) if moves]}
    for name, seen in moved.items():
        expected = numpy_adam(start[name], [g[name] for g in seen], 0.01, 0.5, 0.99, 1e-8)
        np.testing.assert_allclose(before[name], expected, rtol=2e-5)
    assert np.array_equal(before["z"], start["z"]) and not before["z/v"].any()


def test_a_frozen_variable_cannot_spoil_a_step(session):
    x, y, moves = variable("x", [1.0]), variable("y", [0.0]), tf.placeholder(tf.bool, [])
    opt = Optimizer("Opt", {"x": x, "y": y}, 0.01, active={"y": moves})
    phase = opt.phase("main", [Tower(None, tf.reduce_sum(x + tf.sqrt(y)))])  # the slope of the root is infinite at 0
    session.run(tf.global_variables_initializer())
    assert session.run([phase.step, phase.step_norm, phase.step_skipped], {moves: False})[1:] == [1, 0]
    assert session.run([phase.step, phase.step_norm, phase.step_skipped], {moves: True})[1:] == [np.inf, 1]
    assert session.run(opt.skipped) == 1 and session.run(x) == pytest.approx(0.99)


def test_a_network_that_is_frozen_altogether(session):
    x = variable("x", [1.0])
    opt = Optimizer("Opt", {"x": x}, 0.01, active={"x": False})
    phase = opt.phase("main", [Tower(None, tf.reduce_sum(x))])
    session.run(tf.global_variables_initializer())
    assert session.run([phase.step, phase.step_norm])[1] == 0
    assert session.run(x) == [1.0]
