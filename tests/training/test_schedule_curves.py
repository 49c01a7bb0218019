"""Schedules of every quantity over kimg: corners, curves in closed form, minibatches that change."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.util import UserError
from training.config import TrainConfig
from training.config_io import apply_set
from training.config_schedule import CURVES
from training.schedule import choose_batch_gpu, interpolate, schedule, uses_rounds

POINTS = ((10.0, 4.0), (30.0, 1.0))


@pytest.mark.parametrize(
    ("curve", "values"),
    [
        ("steps", (2, 2, 4, 4, 1, 1)),
        ("linear", (2, 3, 4, 2.5, 1, 1)),
        ("exponential", (2, math.sqrt(8), 4, 2, 1, 1)),
        ("cosine", (2, 3, 4, 2.5, 1, 1)),
    ],
)
def test_corners_and_middles(curve, values):
    found = [interpolate(POINTS, kimg, 2.0, curve) for kimg in (0, 5, 10, 20, 30, 1e6)]
    assert found == pytest.approx(values)
    assert interpolate((), 7, 2.0, curve) == 2.0


def test_curves_between():
    quarter = {curve: interpolate(((0.0, 1.0), (4.0, 0.0 if curve != "exponential" else 1 / 16)), 1, 9, curve)
               for curve in CURVES}  # fmt: skip
    assert quarter["steps"] == 1 and quarter["linear"] == 0.75
    assert quarter["exponential"] == pytest.approx(0.5)
    assert quarter["cosine"] == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


@settings(max_examples=200, deadline=None)
@given(
    points=st.lists(st.tuples(st.floats(0, 1e5), st.floats(1e-6, 1e3)), max_size=5, unique_by=lambda p: p[0]).map(
        sorted
    ),
    before=st.floats(1e-6, 1e3),
    kimg=st.floats(0, 1e6),
    curve=st.sampled_from(CURVES),
)
def test_values_stay_between_their_neighbours(points, before, kimg, curve):
    value = interpolate(points, kimg, before, curve)
    earlier = [before, *(v for k, v in points if k <= kimg)][-1]
    later = next((v for k, v in points if k > kimg), earlier)
    low, high = sorted((earlier, later))
    assert low * (1 - 1e-9) <= value <= high * (1 + 1e-9)
    for at, knot in points:
        assert interpolate(points, at, before, curve) == knot
    if curve == "steps":
        assert value == earlier


def test_every_quantity_follows_its_own_schedule():
    config = apply_set(
        TrainConfig(),
        "G_lrate_steps=[[2,0.001]]",
        "D_lrate_steps=[[4,0.004]]",
        "gamma_steps=[[1,20]]",
        "mixing_steps=[[1,0.5],[3,0]]",
        "batch_steps=[[2,64],[3,96]]",
        "lrate_curve=linear",
        "gamma_curve=cosine",
        "schedule.batch_gpu=16",
    )
    rows = [schedule(config, nimg, 32) for nimg in (0, 999, 1000, 2000, 2999, 3000, 4000)]
    assert [row.batch for row in rows] == [32, 32, 32, 64, 64, 96, 96]
    assert [row.rounds for row in rows] == [2, 2, 2, 4, 4, 6, 6]
    assert [row.mixing for row in rows] == [0.9, 0.9, 0.5, 0.5, 0.5, 0, 0]
    assert [row.G_lrate for row in rows][2:4] == [0.0015, 0.001]
    assert [row.D_lrate for row in rows][::6] == [0.002, 0.004] and rows[3].D_lrate == pytest.approx(0.003)
    assert rows[0].r1_gamma == 10 and rows[2].r1_gamma == 20 and 19.9 < rows[1].r1_gamma < 20


def test_the_half_life_of_gs_does_not_depend_on_the_minibatch():
    config = apply_set(TrainConfig(), "batch_steps=[[1,64]]")
    before, after = schedule(config, 0, 32), schedule(config, 1000, 32)
    assert after.ema_beta == pytest.approx(before.ema_beta**2)


@pytest.mark.parametrize(
    ("text", "batch_gpu", "rounds"), [("[[1,24]]", 8, True), ("[[1,64]]", 32, True), ("[]", 32, False)]
)
def test_one_number_of_images_per_device_fits_all_minibatches(text, batch_gpu, rounds):
    config = apply_set(TrainConfig(), f"batch_steps={text}")
    assert choose_batch_gpu(config, 32) == batch_gpu
    assert uses_rounds(config, 32) is rounds


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("batch_steps=[[1,33]]", "num_gpus=2"), "schedule.batch_steps: found 33, expected a multiple of num_gpus=2"),
        (("batch_steps=[[1,24]]", "schedule.batch_gpu=32"), "a divisor of batch/num_gpus=24/1; use 1, 2, 4, 8"),
        (("batch_steps=[[1,0]]",), "schedule.batch_steps: found ((1.0, 0),), expected positive"),
        (("mixing_steps=[[1,1.5]]",), "schedule.mixing_steps: found ((1.0, 1.5),), expected probabilities"),
        (("lrate_curve=spline",), "schedule.lrate_curve: found 'spline', expected one of steps, linear, exp"),
        (("gamma_curve=exponential", "gamma_steps=[[1,0]]"), "values > 0 with schedule.gamma_curve=exponential"),
        (("gamma_curve=exponential", "gamma_steps=[[1,5]]", "r1_gamma=0"), "can start from loss.r1_gamma=0.0"),
    ],
)
def test_refusals(texts, message):
    with pytest.raises(UserError) as error:
        apply_set(TrainConfig(), *texts)
    assert message in str(error.value)
