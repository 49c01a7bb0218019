"""All metrics through one evaluator: definitions, caches, interruptions, memory."""

from __future__ import annotations

import dataclasses
import gc

import numpy as np
import psutil
import pytest

import metrics.evaluate
from dnnlib.submission.stop import Stopped
from dnnlib.tflib import tfutil
from dnnlib.tflib.network import Network
from dnnlib.util import UserError
from metrics.evaluate import Evaluator, evaluate
from metrics.feature_names import EFFNET, INCEPTION, VGG16, VGG16_LPIPS
from metrics.features import load_feature_network
from metrics.frechet import FeatureStatistics, compute_frechet, frechet_distance
from metrics.inception_score import compute_inception_score
from metrics.kernel_distance import compute_kernel_distance, draw_subsets, polynomial_mmd2
from metrics.noise import mirrored
from metrics.path_length import PathSampling, compute_path_length
from metrics.precision_recall import compute_precision_recall, precision_recall
from metrics.registry import FEATURES, PERCEPTUAL, PROBABILITIES, MetricSpec, find_metric
from metrics.variants import VARIANTS, find_variant
from tests.metrics.fakes import PIXELS, LinearGenerator, PixelFeatures, pixel_metric, random_dataset

KID = MetricSpec("kid_pixels", PIXELS, compute_kernel_distance, 50, 50)
PR = MetricSpec("pr_pixels", PIXELS, compute_precision_recall, 50, 50, keep_as="float16")
IS = MetricSpec("is_pixels", PIXELS, compute_inception_score, 50, 0, output=PROBABILITIES)
PPL = MetricSpec(
    "ppl_pixels", PIXELS, compute_path_length, 20, output=PERCEPTUAL, path=PathSampling("w", "full", False)
)
ALL_SPECS = [pixel_metric(50), KID, PR, IS, PPL]


@pytest.fixture(autouse=True)
def pixel_features(monkeypatch):
    monkeypatch.setattr(metrics.evaluate, "load_feature_network", lambda name, **_: {PIXELS: PixelFeatures()}[name])


@pytest.fixture
def measure(session, tmp_path):
    def run(*args, **options):
        return evaluate(*args, **{"progress": False, "cache_dir": tmp_path, **options})

    return run


def fake_features(tmp_path, generator, dataset, spec=None):
    evaluator = Evaluator([spec or KID], generator, dataset, cache_dir=tmp_path, progress=False)
    return np.concatenate(list(evaluator.fake_features(spec or KID)))


@pytest.mark.parametrize(
    ("name", "network", "output", "num_fake", "num_real", "mirrors"),
    [
        ("fid50k", INCEPTION, FEATURES, 50_000, 50_000, True),
        ("fid50k_full", INCEPTION, FEATURES, 50_000, None, False),
        ("fid2k_full", INCEPTION, FEATURES, 2_000, None, False),
        ("kid50k", INCEPTION, FEATURES, 50_000, 50_000, True),
        ("kid50k_full", INCEPTION, FEATURES, 50_000, 1_000_000, False),
        ("is50k", INCEPTION, PROBABILITIES, 50_000, 0, True),
        ("pr50k3", VGG16, FEATURES, 50_000, 50_000, True),
        ("pr50k3_full", VGG16, FEATURES, 50_000, 200_000, False),
        ("ppl_zfull", VGG16_LPIPS, PERCEPTUAL, 50_000, 0, True),
        ("ppl2_wend", VGG16_LPIPS, PERCEPTUAL, 50_000, 0, True),
        ("ppl1k_wend", VGG16_LPIPS, PERCEPTUAL, 1_000, 0, True),
        ("ls", None, "attributes", 200_000, 0, True),
        ("fd50k_full_effnet", EFFNET, FEATURES, 50_000, None, False),
        ("kd5k_effnet", EFFNET, FEATURES, 5_000, 5_000, True),
        ("is50k_effnet", EFFNET, PROBABILITIES, 50_000, 0, True),
        ("pr50k3_effnet", EFFNET, FEATURES, 50_000, 50_000, True),
        ("ppl_wend_effnet", EFFNET, PERCEPTUAL, 50_000, 0, True),
    ],
)
def test_published_definitions(name, network, output, num_fake, num_real, mirrors):
    spec = find_metric(name)
    assert (spec.name, spec.feature_network, spec.output) == (name, network, output)
    assert (spec.num_fake, spec.num_real, spec.full) == (num_fake, num_real, not mirrors)


