"""Exact numbers of trainable parameters: published sizes, and those of the larger models."""

import numpy as np
import pytest

from dnnlib import tflib
from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from run_training import PRESETS
from training.config import TrainConfig
from training.config_io import with_fields
from training.config_networks import D_kwargs, G_kwargs
from training.fmaps import SIZES, Fmaps

SHAPE = dict(num_channels=3, resolution=1024, label_size=0)


@pytest.fixture
def graph(monkeypatch):
    """A graph whose variables get no values: hundreds of millions of random numbers would only take time."""
    monkeypatch.setattr(tfutil, "init_vars", lambda _: None)
    with tf.Graph().as_default() as graph:
        yield graph


def count(name, builder, **kwargs):
    net = tflib.Network(name, func_name=builder, **kwargs)
    return sum(int(np.prod(v.shape.as_list())) for v in net.trainables.values())


@pytest.mark.parametrize(
    ("options", "g", "d"),
    [
        (dict(**SHAPE, fmap_base=8192), 24_900_764, 24_038_161),
        (SHAPE, 30_370_060, 29_012_513),
        (dict(SHAPE, resolution=512), 30_276_583, 28_982_849),
        (dict(SHAPE, resolution=256), 30_034_338, 28_864_129),
        (dict(SHAPE, resolution=256, fmap_base=8192), 24_767_458, 24_001_089),
        (dict(SHAPE, resolution=32, fmap_base=8192), 21_523_475, 21_507_073),
    ],
)
def test_published_sizes(graph, options, g, d):
    assert count("G", "G_main", **options) == g
    assert count("D", "D_stylegan2", **options) == d


LARGER = {"M": 63_970_477, "L": 69_750_317, "XL": 106_108_333, "XXL": 150_244_653, "XXXL": 253_681_965}


@pytest.mark.parametrize("name", list(LARGER))
def test_presets_of_the_larger_models(graph, name):
    """Totals as recomputed from the published tables of feature maps."""
    config = with_fields(TrainConfig(), PRESETS[name].fields())
    total = count("G", "G_main", **SHAPE, **G_kwargs(config.G)) + count(
        "D", "D_stylegan2", **SHAPE, **D_kwargs(config.D)
    )
    assert total == LARGER[name]


@pytest.mark.parametrize(("name", "maps"), [
    ("M", (512, 512, 384, 192, 96, 48)), ("L", (512, 512, 512, 256, 128, 64)), ("XL", (640, 640, 640, 320, 160, 80)),
    ("XXL", (768, 768, 768, 384, 192, 96)), ("XXXL", (1024, 1024, 768, 384, 192, 96)),
])  # fmt: skip
def test_feature_maps_of_the_larger_models(name, maps):
    nf = Fmaps(explicit=SIZES[name])
    assert tuple(nf.at(res) for res in (32, 64, 128, 256, 512, 1024)) == maps
    assert {nf.at(res) for res in (4, 8, 16)} == {maps[0]} and nf.at(2048) == maps[-1] // 2


def test_rule_of_feature_maps():
    nf = Fmaps()
    assert [nf.at(res) for res in (4, 32, 64, 128, 256, 512, 1024)] == [512, 512, 512, 256, 128, 64, 32]
    assert [Fmaps(base=8192).at(res) for res in (64, 1024)] == [256, 16]
    assert nf(0) == 512 and nf(9) == nf.at(1024)
    assert Fmaps(base=24576).at(128) == 384


def test_explicit_feature_maps_know_only_what_they_name():
    nf = Fmaps(explicit={4: 8, 8: 6})
    assert nf.at(4) == 8 and nf.at(8) == 6 and nf(0) == 8
    with pytest.raises(UserError, match="no entry for resolution 16; it knows 4, 8"):
        nf.at(16)
    with pytest.raises(UserError, match="resolution 24 is not a power of two"):
        Fmaps(explicit={24: 8})
    with pytest.raises(UserError, match="0 feature maps at resolution 8"):
        Fmaps(explicit={8: 0})
    with pytest.raises(UserError, match="expected base >= 1"):
        Fmaps(base=0)


def test_explicit_maps_survive_json():
    import json

    table = {4: 8, 8: 6}
    assert Fmaps(explicit=json.loads(json.dumps(table))) == Fmaps(explicit=table)
