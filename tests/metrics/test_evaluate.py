"""Evaluation from images to number, with a generator whose fakes are also made in numpy."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from scipy.linalg import sqrtm

import metrics.evaluate
from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.evaluate import Evaluator, evaluate
from metrics.features import load_feature_network
from metrics.frechet import compute_frechet
from metrics.noise import IndexedRandom, labels_of, latents_of, mirrored
from metrics.registry import MetricSpec
from tests.metrics.fakes import PIXELS, ArrayDataset, LinearGenerator, PixelFeatures, pixel_metric, random_dataset


@pytest.fixture(autouse=True)
def pixel_features(monkeypatch):
    def load(name, **options):
        return PixelFeatures() if name == PIXELS else load_feature_network(name, **options)

    monkeypatch.setattr(metrics.evaluate, "load_feature_network", load)


@pytest.fixture
def measure(session, tmp_path):
    def run(*args, **options):
        return evaluate(*args, **{"progress": False, "cache_dir": tmp_path, **options})

    return run


def numpy_fakes(session, generator, dataset, count, seed):
    indices = np.arange(count)
    noise = IndexedRandom(seed, tf.constant(0, tf.int64)).normal("noise0", [count, 1, *generator.shape[1:]])
    images = latents_of(seed, indices, generator.a.shape[0]) @ generator.a + generator.bias
    images += labels_of(seed, indices, dataset.labels)[:, : len(generator.b)] @ generator.b
    images = images.reshape(count, *generator.shape) + np.float32(generator.strength) * session.run(noise)
    return np.clip(np.floor(images * 127.5 + 128), 0, 255).astype(np.uint8)


def numpy_distance(fakes, reals):
    a, b = (PixelFeatures().numpy_features(images) for images in (fakes, reals))
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s + t) - 2 * np.trace(sqrtm(s @ t)).real


@pytest.mark.parametrize("label_size", [0, 3])
def test_value_is_that_of_an_independent_computation(session, measure, label_size):
    generator, dataset = LinearGenerator(label_size=label_size), random_dataset(90, label_size=label_size)
    result = measure(pixel_metric(64), generator, dataset, seed=4)
    expected = numpy_distance(numpy_fakes(session, generator, dataset, 64, 4), dataset.images[:64])
    assert result.value == pytest.approx(expected, rel=1e-3)
    assert result.value > 10


def test_reals_are_the_first_images_mirrored_like_the_training(session, measure):
    generator, dataset = LinearGenerator(), random_dataset(90)
    result = measure(pixel_metric(64), generator, dataset, mirror=True)
    reals = dataset.images[:64].copy()
    flip = mirrored(np.arange(64))
    reals[flip] = reals[flip, :, :, ::-1]
    expected = numpy_distance(numpy_fakes(session, generator, dataset, 64, 0), reals)
    assert result.value == pytest.approx(expected, rel=1e-3) and result.mirror
    assert abs(measure(pixel_metric(64), generator, dataset).value / result.value - 1) > 0.01


def test_a_generator_of_the_data_is_near_it(measure):
    # Reals made by the generator with another seed: only the finite number of images keeps them apart.
    generator = LinearGenerator()
    rng = np.random.RandomState(1)
    images = (rng.randn(400, 6).astype(np.float32) @ generator.a).reshape(400, 3, 4, 4)
    images += 0.1 * rng.randn(400, 1, 4, 4)
    dataset = ArrayDataset(np.clip(np.floor(images * 127.5 + 128), 0, 255).astype(np.uint8))
    near = measure(pixel_metric(400), generator, dataset).value
    far = measure(pixel_metric(400), LinearGenerator(bias=0.5), dataset).value
    assert 0 < near < 0.05 * far


@pytest.mark.parametrize("options", [{"minibatch_gpu": 1}, {"minibatch_gpu": 7}, {"num_gpus": 3, "minibatch_gpu": 5}])
def test_batches_and_towers_make_no_difference(measure, tmp_path, options):
    generator, dataset = LinearGenerator(label_size=2), random_dataset(90, label_size=2)
    whole = measure(pixel_metric(50), generator, dataset, cache_dir=tmp_path / "a")
    parts = measure(pixel_metric(50), generator, dataset, cache_dir=tmp_path / "b", **options)
    assert parts.value == pytest.approx(whole.value, rel=1e-6)
    assert dataclasses.replace(parts, seconds=0, values={}) == dataclasses.replace(whole, seconds=0, values={})


def test_seeds_repeat_and_differ(measure):
    generator, dataset = LinearGenerator(), random_dataset()
    values = [measure(pixel_metric(), generator, dataset, seed=seed).value for seed in (3, 3, 4)]
    assert values[0] == values[1] != values[2]


def test_running_adds_nothing_to_the_graph(session, tmp_path):
    evaluator = Evaluator([pixel_metric()], LinearGenerator(), random_dataset(), cache_dir=tmp_path, progress=False)
    session.graph.finalize()
    first, second = evaluator.run("fd_pixels"), evaluator.run("fd_pixels")
    assert first.values == second.values


def test_running_sees_the_generator_as_it_is(session, tmp_path):
    generator = LinearGenerator()
    generator.bias = tf.get_variable("bias", [], initializer=tf.initializers.zeros())
    evaluator = Evaluator([pixel_metric()], generator, random_dataset(), cache_dir=tmp_path, progress=False)
    tfutil.set_vars({generator.bias: 0.0})
    session.graph.finalize()
    before = evaluator.run("fd_pixels").value
    tfutil.set_vars({generator.bias: 0.7})
    assert evaluator.run("fd_pixels").value > before + 100


def test_statistics_of_reals_are_kept(measure, tmp_path):
    generator, dataset = LinearGenerator(), random_dataset(90)
    first = measure(pixel_metric(50), generator, dataset)
    assert dataset.reads == 50 and len(list(tmp_path.iterdir())) == 1
    again = measure(pixel_metric(50), generator, dataset)
    assert dataset.reads == 50
    assert again.values == first.values
    # Whatever they depend on gives new ones.
    measure(pixel_metric(51), generator, dataset)
    measure(pixel_metric(50), generator, dataset, mirror=True)
    measure(pixel_metric(50), generator, random_dataset(90, seed=1))
    assert dataset.reads == 50 + 51 + 50 and len(list(tmp_path.iterdir())) == 4
    # The fakes do not enter.
    measure(pixel_metric(50), LinearGenerator(seed=1), dataset, seed=9, num_gpus=2)
    assert dataset.reads == 151


def test_small_data_sets_are_used_whole_and_said_so(measure):
    result = measure(pixel_metric(60), LinearGenerator(), random_dataset(20))
    assert (result.num_fake, result.num_real) == (60, 20)


def test_record(measure):
    dataset = random_dataset(90)
    result = measure(pixel_metric(50), LinearGenerator(), dataset, seed=2)
    assert result.values == {"fd_pixels": result.value}
    assert (result.feature_network, result.weights_sha256, result.resize) == (PIXELS, "none", "none")
    assert (result.dataset, result.dataset_hash, result.seed) == ("arrays", dataset.content_hash, 2)
    assert (result.image_shape, result.mirror, result.truncation_psi) == ([3, 4, 4], False, None)
    assert 0 < result.seconds < 600
    assert re.fullmatch(r"fd_pixels \d+\.\d{4} \(50 fakes, 50 reals, \d+s\)", str(result))


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels(measure, channels):
    shape = (channels, 4, 4)
    result = measure(pixel_metric(40), LinearGenerator(shape), random_dataset(60, shape))
    assert np.isfinite(result.value)


def test_rectangular_images(measure):
    shape = (3, 4, 8)
    assert np.isfinite(measure(pixel_metric(40), LinearGenerator(shape), random_dataset(60, shape)).value)


def test_images_that_are_not_finite(measure):
    with pytest.raises(UserError, match=r"not finite \(fakes 0 to 31\): the training has diverged"):
        measure(pixel_metric(50), LinearGenerator(bias=np.nan), random_dataset(), minibatch_gpu=32)


def test_shapes_must_fit(session):
    with pytest.raises(UserError, match=r"images of shape \[3, 4, 4\], the data set arrays has \[3, 8, 8\]"):
        Evaluator([pixel_metric()], LinearGenerator(), random_dataset(shape=(3, 8, 8)))
    with pytest.raises(UserError, match="labels of 3 numbers, those of the data set arrays have 0"):
        Evaluator([pixel_metric()], LinearGenerator(label_size=3), random_dataset())
    # A network without labels on labelled data is fine.
    Evaluator([pixel_metric()], LinearGenerator(), random_dataset(label_size=3))


def test_bad_options(session):
    for options in ({"num_gpus": 0}, {"minibatch_gpu": 0}, {"seed": -1}):
        ((name, value),) = options.items()
        with pytest.raises(UserError, match=f"{name}: found {value}, expected at least"):
            Evaluator([pixel_metric()], LinearGenerator(), random_dataset(), **options)
    evaluator = Evaluator([pixel_metric()], LinearGenerator(), random_dataset(), progress=False)
    with pytest.raises(UserError, match="not built for the metric 'fd_pixel': did you mean 'fd_pixels'"):
        evaluator.run("fd_pixel")
    with pytest.raises(UserError, match="unknown metric 'fid'"):
        Evaluator(["fid"], LinearGenerator(), random_dataset())


def test_progress_goes_to_stderr(session, tmp_path, capfd):
    evaluate(pixel_metric(), LinearGenerator(), random_dataset(), cache_dir=tmp_path)
    out, err = capfd.readouterr()
    assert out == "" and "reals" in err and "fakes" in err


def test_with_the_real_feature_network(measure):
    spec = MetricSpec("fd_small", "effnet_lite0", compute_frechet, 12, 12)
    shape = (3, 16, 16)
    dataset = random_dataset(30, shape)
    a = measure(spec, LinearGenerator(shape), dataset)
    b = measure(spec, LinearGenerator(shape), dataset, minibatch_gpu=6)
    assert a.value == pytest.approx(b.value, rel=1e-3) and a.value > 0
    assert (a.feature_network, a.resize) == ("effnet_lite0", "triangle to 224x224")
