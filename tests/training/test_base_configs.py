"""Numbers of the base configurations as they were published."""

from __future__ import annotations

import pytest

from dnnlib.util import UserError
from tests.tiny import tiny_dataset
from training import config_io
from training.base_configs import BASE_CONFIGS, auto_numbers, base_fields, base_numbers, find_data
from training.config import TrainConfig

# The published table of `auto`: resolution -> GPUs -> (minibatch, R1 gamma).
AUTO = {
    128: {1: (32, 0.1024), 2: (64, 0.0512), 4: (64, 0.0512), 8: (64, 0.0512)},
    256: {1: (16, 0.8192), 2: (32, 0.4096), 4: (64, 0.2048), 8: (64, 0.2048)},
    512: {1: (8, 6.5536), 2: (16, 3.2768), 4: (32, 1.6384), 8: (64, 0.8192)},
    1024: {1: (4, 52.4288), 2: (8, 26.2144), 4: (16, 13.1072), 8: (32, 6.5536)},
}


@pytest.mark.parametrize("resolution", AUTO)
@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
def test_auto(resolution, gpus):
    batch, gamma = AUTO[resolution][gpus]
    numbers = auto_numbers(resolution, gpus)
    assert (numbers.batch, numbers.gamma) == (batch, pytest.approx(gamma, rel=1e-12))
    assert (numbers.batch_gpu, numbers.mbstd) == (batch // gpus, 4)
    assert numbers.ema == batch * 10 / 32
    assert numbers.fmaps == (1 if resolution >= 512 else 0.5)
    assert numbers.lr == (0.002 if resolution == 1024 else 0.0025)


def test_auto_gives_every_gpu_an_image():
    numbers = auto_numbers(2048, 16)
    assert (numbers.batch, numbers.batch_gpu, numbers.mbstd) == (32, 2, 2)
    assert auto_numbers(1024, 128).batch == 128


def fields_of(name, resolution, gpus=1, **more):
    config = config_io.with_fields(TrainConfig(num_gpus=gpus), base_fields(name, resolution, gpus, **more))
    assert (config.G.num_fp16_res, config.D.num_fp16_res) == (4, 4)
    assert config.G.conv_clamp == config.D.conv_clamp == 256
    assert (config.G.fmap_base, config.G.fmap_max) == (config.D.fmap_base, config.D.fmap_max)
    assert config.opt.G_lrate == config.opt.D_lrate
    assert (config.G.fmap_max, config.augment.mode, config.augment.pipe) == (512, "ada", "bgc")
    assert (config.schedule.kimg_per_tick, config.snapshots.network_ticks) == (4, 50)
    assert config.metrics.names == ("fid50k_full",)
    s = config.schedule
    return (
        s.total_kimg, s.batch, s.batch_gpu, config.D.mbstd_group_size, config.G.fmap_base, config.opt.G_lrate,
        config.loss.r1_gamma, s.ema_kimg, s.ema_rampup, config.G.mapping_layers,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "gpus", "expected"),
    [
        ("stylegan2", 8, (25000, 32, 4, 4, 16384, 0.002, 10, 10, None, 8)),
        ("stylegan2", 1, (25000, 32, 4, 4, 16384, 0.002, 10, 10, None, 8)),
        ("paper256", 8, (25000, 64, 8, 8, 8192, 0.0025, 1, 20, None, 8)),
        ("paper512", 4, (25000, 64, 8, 8, 16384, 0.0025, 0.5, 20, None, 8)),
        ("paper1024", 2, (25000, 32, 4, 4, 16384, 0.002, 2, 10, None, 8)),
        ("cifar", 2, (100000, 64, 32, 32, 8192, 0.0025, 0.01, 500, 0.05, 2)),
        ("cifarbaseline", 1, (100000, 64, 32, 32, 8192, 0.0025, 0.01, 500, 0.05, 8)),
        ("auto", 1, (25000, 16, 16, 4, 8192, 0.0025, 0.8192, 5, 0.05, 2)),
    ],
)
def test_every_derived_number(name, gpus, expected):
    assert fields_of(name, 256, gpus) == pytest.approx(expected)


def test_cifar_switches_off_what_did_not_help():
    cifar, baseline = (
        config_io.with_fields(TrainConfig(), base_fields(name, 32)) for name in ("cifar", "cifarbaseline")
    )
    assert [path for path, _, _ in config_io.diff(baseline, cifar)] == [
        "G.mapping_layers", "G.style_mixing_prob", "D.architecture", "loss.pl_weight",
    ]  # fmt: skip
    assert (cifar.G.style_mixing_prob, cifar.D.architecture, cifar.loss.pl_weight) == (None, "orig", 0)


def test_transfer_adjusts_faster_and_keeps_the_average():
    fresh, transfer = (
        config_io.with_fields(TrainConfig(), base_fields("auto", 256, transfer=given)) for given in (False, True)
    )
    assert config_io.diff(fresh, transfer) == [
        ("augment.tune_kimg", 500.0, 100.0),
        ("schedule.ema_rampup", 0.05, None),
    ]


def test_refusals():
    with pytest.raises(UserError, match="unknown base configuration 'paper265': did you mean 'paper256'"):
        base_numbers("paper265", 256, 1)
    with pytest.raises(UserError, match="--cfg stylegan2: its minibatch of 32 has 8 parts.* over 16 GPUs; use up to 8"):
        base_numbers("stylegan2", 1024, 16)
    with pytest.raises(UserError, match="over 3 GPUs"):
        base_numbers("paper256", 256, 3)
    with pytest.raises(UserError, match="--cfg: its numbers depend on the resolution; give --dataset NAME"):
        find_data("", None, None, "full")


def test_labels_are_taken_as_published(tmp_path):
    """By an embedding in G and a projection in D, where there are any and they are used."""
    tiny_dataset(tmp_path / "labelled", num_images=4, resolution=8, label_size=3)
    tiny_dataset(tmp_path / "plain", num_images=4, resolution=16)
    assert find_data(str(tmp_path), "labelled", None, "full") == (8, True)
    assert find_data(str(tmp_path), "labelled", None, 0) == (8, False)
    assert find_data(str(tmp_path), "plain", 8, "full") == (8, False)
    assert find_data(str(tmp_path), "absent", 64, "full") == (64, False)
    with pytest.raises(UserError, match="absent"):
        find_data(str(tmp_path), "absent", None, "full")
    plain, labelled = (
        config_io.with_fields(TrainConfig(), base_fields("cifar", 32, labelled=given)) for given in (False, True)
    )
    assert config_io.diff(plain, labelled) == [("G.embed_labels", False, True), ("D.project_labels", False, True)]


def test_all_published_names():
    assert list(BASE_CONFIGS) == ["auto", "stylegan2", "paper256", "paper512", "paper1024", "cifar", "cifarbaseline"]
