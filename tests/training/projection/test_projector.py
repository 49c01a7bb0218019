"""Projection with a tiny generator: it finds its own images again, is reproducible, and refuses what it cannot do."""

import numpy as np
import pytest

from dnnlib.util import UserError
from tests.projection_models import pixel_embedding, tiny_networks
from training.projection.options import ProjectionOptions


@pytest.fixture(scope="module")
def Gs():
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.tfutil import tf

    with tf.Graph().as_default(), tfutil.create_session():
        yield tiny_networks()[2]


@pytest.fixture(scope="module")
def statistics(Gs):
    from training.projection.w_space import measure_w

    return measure_w(Gs, num=2000)


@pytest.fixture(scope="module")
def make(Gs, statistics):
    """Projectors by their options, each made once."""
    from training.projection.projector import Projector

    made = {}

    def make(batch=2, **options):
        key = batch, *options.items()
        if key not in made:
            made[key] = Projector(Gs, pixel_embedding, statistics, ProjectionOptions(**options), batch)
        return made[key]

    return make


@pytest.fixture(scope="module")
def own(Gs):
    """Two images of the generator and their w."""
    latents = np.random.RandomState(0).randn(2, 8)
    w = Gs.components.mapping.run(latents, None)
    return Gs.components.synthesis.run(w, randomize_noise=False), w


RUN = dict(steps=300, noise_weight=0.1)  # the distance is small, too


def test_an_image_of_the_generator_is_found_again(make, own, statistics):
    targets, w = own
    found = make(**RUN).project(targets, [0, 1])
    direct = np.square(found.images - targets).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found.distances, direct, rtol=1e-3)
    assert found.history.shape == (300, 2)
    assert (found.distances < 0.05 * found.history[0]).all(), (found.history[0], found.distances)
    # The w, too: much nearer than where the search began.
    error = np.linalg.norm(found.dlatents[:, 0] - w[:, 0], axis=1)
    assert (error < 0.5 * np.linalg.norm(statistics.mean - w[:, 0], axis=1)).all()
    assert (found.dlatents == found.dlatents[:, :1]).all()


def test_w_and_noise_give_the_image(Gs, make, own):
    from training.generation.keys import noise_kept, set_noise

    found = make(**RUN).project(own[0][:1], [4])
    with noise_kept(Gs) as buffers:
        set_noise({v: found.noise[v.op.name.split("/")[-1]] for v in buffers})
        again = Gs.components.synthesis.run(found.dlatents, randomize_noise=False)
    np.testing.assert_allclose(again, found.images, atol=1e-4)
    for name, noise in found.noise.items():
        np.testing.assert_allclose([noise.mean(), noise.std()], [0, 1], atol=1e-4, err_msg=name)


def test_same_seed_same_result_in_any_batch(make, own):
    targets, short = own[0], dict(steps=20, w_noise=1.0)
    both = make(**short).project(targets, [7, 8])
    again = make(**short).project(targets, [7, 8])
    np.testing.assert_array_equal(both.dlatents, again.dlatents)
    np.testing.assert_array_equal(both.noise["noise2"], again.noise["noise2"])
    alone = make(**short).project(targets[1:], [8])
    assert alone.dlatents.shape == (1, 6, 8)
    np.testing.assert_allclose(alone.dlatents[0], both.dlatents[1], atol=1e-3)
    other_id = make(**short).project(targets[1:], [9])
    other_seed = make(**short, seed=304).project(targets[1:], [8])
    for other in (other_id, other_seed):
        assert np.abs(other.dlatents - alone.dlatents).max() > 0.02
        assert np.abs(other.noise["noise2"] - alone.noise["noise2"]).max() > 0.5


def test_w_plus_comes_nearer(make):
    target = np.random.RandomState(3).uniform(-1, 1, [1, 3, 16, 16]).astype(np.float32)
    w = make(**RUN).project(target, [0])
    w_plus = make(1, **RUN, w_plus=True).project(target, [0])
    assert w_plus.distances[0] < w.distances[0]
    assert np.abs(w_plus.dlatents - w_plus.dlatents[:, :1]).max() > 0.1


def test_noise_can_stay(make, own):
    projector = make(steps=20, w_noise=1.0, optimize_noise=False)
    first, other = (projector.project(targets, [7, 8]) for targets in (own[0], own[0][::-1]))
    moved = make(steps=20, w_noise=1.0).project(own[0], [7, 8])
    assert np.abs(first.dlatents - other.dlatents).max() > 0.02
    np.testing.assert_array_equal(first.noise["noise1"], other.noise["noise1"])
    assert np.abs(first.noise["noise1"] - moved.noise["noise1"]).max() > 0.1


