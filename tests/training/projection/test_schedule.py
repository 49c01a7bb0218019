"""What changes during a projection, at the points where appendix D gives it in closed form."""

import numpy as np
import pytest

from dnnlib.util import UserError
from training.projection.options import ProjectionOptions
from training.projection.schedule import learning_rate, snapshot_steps, w_noise_strength


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0), (25, 0.05), (50, 0.1), (500, 0.1), (750, 0.1), (875, 0.05), (1000, 0)],
)
def test_learning_rate(step, rate):
    np.testing.assert_allclose(learning_rate(step / 1000, ProjectionOptions()), rate, atol=1e-12)


def test_learning_rate_falls_as_a_cosine():
    t = np.linspace(0.75, 1, 26)
    expected = 0.1 * (1 + np.cos(np.pi * (t - 0.75) / 0.25)) / 2
    np.testing.assert_allclose([learning_rate(x, ProjectionOptions()) for x in t], expected, atol=1e-12)


@pytest.mark.parametrize(("step", "strength"), [(0, 0.05), (375, 0.0125), (600, 0.002), (750, 0), (999, 0)])
def test_w_noise(step, strength):
    np.testing.assert_allclose(w_noise_strength(step / 1000, ProjectionOptions()), strength, atol=1e-12)


def test_no_ramps():
    options = ProjectionOptions(ramp_up=0, ramp_down=0, w_noise_ramp=0)
    assert [learning_rate(t, options) for t in (0, 0.999)] == [0.1, 0.1]
    assert w_noise_strength(0, options) == 0


@pytest.mark.parametrize(
    ("count", "steps", "expected"),
    [(5, 1000, [200, 400, 600, 800, 1000]), (3, 10, [3, 6, 10]), (9, 2, [1, 2]), (1, 7, [7])],
)
def test_snapshots(count, steps, expected):
    assert snapshot_steps(count, steps) == expected


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("ramp_up", 1.5), ("w_noise", -1.0), ("seed", 2**32)])
def test_ranges(name, value):
    with pytest.raises(UserError, match=f"projection: {name} is {value}, expected"):
        ProjectionOptions(**{name: value})
