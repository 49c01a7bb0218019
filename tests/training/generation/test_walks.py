"""Walks in closed form, and their invariants for arbitrary points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation, Slerp

from dnnlib.util import UserError
from training.generation.walks import EASINGS, MODES, NoiseLoop, turn, walk

points = arrays(np.float64, st.tuples(st.integers(2, 4), st.integers(2, 5)), elements=st.floats(-3, 3, width=32))


@given(points, st.sampled_from(["linear", "slerp", "spline"]), st.booleans(), st.sampled_from(EASINGS))
def test_walks_pass_their_keys(keys, mode, loop, easing):
    found = walk(keys, 4, mode, loop, easing, center=0.25)
    assert found.shape == (4 * len(keys) if loop else 4 * len(keys) - 3, keys.shape[1])
    np.testing.assert_allclose(found[::4], keys, atol=1e-9)


def test_linear():
    keys = np.array([[0.0, 0.0], [4.0, 8.0]])
    np.testing.assert_allclose(walk(keys, 4, "linear", loop=False), [[0, 0], [1, 2], [2, 4], [3, 6], [4, 8]])
    np.testing.assert_allclose(walk(keys, 2, "linear", loop=True), [[0, 0], [2, 4], [4, 8], [2, 4]])
    smooth = walk(keys, 4, "linear", loop=False, easing="smooth")[:, 0] / 4
    np.testing.assert_allclose(smooth, [0, 0.15625, 0.5, 0.84375, 1])


def test_slerp_against_rotations():
    """On the sphere, slerp of two directions is the rotation of one into the other, done in part (scipy)."""
    rng = np.random.RandomState(0)
    a, b = rng.randn(2, 3)
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    axis = np.cross(a, b)
    whole = axis / np.linalg.norm(axis) * np.arccos(a @ b)
    rotations = Slerp([0, 1], Rotation.from_rotvec([np.zeros(3), whole]))(np.arange(5) / 5)
    found = walk(np.stack([2 * a, 2 * b]), 5, "slerp", loop=False)[:5]
    np.testing.assert_allclose(found, 2 * rotations.apply(a), atol=1e-12)


def test_slerp_lengths_and_centers():
    keys = np.array([[3.0, 1.0], [1.0, 5.0]])  # from (1, 1): 2 to the right, 4 up
    middle = walk(keys, 2, "slerp", loop=False, center=np.ones(2))[1]
    np.testing.assert_allclose(middle, 1 + 3 * np.sqrt([0.5, 0.5]))


def test_no_arc_between_opposites():
    np.testing.assert_allclose(turn(np.array([1.0, 0]), np.array([-1.0, 0]), 0.25), [0.5, 0])
    np.testing.assert_allclose(turn(np.zeros(2), np.array([2.0, 0]), 0.5), [1, 0])


def test_circle():
    rng = np.random.RandomState(1)
    keys = rng.randn(2, 3, 5)
    center = rng.randn(5)
    found = walk(keys, 3, "circle", center=center)
    assert found.shape == (12, 3, 5)
    np.testing.assert_allclose(found[0], keys[0])
    np.testing.assert_allclose(found[3], keys[1])
    np.testing.assert_allclose(found[6], 2 * center - keys[0])
    np.testing.assert_allclose(found.mean(axis=0), np.broadcast_to(center, (3, 5)), atol=1e-12)


def test_circle_keeps_the_distribution():
    keys = np.random.RandomState(2).randn(2, 20000)
    np.testing.assert_allclose(walk(keys, 5, "circle").std(axis=1), 1, atol=0.03)


def test_spline_is_smooth():
    keys = np.random.RandomState(3).randn(4, 2)
    frames = 200
    found = walk(keys, frames, "spline", loop=True)
    speed = (np.roll(found, -1, axis=0) - found) * frames
    corner = np.abs(np.roll(speed, -1, axis=0) - speed).max()
    straight = walk(keys, frames, "linear", loop=True)
    speed = (np.roll(straight, -1, axis=0) - straight) * frames
    assert corner < 0.1 * np.abs(np.roll(speed, -1, axis=0) - speed).max()


def test_noise_loop():
    loop = NoiseLoop([1, 1, 64, 64], 8, np.random.RandomState(0))
    first = loop.at(0)
    np.testing.assert_allclose(loop.at(8), first, atol=1e-5)
    np.testing.assert_allclose(loop.at(4), -first, atol=1e-5)
    for frame in range(8):
        np.testing.assert_allclose(loop.at(frame).std(), 1, atol=0.05)
    assert abs((loop.at(2) * first).mean()) < 0.05
    assert first.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mode": "slrp"}, "unknown mode 'slrp': did you mean 'slerp'?"),
        ({"easing": "smoth"}, "did you mean 'smooth'?"),
        ({"frames": 0}, "1 frame per leg at least"),
        ({"mode": "circle"}, "exactly 2 points, found 3"),
    ],
)
def test_refusals(options, text):
    with pytest.raises(UserError) as info:
        walk(np.zeros([3, 2]), **{"frames": 2, **options})
    assert text in str(info.value)


def test_one_point_is_no_walk():
    for mode in ("linear", "slerp", "spline"):
        assert mode in MODES
        with pytest.raises(UserError, match="2 points at least, found 1"):
            walk(np.zeros([1, 2]), 2, mode)