def test_calls_on_the_way(make, own):
    images, steps = [], []
    make(steps=20, w_noise=1.0).project(
        own[0],
        [7, 8],
        {10, 20},
        lambda step, found: images.append((step, found)),
        lambda step, distances: steps.append((step, distances)),
    )
    assert [step for step, _ in steps] == list(range(1, 21))
    assert [step for step, _ in images] == [10, 20]
    assert images[0][1].shape == (2, 3, 16, 16)
    assert np.abs(images[0][1] - images[1][1]).max() > 0.01


def test_bytes_are_pixels(make, own):
    pixels = np.rint(np.clip(own[0] * 127.5 + 127.5, 0, 255)).astype(np.uint8)
    short = dict(steps=20, w_noise=1.0)
    found = make(**short).project(pixels, [7, 8])
    as_floats = make(**short).project(pixels / np.float32(127.5) - 1, [7, 8])
    np.testing.assert_array_equal(found.dlatents, as_floats.dlatents)


def test_refusals(make):
    projector = make(steps=20, w_noise=1.0)
    for shape, ids in (((1, 3, 8, 8), [0]), ((3, 3, 16, 16), [0, 1, 2]), ((2, 3, 16, 16), [0])):
        with pytest.raises(UserError, match=r"expected 1 to 2 of shape \[3, 16, 16\]"):
            projector.project(np.zeros(shape, np.float32), ids)
    with pytest.raises(UserError, match="not finite at step 0"):
        projector.project(np.full([1, 3, 16, 16], np.nan, np.float32), [0])


def test_w_statistics_by_hand(Gs, statistics):
    w = Gs.components.mapping.run(np.random.RandomState(123).randn(2000, 8), None)[:, 0].astype(np.float64)
    np.testing.assert_allclose(statistics.mean, w.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(statistics.std, np.sqrt(w.var(axis=0).sum()), rtol=1e-5)


def test_w_statistics_of_classes(session):
    from training.projection.w_space import measure_w

    Gs = tiny_networks(label_size=3, resolution=8)[2]
    of_class = [measure_w(Gs, np.eye(3, dtype=np.float32)[index], num=1500).mean for index in range(3)]
    everything = measure_w(Gs, num=4500).mean
    assert np.abs(of_class[0] - of_class[1]).max() > 0.1
    np.testing.assert_allclose(everything, np.mean(of_class, axis=0), atol=0.15)


def test_network_without_noise_in_low_precision(session):
    """An ADA network with labels, bfloat16 layers and no noise inputs: w alone moves, in float32."""
    from dnnlib.tflib import Network
    from training.projection.projector import Projector
    from training.projection.w_space import WStatistics

    sizes = dict(num_channels=1, resolution=8, label_size=2, fmap_base=32, fmap_max=8, latent_size=4, dlatent_size=4)
    options = dict(mapping_layers=1, use_noise=False, num_fp16_res=2, conv_clamp=256)
    Gs = Network("Gs", func_name="training.networks.G_main", **sizes, **options)
    target = np.random.RandomState(0).uniform(-1, 1, [1, 1, 8, 8]).astype(np.float32)
    projector = Projector(Gs, pixel_embedding, WStatistics(np.ones(4, np.float32), 1.0), ProjectionOptions(steps=30))
    found = projector.project(target, [0])
    assert found.noise == {}
    assert found.distances[0] < found.history[0, 0]
    full = Gs.components.synthesis.run(found.dlatents, num_fp16_res=0)
    np.testing.assert_allclose(full, found.images, atol=1e-5)


def test_noise_on_w(make, own, statistics, monkeypatch):
    """In standard deviations of w, less at every step, and other numbers."""
    from training.projection import projector as module

    projector, feeds, run = make(steps=8, w_noise=0.5, w_noise_ramp=0.5), [], module.tfutil.run

    def recorded(fetches, feed=None, **options):
        if feed and projector._rate in feed:
            feeds.append((feed[projector._w_noise], feed[projector._seeds].tolist()))
        return run(fetches, feed, **options)

    monkeypatch.setattr(module.tfutil, "run", recorded)
    projector.project(own[0], [0, 1])
    expected = [statistics.std * 0.5 * max(1 - step / 8 / 0.5, 0) ** 2 for step in range(8)]
    np.testing.assert_allclose([noise for noise, _ in feeds], expected, rtol=1e-6)
    pairs = [tuple(pair) for _, seeds in feeds for pair in seeds]
    assert len(set(pairs)) == len(pairs) == 16