@pytest.mark.parametrize("name", ["ppl_zfull", "ppl_wfull", "ppl_zend", "ppl_wend", "ppl2_wend"])
def test_paths(name):
    spec, short = find_metric(name), name.split("_")[1]
    assert spec.path == PathSampling(short[0], short[1:], name != "ppl2_wend")
    assert find_metric(name + "_effnet").path == spec.path and not spec.higher_is_better


def test_what_is_better():
    better = {
        name for name in ("fid50k", "kid50k", "is50k", "pr50k3", "ppl_wend", "ls") if find_metric(name).higher_is_better
    }
    assert better == {"is50k", "pr50k3"}


def test_kernel_distance_of_images(measure, tmp_path):
    generator, dataset = LinearGenerator(), random_dataset(90)
    result = measure(KID, generator, dataset)
    fakes = fake_features(tmp_path, generator, dataset)
    reals = PixelFeatures().numpy_features(dataset.images[:50])
    subsets = draw_subsets(50, 50)
    expected = np.mean([polynomial_mmd2(reals[a], fakes[b]) for a, b in zip(subsets.reals, subsets.fakes, strict=True)])
    assert result.value == pytest.approx(expected, rel=1e-4)
    assert (result.num_real, result.num_fake) == (50, 50)


def test_precision_and_recall_of_images(measure, tmp_path):
    generator, dataset = LinearGenerator(), random_dataset(90)
    result = measure(PR, generator, dataset, mirror=True)
    images = dataset.images[:50].copy()
    flip = mirrored(np.arange(50))
    images[flip] = images[flip][..., ::-1]
    sides = PixelFeatures().numpy_features(images), fake_features(tmp_path, generator, dataset)
    expected = precision_recall(*(x.astype(np.float32).astype(np.float16) for x in sides))
    assert tuple(result.values.values()) == expected
    assert list(result.values) == ["pr_pixels_precision", "pr_pixels_recall"]


def test_inception_score_of_images(measure, tmp_path):
    generator, dataset = LinearGenerator(), random_dataset(90)
    result = measure(IS, generator, dataset, mirror=True)
    p = fake_features(tmp_path, generator, dataset, IS)
    assert p.shape == (50, 3)
    scores = [np.exp(np.sum(q * np.log(q / q.mean(axis=0)), axis=1).mean()) for q in np.split(p.astype(np.float64), 10)]
    assert result.values["is_pixels_mean"] == pytest.approx(np.mean(scores), rel=1e-5)
    assert result.values["is_pixels_std"] == pytest.approx(np.std(scores), rel=1e-3)
    # It looks at no real image.
    assert (result.num_real, result.mirror, dataset.reads) == (0, False, 0)
    assert result.notes() == ["is_pixels looks at 50 fakes: compare it with itself only"]


def test_full_sets_are_all_reals_and_never_mirrored(measure):
    generator, dataset = LinearGenerator(), random_dataset(90)
    full = dataclasses.replace(pixel_metric(50), num_real=None, full=True)
    mirrored_run = measure(full, generator, dataset, mirror=True)
    assert (mirrored_run.num_real, mirrored_run.mirror, dataset.reads) == (90, False, 90)
    assert measure(full, generator, dataset, mirror=False).values == mirrored_run.values
    assert measure(dataclasses.replace(full, num_real=70), generator, dataset).num_real == 70


def test_variants_divide_covariances_as_published(session, tmp_path):
    generator, dataset = LinearGenerator(), random_dataset(40)
    found = {
        name: evaluate(pixel_metric(40), generator, dataset, variant=name, cache_dir=tmp_path, progress=False)
        for name in VARIANTS
    }
    fakes = fake_features(tmp_path, generator, dataset, pixel_metric(40)).astype(np.float64)
    reals = PixelFeatures().numpy_features(dataset.images)

    def expected(real_ddof, fake_ddof):
        sides = (
            FeatureStatistics(x.mean(axis=0), np.cov(x, rowvar=False, ddof=d), len(x))
            for x, d in ((fakes, fake_ddof), (reals, real_ddof))
        )
        return pytest.approx(frechet_distance(*sides), rel=1e-5)

    assert found["sg2"].value == found["corrected"].value == expected(1, 1)
    assert found["ada"].value == expected(0, 1) and found["pt"].value == expected(0, 0)
    assert len({r.value for r in found.values()}) == 3
    # StyleGAN2 has no metrics named `_full`: they are those of ADA, unless another variant is asked for.
    full = dataclasses.replace(pixel_metric(40, "fd_full"), num_real=None, full=True)
    for name, ddof in (("sg2", (0, 1)), ("corrected", (1, 1)), ("ada", (0, 1)), ("pt", (0, 0))):
        value = evaluate(full, generator, dataset, variant=name, cache_dir=tmp_path, progress=False).value
        assert value == expected(*ddof), name
    assert {name: r.variant for name, r in found.items()} == {name: name for name in VARIANTS}
    assert any("by the conventions of pt" in note for note in found["pt"].notes())
    assert dataset.reads == 40  # the statistics that are kept serve all
    with pytest.raises(UserError, match="unknown variant 'sg3': did you mean 'sg2'"):
        find_variant("sg3")


