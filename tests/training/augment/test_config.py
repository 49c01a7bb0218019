"""Configuration of the augmentation: named pipelines, multipliers, refusals."""

from __future__ import annotations

import pytest

from dnnlib.util import UserError
from training.config_augment import FAMILIES, OPERATIONS, PIPES, AugmentConfig


def test_named_pipelines():
    blit, geom = ["xflip", "rotate90", "xint"], ["scale", "rotate", "aniso", "xfrac"]
    color = ["brightness", "contrast", "lumaflip", "hue", "saturation"]
    expected = {
        "blit": blit, "geom": geom, "color": color, "filter": ["imgfilter"], "noise": ["noise"], "cutout": ["cutout"],
        "b": blit, "g": geom, "c": color, "f": ["imgfilter"], "n": ["noise"], "cut": ["cutout"],
        "bg": blit + geom, "bgc": blit + geom + color, "bgcf": [*blit, *geom, *color, "imgfilter"],
        "bgcfn": [*blit, *geom, *color, "imgfilter", "noise"],
        "bgcfnc": [*blit, *geom, *color, "imgfilter", "noise", "cutout"],
    }  # fmt: skip
    assert set(PIPES) == set(expected)
    for name, operations in expected.items():
        config = AugmentConfig(mode="ada", pipe=name)
        assert config.operations == dict.fromkeys(operations, 1.0)
    assert tuple(expected["bgcfnc"]) == OPERATIONS


def test_multipliers_of_operations_win_over_families():
    config = AugmentConfig(mode="fixed", p=0.5, multipliers={"color": 0.5, "hue": 0, "xflip": 2})
    assert config.operations == {
        "xflip": 2, "rotate90": 1, "xint": 1, "scale": 1, "rotate": 1, "aniso": 1, "xfrac": 1,
        "brightness": 0.5, "contrast": 0.5, "lumaflip": 0.5, "saturation": 0.5,
    }  # fmt: skip
    off = AugmentConfig(mode="ada", pipe="bg", multipliers={family: 0 for family in FAMILIES})
    assert off.operations == {}


def test_defaults():
    config = AugmentConfig()
    assert (config.mode, config.operations, config.initial_p, config.goal, config.adaptive) == (
        "noaug",
        {},
        0,
        None,
        False,
    )
    assert (config.p_max, config.tune_kimg, config.interval, config.pipe) == (0.85, 500, 4, "bgc")
    assert AugmentConfig(mode="ada").goal == 0.6
    assert AugmentConfig(mode="adarv").goal == 0.5
    assert AugmentConfig(mode="ada", target=0.7, p=0.2).goal == 0.7
    assert AugmentConfig(mode="ada", p=0.2).initial_p == 0.2


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (dict(mode="always"), "augment.mode: found 'always', expected one of noaug, ada, fixed, adarv"),
        (dict(mode="fixed"), "augment.p: found None, expected a probability in [0, 1] with augment.mode=fixed"),
        (dict(p=0.5), "augment.p: found 0.5, expected none with augment.mode=noaug; choose fixed, ada or adarv"),
        (dict(mode="fixed", p=1.5), "augment.p: found 1.5, expected a probability in [0, 1]"),
        (dict(mode="ada", p=0.9), "augment.p: found 0.9, expected a start of at most augment.p_max=0.85"),
        (dict(mode="fixed", p=0.5, target=0.6), "augment.target: found 0.6, expected none with augment.mode=fixed"),
        (dict(mode="ada", target=2), "augment.target: found 2.0, expected a number in [-1, 1]"),
        (dict(mode="ada", pipe="bcg"), "augment.pipe: found 'bcg', expected a named pipeline; did you mean 'bg"),
        (dict(multipliers={"hew": 1}), "augment.multipliers: unknown operation 'hew': did you mean 'hue'?"),
        (dict(multipliers={"hue": -1}), "augment.multipliers: hue: found -1.0, expected a number >= 0"),
        (dict(p_max=0), "augment.p_max: found 0.0, expected a probability in (0, 1]"),
        (dict(tune_kimg=0), "augment.tune_kimg: found 0.0, expected a number > 0"),
        (dict(interval=0), "augment.interval: found 0, expected a number >= 1"),
        (dict(diffaugment=("colour",)), "expected policies of DiffAugment; did you mean 'color'?"),
        (dict(diffaugment=("color", "color")), "expected distinct policies"),
        (dict(zoom_prob=2), "augment.zoom_prob: found 2.0, expected a probability in [0, 1]"),
        (dict(zoom_range=(2, 1)), "augment.zoom_range: found (2.0, 1.0), expected a pair of factors"),
    ],
)
def test_refusals(fields, text):
    with pytest.raises(UserError) as info:
        AugmentConfig(**fields)
    assert text in str(info.value)
