"""Every operation of the pipeline against NumPy and SciPy on the same parameters, and undone where it can be."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.ndimage

from dnnlib.tflib.rng import StatelessRandom
from dnnlib.tflib.tfutil import create_session, tf
from dnnlib.util import UserError
from tests.training.augment import oracles
from training.augment import color, pipeline
from training.augment.geometric import inverse_transform
from training.augment.parameters import Parameters, draw_parameters, neutral
from training.augment.wavelets import filter_bank
from training.config_augment import FAMILIES, OPERATIONS

SHAPES = [(3, 16, 16), (1, 16, 16), (4, 12, 20)]
EVERYTHING = dict.fromkeys(OPERATIONS, 1.0)


class FixedNoise:
    """The same noise in graph and oracle."""

    def __init__(self, shape):
        self.values = np.random.RandomState(5).randn(*shape).astype(np.float32)

    def normal(self, name, shape):
        return tf.constant(self.values)


def random_parameters(n, seed=3):
    """Fields of `Parameters` with everything on: strong, and different for every image."""
    rng = np.random.RandomState(seed)
    result = neutral(n)
    result |= {
        "flip": rng.randint(0, 2, n), "quarter_turns": rng.randint(0, 4, n), "xint": rng.uniform(-0.125, 0.125, [n, 2]),
        "log2_scale": 0.3 * rng.randn(n), "log2_aniso": 0.3 * rng.randn(n), "xfrac": 0.125 * rng.randn(n, 2),
        "rotate_pre": rng.uniform(-3, 3, n), "rotate_post": rng.uniform(-3, 3, n), "brightness": 0.3 * rng.randn(n),
        "log2_contrast": 0.5 * rng.randn(n), "lumaflip": rng.randint(0, 2, n), "hue": rng.uniform(-3, 3, n),
        "log2_saturation": rng.randn(n), "log2_bands": rng.randn(n, 4), "noise_sigma": np.abs(0.1 * rng.randn(n)),
        "cutout": np.concatenate([rng.uniform(0, 1, [n, 2]), np.full([n, 1], 0.5)], axis=1),
    }  # fmt: skip
    return {name: np.asarray(value, np.float32) for name, value in result.items()}


@functools.cache
def pipeline_for(shape, operations):
    """(session, images, parameters, result): one graph per use, for many values."""
    graph = tf.Graph()
    with graph.as_default():
        images = tf.placeholder(tf.float32, shape)
        parameters = {name: tf.placeholder(tf.float32, value.shape) for name, value in neutral(shape[0]).items()}
        noise = FixedNoise(shape) if "noise" in operations else None
        result = pipeline.apply_parameters(images, Parameters(**parameters), dict.fromkeys(operations, 1.0), noise)
    return tf.Session(graph=graph), images, parameters, result


def run(images, values, operations):
    session, x, parameters, result = pipeline_for(images.shape, tuple(operations))
    return session.run(result, {x: images, **{parameters[name]: value for name, value in values.items()}})


@pytest.fixture(scope="module", autouse=True)
def close_sessions():
    yield
    pipeline_for.cache_clear()


def family(*names):
    return {operation: 1.0 for name in names for operation in FAMILIES[name]}


def noise_images(n, shape, seed=0):
    return np.random.RandomState(seed).uniform(-1, 1, [n, *shape]).astype(np.float32)


def smooth_images(n, shape, sigma=2.5):
    blurred = scipy.ndimage.gaussian_filter(noise_images(n, shape), [0, 0, sigma, sigma], mode="mirror")
    return (blurred / np.abs(blurred).max()).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_family_against_its_oracle(shape):
    n = 6
    images, p, noise = noise_images(n, shape), random_parameters(n), FixedNoise([n, *shape])
    matrices = [oracles.inverse_transform(p, i, *shape[1:]) for i in range(n)]
    expected = {"geom": [oracles.warp(x, m) for x, m in zip(images, matrices, strict=True)]}
    if shape[0] == 1:
        colors = [oracles.color_matrix(p | {"hue": np.zeros(n), "log2_saturation": np.zeros(n)}, i) for i in range(n)]
        # A grey image is the mean of three equal colours.
        expected["color"] = [
            oracles.recolor(np.repeat(x, 3, axis=0), m).mean(axis=0, keepdims=True)
            for x, m in zip(images, colors, strict=True)
        ]
    else:
        expected["color"] = [oracles.recolor(x, oracles.color_matrix(p, i)) for i, x in enumerate(images)]
    bank = filter_bank()
    expected["filter"] = [oracles.filter_bands(x, p["log2_bands"][i], bank) for i, x in enumerate(images)]
    expected["noise"] = [x + p["noise_sigma"][i] * noise.values[i] for i, x in enumerate(images)]
    expected["cutout"] = [oracles.cut_out(x, *p["cutout"][i]) for i, x in enumerate(images)]
    for name, wanted in expected.items():
        found = run(images, p, family(name))
        assert found.shape == images.shape and found.dtype == np.float32
        error = np.abs(found - np.stack(wanted)).max() / np.abs(wanted).max()
        assert error < 5e-5, (name, error)


def test_order_of_the_families():
    """All at once equals one after the other: geometry, colour, filter, noise, cutout."""
    n, shape = 4, (3, 16, 16)
    images, p = noise_images(n, shape), random_parameters(n)
    step = images
    for name in ("geom", "color", "filter", "noise", "cutout"):
        step = run(step, p, family(name))
    np.testing.assert_allclose(run(images, p, EVERYTHING), step, atol=1e-5)


@pytest.mark.parametrize("impl", ["compiled", "ref"])
def test_smooth_images_move_as_scipy_moves_them(impl, monkeypatch):
    """Resampling is nearly ideal: a smooth image goes where an interpolating spline says."""
    monkeypatch.setenv("SG2_OPS", impl)
    pipeline_for.cache_clear()  # the graphs belong to an implementation
    n, size = 4, 32
    images, p = smooth_images(n, (1, size, size)), random_parameters(n)
    p["log2_scale"], p["log2_aniso"] = np.abs(p["log2_scale"]) / 2, p["log2_aniso"] / 4  # never beyond the reflection
    found = run(images, p, family("blit", "geom"))
    for i in range(n):
        m = oracles.inverse_transform(p, i, size, size)
        middle = (size - 1) / 2
        # scipy counts (row, column) from the corner.
        linear, shift = m[1::-1, 1::-1], m[1::-1, 2]
        offset = shift + middle - linear @ [middle, middle]
        wanted = scipy.ndimage.affine_transform(images[i, 0], linear, offset, order=5, mode="mirror")
        assert np.abs(found[i, 0] - wanted).max() < 0.03


def test_what_can_be_undone_is_undone():
    n, shape = 3, (3, 32, 32)
    images = smooth_images(n, shape)
    whole = noise_images(n, shape)
    none = neutral(n)
    random = random_parameters(n)

    def there_and_back(operations, images, **values):
        there = run(images, none | values, operations)
        assert np.abs(there - images).max() > 0.05
        return run(there, none | {k: v if k in ("flip", "lumaflip") else -v for k, v in values.items()}, operations)

    ones = np.ones(n, np.float32)
    for values in (
        {"brightness": random["brightness"]}, {"log2_contrast": random["log2_contrast"]}, {"lumaflip": ones},
        {"hue": random["hue"]}, {"log2_saturation": random["log2_saturation"]},
    ):  # fmt: skip
        np.testing.assert_allclose(there_and_back(family("color"), whole, **values), whole, atol=1e-5)
    # Whole pixels: exact where nothing left the image.
    shifted = there_and_back(family("blit"), whole, xint=np.full([n, 2], 0.125, np.float32))
    np.testing.assert_allclose(shifted[..., :-8, :-8], whole[..., :-8, :-8], atol=1e-5)
    flipped = there_and_back(family("blit"), images, flip=ones)
    np.testing.assert_allclose(flipped, images, atol=0.02)
    inside = (slice(None), slice(None), slice(8, 24), slice(8, 24))
    for values in (
        {"rotate_pre": np.full(n, 0.4, np.float32)}, {"log2_scale": np.full(n, 0.3, np.float32)},
        {"log2_aniso": np.full(n, 0.2, np.float32)}, {"xfrac": np.full([n, 2], 0.03, np.float32)},
    ):  # fmt: skip
        back = there_and_back(family("geom"), images, **values)
        np.testing.assert_allclose(back[inside], images[inside], atol=0.03)
    quarters = images
    for _ in range(4):
        quarters = run(quarters, none | {"quarter_turns": ones}, family("blit"))
    np.testing.assert_allclose(quarters, images, atol=0.02)


@pytest.mark.parametrize(("shape", "impl"), [*((shape, "compiled") for shape in SHAPES), (SHAPES[2], "ref")])
def test_nothing_happens_at_p_0(shape, impl, monkeypatch):
    """Bit for bit, in values and gradients."""
    monkeypatch.setenv("SG2_OPS", impl)
    images = noise_images(5, shape)
    with tf.Graph().as_default(), create_session() as session:
        x = tf.constant(images)
        y = pipeline.augment_pipeline(x, 0.0, EVERYTHING, StatelessRandom(tf.constant([1, 2], tf.int64)))
        dy = tf.constant(noise_images(5, shape, seed=1))
        out, grad, wanted = session.run([y, tf.gradients(y, x, dy)[0], dy])
    assert np.array_equal(out, images)
    assert np.array_equal(grad, wanted)


def test_channels_that_are_no_colours_are_refused():
    with tf.Graph().as_default():
        p = Parameters(**{k: tf.constant(v) for k, v in neutral(2).items()})
        with pytest.raises(UserError, match=r"need 1, 3 \(RGB\) or 4 channels.*found 2; choose a pipe without colour"):
            color.transform(tf.zeros([2, 2, 8, 8]), p)
        assert pipeline.apply_parameters(tf.zeros([2, 2, 8, 8]), p, family("blit", "geom"), None).shape[1] == 2


def test_alpha_keeps_its_values_when_colours_change():
    images, p = noise_images(3, (4, 8, 8)), random_parameters(3)
    assert np.array_equal(run(images, p, family("color"))[:, 3], images[:, 3])


def test_filter_bank():
    bank = filter_bank()
    assert bank.shape == (4, 43)
    np.testing.assert_allclose(bank.sum(axis=0), np.eye(1, 43, 21)[0], atol=1e-12)
    np.testing.assert_allclose(bank, bank[:, ::-1], atol=1e-12)
    # The bands take turns from low to high frequencies.
    response = np.abs(np.fft.rfft(bank, 256))
    assert (np.argmax(response[:, :-1] > 0.5, axis=1) == np.sort(np.argmax(response[:, :-1] > 0.5, axis=1))).all()
    assert response[0, 0] == pytest.approx(1) and response[3, -1] == pytest.approx(1)
    np.testing.assert_allclose(response[1:, 0], 0, atol=1e-12)


def test_no_parameter_is_left_out_of_the_map():
    """Every geometric parameter moves the matrix; without any it is exactly the identity."""
    with tf.Graph().as_default(), create_session() as session:

        def matrix(**values):
            return session.run(inverse_transform(Parameters(**(neutral(1) | values)), 16, 24))[0]

        assert np.array_equal(matrix(), np.eye(2, 3))
        for name in ("flip", "quarter_turns", "log2_scale", "rotate_pre", "log2_aniso", "rotate_post"):
            assert not np.array_equal(matrix(**{name: np.ones(1, np.float32)}), np.eye(2, 3)), name
        for name in ("xint", "xfrac"):
            shift = matrix(**{name: np.array([[0.25, 0.5]], np.float32)})
            np.testing.assert_allclose(shift, [[1, 0, -6], [0, 1, -8]])


def test_draws_do_not_depend_on_what_is_in_use():
    """Switching an operation off leaves the numbers of the others."""
    with tf.Graph().as_default(), create_session() as session:
        rng = StatelessRandom(tf.constant([1, 2], tf.int64))
        some = {k: v for k, v in EVERYTHING.items() if k not in ("rotate90", "hue")}
        a, b = session.run([vars(draw_parameters(7, 0.8, ops, rng)) for ops in (EVERYTHING, some)])
    assert not b["hue"].any() and a["hue"].any()
    for name in set(a) - {"hue", "quarter_turns"}:
        assert np.array_equal(a[name], b[name]), name