@pytest.mark.parametrize("spec", [KID, PR, IS], ids=lambda spec: spec.name)
@pytest.mark.parametrize("options", [{"minibatch_gpu": 7}, {"num_gpus": 3, "minibatch_gpu": 5}], ids=str)
def test_batches_and_towers_make_no_difference(measure, tmp_path, spec, options):
    generator, dataset = LinearGenerator(label_size=2), random_dataset(90, label_size=2)
    whole = measure(spec, generator, dataset, cache_dir=tmp_path / "a")
    parts = measure(spec, generator, dataset, cache_dir=tmp_path / "b", **options)
    assert list(parts.values.values()) == pytest.approx(list(whole.values.values()), rel=1e-4)


def test_features_of_reals_are_kept_and_shared(measure, tmp_path):
    generator, dataset = LinearGenerator(), random_dataset(90)
    first = measure(KID, generator, dataset)
    assert dataset.reads == 50 and len(list(tmp_path.glob("features-*.npy"))) == 1
    assert measure(KID, generator, dataset).values == first.values and dataset.reads == 50
    # A Fréchet distance of the same reals takes its statistics from the features.
    with_features = measure(pixel_metric(50), generator, dataset)
    assert dataset.reads == 50
    assert measure(pixel_metric(50), generator, dataset, cache_dir=tmp_path / "b").values == with_features.values
    # So do metrics of rounded features, which are the same rounded.
    measure(PR, generator, dataset)
    assert dataset.reads == 50 + 50 and len(list(tmp_path.glob("features-*.npy"))) == 1
    # Another count or mirroring gives new ones.
    measure(dataclasses.replace(KID, num_real=40), generator, dataset)
    measure(KID, generator, dataset, mirror=True)
    assert dataset.reads == 50 + 50 + 40 + 50 and len(list(tmp_path.glob("features-*.npy"))) == 3


def test_nothing_is_added_after_construction(session, tmp_path):
    evaluator = Evaluator(ALL_SPECS, LinearGenerator(), random_dataset(), cache_dir=tmp_path, progress=False)
    session.graph.finalize()
    for spec in ALL_SPECS:
        assert evaluator.run(spec.name).values == evaluator.run(spec.name).values


@pytest.mark.parametrize("spec", [KID, PR, IS], ids=lambda spec: spec.name)
def test_images_that_are_not_finite(measure, tmp_path, spec):
    with pytest.raises(UserError, match=r"not finite \(fakes 0 to 31\): the training has diverged"):
        measure(spec, LinearGenerator(bias=np.nan), random_dataset(), minibatch_gpu=32)


def test_features_that_are_not_finite_are_not_kept(measure, tmp_path, monkeypatch):
    class Broken(PixelFeatures):
        def features(self, images):
            return super().features(images) * np.inf

    monkeypatch.setattr(metrics.evaluate, "load_feature_network", lambda name, **_: Broken())
    with pytest.raises(UserError, match="the features of real 0 are not finite"):
        measure(KID, LinearGenerator(), random_dataset())
    assert list(tmp_path.iterdir()) == []


def test_a_stop_that_is_asked_for_ends_a_metric(session, tmp_path, capsys):
    evaluator = Evaluator(
        [KID], LinearGenerator(), random_dataset(), cache_dir=tmp_path, minibatch_gpu=10, progress=False
    )
    answers = iter([False, False, True])
    evaluator.interrupted = lambda: next(answers)
    with pytest.raises(Stopped):
        evaluator.run("kid_pixels")
    assert capsys.readouterr().err == "interrupted at 20 of 50 reals (pixels): no result\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_says_so_and_leaves_nothing(session, tmp_path, monkeypatch, capsys, interruption):
    dataset = random_dataset()
    evaluator = Evaluator([KID], LinearGenerator(), dataset, cache_dir=tmp_path, minibatch_gpu=10, progress=False)
    calls, run = [], tfutil.run

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            raise interruption
        return run(*args)

    monkeypatch.setattr(tfutil, "run", interrupted)
    with pytest.raises(interruption):
        evaluator.run("kid_pixels")
    assert capsys.readouterr().err == "interrupted at 20 of 50 reals (pixels): no result\n"
    assert list(tmp_path.iterdir()) == []
    # Nothing is left in the way of another attempt.
    assert np.isfinite(evaluator.run("kid_pixels").value)


