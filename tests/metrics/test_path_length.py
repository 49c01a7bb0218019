"""Path lengths: circles, percentiles, crops, and a linear generator whose path length can be worked out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metrics.evaluate
from dnnlib.tflib.network import Network
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.evaluate import Evaluator
from metrics.images import box_average
from metrics.noise import IndexedRandom, PairedRandom, path_positions_of
from metrics.path_graph import build_path_tower, face_crop, latents_of_path, path_feeds, perceived_size
from metrics.path_length import PathSampling, compute_path_length, kept, path_length, slerp
from metrics.registry import PERCEPTUAL, MetricSpec
from metrics.variants import VARIANTS, find_variant
from tests.metrics.fakes import LATENT_SIZE, PIXELS, LinearGenerator, PixelFeatures, random_dataset

SAMPLINGS = [PathSampling(space, ends, crop) for space in "zw" for ends in ("full", "end") for crop in (False, True)]


@pytest.fixture(autouse=True)
def pixel_features(monkeypatch):
    monkeypatch.setattr(metrics.evaluate, "load_feature_network", lambda name, **_: {PIXELS: PixelFeatures()}[name])


def spec_of(sampling, count=40, name="ppl_pixels"):
    return MetricSpec(name, PIXELS, compute_path_length, count, output=PERCEPTUAL, path=sampling)


def test_quarter_circle_by_hand():
    a, b = np.array([[3.0, 0, 0, 0]]), np.array([[0.0, 0.5, 0, 0]])
    for t in (0, 1 / 3, 0.5, 1, -1):
        expected = np.array([[np.cos(t * np.pi / 2), np.sin(t * np.pi / 2), 0, 0]])
        np.testing.assert_allclose(slerp(a, b, np.array([t])), expected, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(2, 20), t=st.floats(0, 1))
def test_circles_are_even(seed, size, t):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 5, size))
    at = slerp(a, b, np.full(5, t))
    np.testing.assert_allclose(np.sum(at**2, axis=1), 1, rtol=1e-9)
    np.testing.assert_allclose(slerp(b, a, np.full(5, 1 - t)), at, atol=1e-6)

    def angle(x, y):
        return np.arccos(np.clip(np.sum(x * y, 1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1), -1, 1))

    np.testing.assert_allclose(angle(a, at), t * angle(a, b), atol=1e-5)


def test_equal_ends_stay():
    a = np.ones((1, 4))
    np.testing.assert_allclose(slerp(a, 3 * a, np.array([0.3])), a / 2, atol=1e-7)


def test_outliers_do_not_count():
    # 0, 1, ..., 999 in any order: the percentiles fall between ranks 9.99 and 989.01.
    d = np.random.default_rng(0).permutation(1000).astype(float)
    assert set(d[~kept(d)]) == {*range(9), *range(991, 1000)}
    assert path_length(d) == np.mean(np.arange(9, 991))
    d[d == 999] = 1e12
    assert path_length(d) == np.mean(np.arange(9, 991))
    assert path_length(np.array([4.0])) == 4
    with pytest.raises(UserError, match="distance of pair 1 is not finite"):
        path_length(np.array([0, np.nan, 1]))


def test_crop_and_box(session):
    image = np.arange(16 * 16, dtype=np.float32).reshape(1, 1, 16, 16)
    np.testing.assert_array_equal(session.run(face_crop(tf.constant(image))), image[:, :, 6:14, 4:12])
    boxes = session.run(box_average(tf.constant(image), 4))
    expected = [[image[0, 0, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean() for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(boxes[0, 0], expected)
    assert box_average(tf.constant(image), 1).shape == image.shape
    assert session.run(box_average(tf.constant(image), 5)).shape == (1, 1, 3, 3)


def test_what_is_seen_of_large_images():
    sg2, pt = VARIANTS["sg2"], VARIANTS["pt"]
    assert perceived_size(1024, 1024, True, sg2) == (256, 256, 2)
    assert perceived_size(1024, 1024, True, pt) == (128, 128, 4)  # a further 2x
    assert perceived_size(1024, 1024, False, sg2) == perceived_size(1024, 1024, False, pt) == (256, 256, 4)
    assert perceived_size(512, 512, True, sg2) == (256, 256, 1)
    assert perceived_size(512, 512, True, pt) == (128, 128, 2)
    assert perceived_size(256, 128, True, pt) == (128, 64, 1)
    assert perceived_size(64, 64, False, sg2) == (64, 64, 1)


def test_pairs_share_their_noise(session):
    rng = PairedRandom(IndexedRandom(3, tf.constant(5, tf.int64)))
    single = IndexedRandom(3, tf.constant(5, tf.int64))
    shape = [tf.constant(6), 2, 4]
    both, one = session.run([rng.normal("noise0", shape), single.normal("noise0", [3, 2, 4])])
    np.testing.assert_array_equal(both[:3], both[3:])
    np.testing.assert_array_equal(both[:3], one)
    both = session.run([rng.uniform("u", tf.constant([4, 3])), rng.integers("i", [4, 3], 2, 9)])
    for array in both:
        np.testing.assert_array_equal(array[:2], array[2:])


def analytic(generator, sampling, count, seed=0):
    """Distances over epsilon² in float64: images are linear in w, distances mean squared differences of pixels."""
    begins, ends = latents_of_path(seed, np.arange(count), generator.a.shape[0])
    t = path_positions_of(seed, np.arange(count)) if sampling.ends == "full" else np.zeros(count)
    if sampling.space == "w":
        steps = (ends - begins).astype(np.float64)
    else:
        # The derivative of a great circle: its angle times the unit tangent.
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (begins, ends))
        cosine = np.sum(a * b, axis=1, keepdims=True)
        across, angle = (b - cosine * a) / np.sqrt(1 - cosine**2), np.arccos(cosine)
        at = angle * t[:, None]
        steps = angle * (across * np.cos(at) - a * np.sin(at))
    images = 127.5 * (steps @ generator.a.astype(np.float64)).reshape(count, *generator.shape)
    h, w = (size // 8 for size in generator.shape[1:])
    if sampling.crop:
        images = images[:, :, 3 * h : 7 * h, 2 * w : 6 * w]
    return np.mean(images**2, axis=(1, 2, 3))


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_linear_generator_has_the_analytic_answer(session, tmp_path, sampling):
    generator, shape = LinearGenerator((3, 16, 8)), (3, 16, 8)
    evaluator = Evaluator([spec_of(sampling)], generator, random_dataset(8, shape), cache_dir=tmp_path, progress=False)
    found = np.concatenate(list(evaluator.path_distances("ppl_pixels")))
    expected = analytic(generator, sampling, 40)
    # A step of 1e-4 leaves float32 images about three digits.
    np.testing.assert_allclose(found, expected, rtol=0.03)
    result = evaluator.run("ppl_pixels")
    assert result.value == pytest.approx(path_length(expected), rel=0.005)
    assert (result.num_real, result.num_fake, result.mirror) == (0, 40, False)
    assert result.resize == ("face crop" if sampling.crop else "none")


def test_float64_interpolation_in_w_is_what_makes_the_mean_exact(session, tmp_path):
    generator, sampling = LinearGenerator(), PathSampling("w", "full", False)
    spec = spec_of(sampling, 400)
    evaluator = Evaluator([spec], generator, random_dataset(), cache_dir=tmp_path, progress=False)
    assert evaluator.run("ppl_pixels").value == pytest.approx(path_length(analytic(generator, sampling, 400)), rel=1e-3)


@pytest.mark.parametrize("options", [{"minibatch_gpu": 4}, {"minibatch_gpu": 28}, {"num_gpus": 3, "minibatch_gpu": 8}])
def test_batches_and_towers_make_no_difference(session, tmp_path, options):
    generator, dataset = LinearGenerator(label_size=2), random_dataset(label_size=2)
    spec = spec_of(PathSampling("z", "full", False))
    runs = [
        Evaluator([spec], generator, dataset, cache_dir=tmp_path, progress=False, **o).run("ppl_pixels")
        for o in ({}, options)
    ]
    assert runs[0].value == pytest.approx(runs[1].value, rel=1e-3)
    assert dataclasses.replace(runs[0], seconds=0, values={}) == dataclasses.replace(runs[1], seconds=0, values={})


def test_noise_is_the_same_for_both_images(session, tmp_path):
    # Were it not, the distance would be that of the noise over epsilon².
    quiet, loud = LinearGenerator(), LinearGenerator()
    quiet.strength, loud.strength = 0.0, 0.5
    values = []
    for generator in (quiet, loud):
        spec = spec_of(PathSampling("w", "end", False))
        evaluator = Evaluator([spec], generator, random_dataset(), cache_dir=tmp_path, progress=False)
        values.append(evaluator.run("ppl_pixels").value)
    assert values[1] == pytest.approx(values[0], rel=0.01)


def test_images_that_are_not_finite(session, tmp_path):
    spec = spec_of(PathSampling("w", "end", False))
    evaluator = Evaluator(
        [spec], LinearGenerator(bias=np.inf), random_dataset(), cache_dir=tmp_path, progress=False, minibatch_gpu=8
    )
    with pytest.raises(UserError, match=r"not finite \(pairs 0 to 1\): the training has diverged"):
        evaluator.run("ppl_pixels")


def test_a_real_network_is_measured_in_float32(session, tmp_path):
    sizes = dict(num_channels=3, resolution=8, fmap_base=64, fmap_max=8, latent_size=8, dlatent_size=8)
    low = Network("Gs", func_name="G_main", mapping_layers=2, mapping_fmaps=8, num_fp16_res=2, **sizes)
    specs = [spec_of(PathSampling(space, "full", True), 24, f"ppl_{space}") for space in "zw"]
    dataset = random_dataset(8, (3, 8, 8))
    evaluators = [
        Evaluator(specs, Gs, dataset, cache_dir=tmp_path, progress=False)
        for Gs in (low, low.clone("full", num_fp16_res=0))
    ]
    session.graph.finalize()
    for spec in specs:
        found, expected = (np.concatenate(list(evaluator.path_distances(spec.name))) for evaluator in evaluators)
        np.testing.assert_allclose(found, expected, rtol=0.05)
        assert evaluators[0].run(spec.name).value == pytest.approx(path_length(expected), rel=0.01)


@pytest.mark.parametrize(("variant", "length"), [("sg2", 1.0), ("ada", 1.0), ("corrected", LATENT_SIZE**0.5)])
def test_length_of_points_in_z(session, variant, length):
    """Published code feeds unit vectors, which weigh little beside labels; latents are sqrt(L) long."""
    generator = LinearGenerator(label_size=2)
    found = find_variant(variant)
    tower = build_path_tower(generator, [(PIXELS, False)], {PIXELS: PixelFeatures()}, 0, found)
    feeds = path_feeds(tower, "z", "full", 0, np.arange(5), np.zeros((5, 2), np.float32), found)
    for fed in (tower.inputs.latents, tower.ends):
        np.testing.assert_allclose(np.linalg.norm(feeds[fed], axis=1), length, rtol=1e-5)
