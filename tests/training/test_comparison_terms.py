"""`--cmethod` and `--dcap`: the published numbers, what they leave alone, and what is not offered."""

import pytest

from dnnlib.util import UserError
from run_training import PRESETS, explicit_fields
from training import config_io
from training.base_configs import base_fields
from training.comparison_methods import METHODS, method_fields, with_D_capacity
from training.config import TrainConfig

BASE = base_fields("paper256", 256, 8)


def changes(name):
    """{field: value} that a method changes in a base configuration."""
    base = config_io.with_fields(TrainConfig(), BASE)
    found = config_io.with_fields(base, method_fields(name))
    return {path: new for path, _, new in config_io.diff(base, found)}


FLOAT32 = {"G.num_fp16_res": 0, "D.num_fp16_res": 0, "G.conv_clamp": None, "D.conv_clamp": None}
PUBLISHED = {
    "nocmethod": {},
    "bcr": {"loss.bcr_real": 10, "loss.bcr_fake": 10},
    "zcr": {"loss.zcr_gen": 0.02, "loss.zcr_dis": 0.2, **FLOAT32},
    "wgangp": {
        "loss.G_loss": "wgan", "loss.D_loss": "wgan", "loss.D_penalty": "gp", "loss.r1_gamma": 10,
        "loss.G_reg_interval": None, "loss.D_reg_interval": None, "opt.G_lrate": 0.001, "opt.D_lrate": 0.001,
        "augment.mode": "noaug", "watch.sign_limit": None, "watch.gap_limit": None, **FLOAT32,
    },
    "spectralnorm": {"D.spectral_norm": "*/Conv0,*/Conv1_down,4x4/Conv"},
    "shallowmap": {"G.mapping_layers": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", list(METHODS))
def test_published_numbers(name):
    assert changes(name) == PUBLISHED[name]


def test_bcr_and_zcr_have_the_published_ranges():
    loss = config_io.with_fields(TrainConfig(), method_fields("bcr") | method_fields("zcr")).loss
    assert (loss.bcr_shift, loss.zcr_std) == (1 / 32, 0.1)


def test_other_options_win_over_a_method():
    fields = explicit_fields({"cmethod": "wgangp", "lr_g": 0.003, "precision": "ada"}, ("D_penalty=lp",))
    assert fields["opt.G_lrate"] == 0.003 and fields["opt.D_lrate"] == 0.001
    assert fields["loss.D_penalty"] == "lp" and fields["G.num_fp16_res"] == 4


def test_unknown_and_not_offered():
    with pytest.raises(UserError, match="--cmethod 'bcrr' is unknown: did you mean 'bcr'"):
        method_fields("bcrr")
    for name in ("pagan", "auxrot", "adropout"):
        with pytest.raises(UserError, match=f"--cmethod {name}: is not offered.*there are nocmethod, bcr"):
            method_fields(name)


def test_capacity_of_d():
    half = with_D_capacity(BASE, 0.5)
    assert {path: value for path, value in half.items() if BASE[path] != value} == {
        "D.fmap_base": 4096, "D.fmap_max": 256,
    }  # fmt: skip
    explicit = with_D_capacity(PRESETS["XL"].fields(), 1.5)
    assert explicit["D.fmap_explicit"][1024] == 120 and explicit["D.fmap_explicit"][4] == 960
    assert explicit["G.fmap_explicit"] == PRESETS["XL"].fields()["G.fmap_explicit"]
    assert with_D_capacity(BASE, 1e-6)["D.fmap_max"] == 1
    with pytest.raises(UserError, match="--dcap multiplies the feature maps of a --preset or --cfg"):
        with_D_capacity(None, 2)
    for factor in (0, -1, float("nan")):
        with pytest.raises(UserError, match="--dcap: found .*, expected a factor > 0"):
            with_D_capacity(BASE, factor)