def test_a_network_without_what_a_metric_needs(session):
    class FeaturesOnly:
        name, num_features, weights_sha256 = "x", 3, "none"

    spec = MetricSpec("is_x", PIXELS, compute_inception_score, 50, output=PROBABILITIES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics.evaluate, "load_feature_network", lambda name, **_: FeaturesOnly())
        with pytest.raises(UserError, match="is_x: the feature network pixels has no probabilities"):
            Evaluator([spec], LinearGenerator(), random_dataset())


def test_weights_reach_the_networks(session, monkeypatch):
    seen = []
    monkeypatch.setattr(
        metrics.evaluate, "load_feature_network", lambda name, **given: seen.append((name, given)) or PixelFeatures()
    )
    options = dict(inception="a.pb", weights={"vgg16": "source"}, progress=False)
    Evaluator([KID], LinearGenerator(), random_dataset(), **options)
    assert seen == [(PIXELS, {"inception": "a.pb", "weights": {"vgg16": "source"}})]


def test_twenty_evaluations_do_not_grow(session, tmp_path):
    """As a training does: one evaluator, a new snapshot each time; one by one, and sharing what they look at."""
    sizes = dict(num_channels=3, resolution=16, fmap_base=128, fmap_max=16, latent_size=16, dlatent_size=16)
    Gs = Network("Gs", func_name="G_main", mapping_layers=2, mapping_fmaps=16, **sizes)
    shape = (3, 16, 16)
    specs = [dataclasses.replace(spec, num_fake=200, num_real=spec.num_real and 200) for spec in ALL_SPECS]
    options = dict(cache_dir=tmp_path, progress=False, minibatch_gpu=100)  # few steps cost less than many
    evaluator = Evaluator(specs, Gs, random_dataset(200, shape), **options)
    session.graph.finalize()
    process = psutil.Process()

    def all_of_them():
        for spec in specs:
            evaluator.run(spec.name)
        assert len(list(evaluator.run_all([spec.name for spec in specs]))) == len(specs)

    for _ in range(5):  # TensorFlow's and numpy's pools of memory fill up at first.
        all_of_them()
    gc.collect()
    before = process.memory_info().rss
    for _ in range(10):  # twenty evaluations of each metric
        all_of_them()
    gc.collect()
    assert (process.memory_info().rss - before) / 2**20 < 20


def test_frechet_distance_in_the_registry_is_the_published_one():
    assert find_metric("fid50k").compute is compute_frechet


EFFNET_SPECS = [
    dataclasses.replace(find_metric(name), num_fake=12, num_real=find_metric(name).num_real and 12)
    for name in ("fd5k_effnet", "kd5k_effnet", "is50k_effnet", "pr50k3_effnet", "ppl_zfull_effnet", "ppl2_wend_effnet")
]


def test_every_output_of_a_real_feature_network(session, tmp_path, monkeypatch):
    monkeypatch.setattr(metrics.evaluate, "load_feature_network", load_feature_network)
    shape = (3, 16, 16)
    options = dict(cache_dir=tmp_path, progress=False, minibatch_gpu=6)
    evaluator = Evaluator(EFFNET_SPECS, LinearGenerator(shape), random_dataset(30, shape), **options)
    session.graph.finalize()
    results = {spec.name: evaluator.run(spec.name) for spec in EFFNET_SPECS}
    assert all(result.feature_network == EFFNET and len(result.weights_sha256) == 64 for result in results.values())
    assert results["fd5k_effnet"].value > 0 and np.isfinite(results["kd5k_effnet"].value)
    assert 1 <= results["is50k_effnet"].value <= 1000
    assert all(0 <= value <= 1 for value in results["pr50k3_effnet"].values.values())
    assert results["ppl_zfull_effnet"].value > 0 and results["ppl2_wend_effnet"].value > 0
    assert results["ppl_zfull_effnet"].resize.startswith("face crop, ")
