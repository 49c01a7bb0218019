"""The schedule against the published numbers and closed forms."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.config import TrainConfig
from training.config_networks import DiscriminatorConfig
from training.config_schedule import LossConfig, OptimizerConfig, ScheduleConfig
from training.schedule import D_adam, G_adam, choose_batch_gpu, ema_beta, lazy_adam, piecewise, schedule


def test_published_ema_decay():
    assert ema_beta(ScheduleConfig(), 0) == pytest.approx(0.99778, abs=5e-6)
    assert ema_beta(ScheduleConfig(), 1e8) == ema_beta(ScheduleConfig(), 0)


def test_ema_rampup():
    plan = ScheduleConfig(batch=16, ema_kimg=2, ema_rampup=0.05)
    assert ema_beta(plan, 0) == 0.0  # Gs starts as a copy of G
    assert ema_beta(plan, 320) == 0.5  # half-life 320 * 0.05 = 16 images = one minibatch
    assert ema_beta(plan, 40_000) == pytest.approx(0.5 ** (16 / 2000))  # 40 kimg * 0.05 = 2 kimg: end of the ramp
    assert ema_beta(plan, 80_000) == ema_beta(plan, 40_000)


def test_ema_zero_half_life_copies():
    assert ema_beta(ScheduleConfig(ema_kimg=0), 1000) == 0.0


def test_half_life_means_half():
    plan = ScheduleConfig(batch=20, ema_kimg=10)
    assert ema_beta(plan, 0) ** (10_000 / 20) == pytest.approx(0.5)


def test_published_lazy_correction():
    g, d = G_adam(TrainConfig()), D_adam(TrainConfig())
    assert (g.lrate, g.beta1, g.epsilon) == (pytest.approx(0.0016), 0.0, 1e-8)
    assert g.beta2 == pytest.approx(0.9919920, abs=1e-7)
    assert (d.lrate, d.beta1) == (pytest.approx(0.00188235, abs=1e-8), 0.0)
    assert d.beta2 == pytest.approx(0.9905855, abs=1e-7)


def test_no_correction_without_extra_steps():
    opt = OptimizerConfig()
    for loss in (LossConfig(G_reg_interval=None, D_reg_interval=None), LossConfig(pl_weight=0, r1_gamma=0)):
        config = TrainConfig(loss=loss)
        assert (G_adam(config).lrate, G_adam(config).beta2) == (opt.G_lrate, opt.beta2)
        assert (D_adam(config).lrate, D_adam(config).beta2) == (opt.D_lrate, opt.beta2)
    later = TrainConfig(loss=LossConfig(r1_gamma=0), schedule=ScheduleConfig(gamma_steps=((100, 1),)))
    assert D_adam(later).lrate == pytest.approx(0.002 * 16 / 17)


def test_each_network_has_its_own_rate():
    config = TrainConfig(opt=OptimizerConfig(G_lrate=0.001, D_lrate=0.004))
    assert G_adam(config).lrate == pytest.approx(0.0008)
    assert D_adam(config).lrate == pytest.approx(0.004 * 16 / 17)
    assert (schedule(config, 0, 32).G_lrate, schedule(config, 0, 32).D_lrate) == (0.001, 0.004)


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-5, 1e-1), st.floats(0, 0.999), st.integers(1, 64))
def test_lazy_adam_keeps_the_pace_over_an_interval(lrate, beta, interval):
    # k+1 corrected steps move as far and forget as much as k plain ones.
    adam = lazy_adam(lrate, beta, beta, 1e-8, interval)
    assert adam.lrate * (interval + 1) == pytest.approx(lrate * interval)
    assert adam.beta2 ** (interval + 1) == pytest.approx(beta**interval)
    assert adam.beta1 == adam.beta2


def test_piecewise_corners():
    steps = ((10.0, 1.0), (20.0, 2.0))
    assert [piecewise(steps, kimg, 0.5) for kimg in (0, 9.999, 10, 19.999, 20, 1e9)] == [0.5, 0.5, 1, 1, 2, 2]
    assert piecewise((), 5, 0.5) == 0.5
    assert piecewise(((0.0, 3.0),), 0, 0.5) == 3


def test_steps_reach_their_setting():
    plan = ScheduleConfig(G_lrate_steps=((1, 0.1),), D_lrate_steps=((2, 0.2),), gamma_steps=((3, 0.3),))
    config = TrainConfig(schedule=plan)
    rows = [schedule(config, nimg, 32) for nimg in (999, 1000, 2000, 3000)]
    assert [(row.G_lrate, row.D_lrate, row.r1_gamma) for row in rows] == [
        (0.002, 0.002, 10),
        (0.1, 0.002, 10),
        (0.1, 0.2, 10),
        (0.1, 0.2, 0.3),
    ]


@pytest.mark.parametrize(
    ("resolution", "kimg"),
    [(8, 28), (16, 24), (32, 20), (64, 16), (128, 12), (256, 8), (512, 6), (1024, 4), (2048, 4)],
)
def test_published_tick_lengths(resolution, kimg):
    assert schedule(TrainConfig(), 0, resolution).kimg_per_tick == kimg
    assert schedule(TrainConfig(schedule=ScheduleConfig(kimg_per_tick=2.5)), 0, resolution).kimg_per_tick == 2.5


@pytest.mark.parametrize("batch", [1, 2, 5, 6, 12, 16, 28, 30, 32, 64, 97])
@pytest.mark.parametrize("resolution", [8, 64, 256, 1024])
def test_chosen_rounds_make_up_the_minibatch(batch, resolution):
    for num_gpus in (n for n in (1, 2, 3, 5) if batch % n == 0):
        config = TrainConfig(num_gpus=num_gpus, schedule=ScheduleConfig(batch=batch))
        step = schedule(config, 0, resolution)
        assert step.batch_gpu * step.rounds * num_gpus == step.batch == batch
        assert step.batch_gpu % min(4, step.batch_gpu) == 0  # whole minibatch-stddev groups
        assert step.batch_gpu <= max(4, 4096 // resolution)


def test_chosen_batch_gpu_is_the_published_one_at_full_size():
    assert choose_batch_gpu(TrainConfig(), 1024) == 4
    assert choose_batch_gpu(TrainConfig(), 32) == 32
    assert choose_batch_gpu(TrainConfig(schedule=ScheduleConfig(batch_gpu=8)), 1024) == 8
    config = TrainConfig(schedule=ScheduleConfig(batch=12), D=DiscriminatorConfig(mbstd_group_size=6))
    assert choose_batch_gpu(config, 32) == 12


def test_betas_are_finite_everywhere():
    plan = ScheduleConfig(ema_rampup=1e-9)
    assert all(math.isfinite(ema_beta(plan, nimg)) for nimg in (0, 1, 1e3, 1e12))
