"""Rectangular images from the data set to the generator: shapes, refusals, and a whole tiny run."""

import dataclasses

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import run_generator
from dnnlib.tflib import pickles, tfutil
from dnnlib.tflib.network import Network
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics import evaluate
from tests.metrics.fakes import PixelFeatures, pixel_metric
from tests.record_sets import pictures, write_set
from tests.tiny import tiny_config
from training.base_shape import choose_base_shape, image_size, shape_kwargs
from training.config_io import apply_set, load_config
from training.init_from import check_source, read_source
from training.startup import network_shape, open_dataset
from training.training_loop import train


@pytest.mark.parametrize(
    ("height", "width", "base"),
    [(1024, 1024, (4, 4)), (8, 8, (4, 4)), (128, 192, (4, 6)), (384, 640, (3, 5)), (96, 96, (3, 3)), (64, 128, (4, 8))],
)
def test_base_shapes(height, width, base):
    assert choose_base_shape(height, width) == base


@given(st.integers(1, 16), st.integers(1, 16), st.integers(1, 9))
def test_a_base_shape_doubles_to_the_images(h, w, n):
    height, width = h << n, w << n
    kwargs = shape_kwargs(height, width)
    base = kwargs.get("base_shape", [4, 4])
    assert image_size(kwargs["resolution"], base) == (height, width)
    chosen, area = np.log2(base[0] * base[1] / 16), np.log2(h * w / 16)
    assert abs(chosen) <= abs(area)
    own = shape_kwargs(height, width, (h, w))
    assert own == {"resolution": 4 << n} | ({} if (h, w) == (4, 4) else {"base_shape": [h, w]})


def test_refused_shapes():
    with pytest.raises(UserError, match="images of 68x17: expected a shape of at most 16x16 doubled"):
        choose_base_shape(17, 68)
    with pytest.raises(UserError, match=r"data.base_shape: 4x4 \(height x width\) .* 128x192; use \[4,6\]"):
        shape_kwargs(128, 192, (4, 4))
    with pytest.raises(UserError, match=r"base shape \[0, 4\], expected \[height, width\], both from 1 to 16"):
        apply_set(tiny_config(), "data.base_shape=0,4")


def test_square_weights_fit_a_rectangle(session):
    """All but the constant, the noise and the last dense layer of D."""
    options = dict(num_channels=3, resolution=16, fmap_base=64, fmap_max=8)
    different = set()
    for func_name in ("G_main", "D_stylegan2"):
        square = Network("square", func_name=func_name, **options)
        wide = Network("wide", func_name=func_name, base_shape=[3, 5], **options)
        assert list(square.vars) == list(wide.vars)
        different |= {n.split("/", 1)[-1] for n, v in square.vars.items() if v.shape != wide.vars[n].shape}
    assert different == {"4x4/Const/const", "Dense0/weight", *(f"noise{i}" for i in range(5))}
    assert Network("G", func_name="G_main", base_shape=[3, 5], **options).output_shape == [None, 3, 12, 20]


def size_of(path):
    with Image.open(path) as image:
        return image.size


def test_a_run_on_rectangular_images(tmp_path, monkeypatch):
    write_set(tmp_path / "data" / "wide", list(pictures(24, (3, 8, 12))))
    config = apply_set(
        tiny_config(), f"data.data_dir={tmp_path / 'data'}", "data.dataset=wide", "schedule.total_kimg=0.032"
    )
    config = dataclasses.replace(config, metrics=dataclasses.replace(config.metrics, names=("fd_pixels",)))
    monkeypatch.setattr(evaluate, "load_feature_network", lambda name, **_: PixelFeatures())

    def make_evaluator(plan, Gs, dataset):
        return evaluate.Evaluator([pixel_metric(20)], Gs, dataset, cache_dir=tmp_path / "cache", progress=False)

    result = train(config, tmp_path / "results", make_evaluator=make_evaluator)
    assert result.finished
    assert 0 < result.best["fd_pixels"][0] < np.inf
    assert size_of(result.run_dir / "reals.png") == (4 * 12, 2 * 8)
    assert size_of(result.run_dir / "fakes000000.png") == (4 * 12, 2 * 8)

    snapshot = str(result.run_dir / result.best["fd_pixels"][1])
    with tf.Graph().as_default(), tfutil.create_session():
        G, D, Gs = pickles.load(snapshot)
        assert G.static_kwargs["base_shape"] == [4, 6]
        assert G.static_kwargs["resolution"] == 8
        assert D.input_shapes[0] == Gs.output_shape == [None, 3, 8, 12]
        images = Gs.run(np.zeros([2, 8], np.float32), None)
        assert images.shape == (2, 3, 8, 12)
        assert np.isfinite(D.run(images, None)).all()
    with tf.Graph().as_default(), tfutil.create_session():
        args = ["generate-images", "--network", snapshot, "--seeds", "1,2", "--result-dir", str(tmp_path / "out")]
        done = CliRunner().invoke(run_generator.main, args)
    assert done.exit_code == 0, done.output
    assert size_of(tmp_path / "out" / "00000-generate-images" / "seed0002.png") == (12, 8)

    # The run goes on where it was, from the networks as they were; another one may start from them.
    longer = apply_set(load_config(result.run_dir), "schedule.total_kimg=0.048", "metrics.names=none")
    assert train(longer, tmp_path / "results", resume=result.run_dir).nimg == 48
    source = read_source(snapshot)
    check_source(source, (3, 8, 12), 0)
    with pytest.raises(UserError, match=r"it draws 12x8, the data set has 8x8 .*--resolution 12x8"):
        check_source(source, (3, 8, 8), 0)


def test_a_configured_base_shape_is_used(tmp_path):
    write_set(tmp_path / "wide", list(pictures(4, (1, 16, 24))))
    config = apply_set(tiny_config(), f"data.data_dir={tmp_path}", "data.dataset=wide", "data.base_shape=2,3")
    shape = network_shape(config, open_dataset(config).shape)
    assert shape == {"num_channels": 1, "resolution": 32, "base_shape": [2, 3]}
    with pytest.raises(UserError, match="does not double to images of 16x24"):
        open_dataset(apply_set(config, "data.base_shape=4,4"))
