"""Several metrics of one generator: each fake and each real is looked at once, and no value changes for it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import metrics.evaluate
from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics import shared_fakes
from metrics.effnet import EffnetLite0
from metrics.evaluate import Evaluator
from metrics.inception_score import compute_inception_score
from metrics.kernel_distance import compute_kernel_distance
from metrics.path_length import PathSampling, compute_path_length
from metrics.precision_recall import compute_precision_recall
from metrics.registry import PERCEPTUAL, PROBABILITIES, MetricSpec, find_metric
from metrics.shared_fakes import SharedFakes, describe_sharing, plan_sharing
from tests.metrics.fakes import PIXELS, LinearGenerator, PixelFeatures, pixel_metric, random_dataset

FD = pixel_metric(50)
SHORT = pixel_metric(30, "fd_short")
KID = MetricSpec("kid_pixels", PIXELS, compute_kernel_distance, 50, 50, keep_as="float32")
PR = MetricSpec("pr_pixels", PIXELS, compute_precision_recall, 50, 50, keep_as="float16")
IS = MetricSpec("is_pixels", PIXELS, compute_inception_score, 40, 0, output=PROBABILITIES)
END = PathSampling("w", "end", True)
PPL = MetricSpec("ppl_pixels", PIXELS, compute_path_length, 20, output=PERCEPTUAL, path=END)
WHOLE = dataclasses.replace(PPL, name="ppl2_pixels", path=dataclasses.replace(END, crop=False))
FULL = dataclasses.replace(PPL, name="pplf_pixels", path=PathSampling("w", "full", True))
SPECS = [FD, SHORT, KID, PR, IS, PPL, WHOLE, FULL]
NAMES = [spec.name for spec in SPECS]


@pytest.fixture(autouse=True)
def pixel_features(monkeypatch):
    monkeypatch.setattr(metrics.evaluate, "load_feature_network", lambda name, **_: PixelFeatures())


class Counted(LinearGenerator):
    """Counts the images that it makes, and those that are steps of paths."""

    def __init__(self, **options):
        super().__init__(shape=(3, 8, 8), **options)
        self.made = []
        inner = self.components["synthesis"].get_output_for

        def get_output_for(dlatents, **kwargs):
            images = inner(dlatents, **kwargs)

            def count(x):
                self.made.append(len(x))
                return x

            counted = tf.numpy_function(count, [images], tf.float32)
            counted.set_shape(images.shape)
            return counted

        self.components["synthesis"].get_output_for = get_output_for


def test_one_pass_gives_every_value_that_single_passes_give(session, tmp_path):
    generator, dataset = Counted(), random_dataset(90, (3, 8, 8))
    evaluator = Evaluator(SPECS, generator, dataset, cache_dir=tmp_path / "a", minibatch_gpu=8, progress=False)
    together = list(evaluator.run_all(NAMES))
    assert [result.name for result in together] == NAMES
    # 50 fakes in seven minibatches; 20 pairs at the same places for two metrics, 20 at other places.
    assert sum(generator.made) == 50 + 2 * 20 + 2 * 20
    assert dataset.reads == 50 + 30  # the short one looks at fewer reals, whose statistics are others
    generator.made.clear()
    alone = [evaluator.run(name) for name in NAMES]
    assert sum(generator.made) == 50 + 30 + 50 + 50 + 40 + 3 * 2 * 20
    for one, other in zip(together, alone, strict=True):
        assert one.values == pytest.approx(other.values, rel=1e-4), one.name
        assert evaluator.conditions(one.name).items() <= dataclasses.asdict(one).items()
    files = [path.name.split("-")[0] for path in (tmp_path / "a").iterdir()]
    assert sorted(files) == ["features", "reals", "reals"]  # nothing of the fakes is left


@pytest.mark.parametrize("order", [[FD, KID, PR], [PR, KID, FD], [PR, FD], [KID, PR]])
def test_reals_are_looked_at_once(session, tmp_path, order):
    dataset, names = random_dataset(90), [spec.name for spec in order]
    evaluator = Evaluator(order, LinearGenerator(), dataset, cache_dir=tmp_path / "a", progress=False)
    found = {result.name: result.values for result in evaluator.run_all(names)}
    assert dataset.reads == (100 if order == [PR, FD] else 50)  # rounded features give no exact statistics
    for spec in order:
        single = Evaluator([spec], LinearGenerator(), dataset, cache_dir=tmp_path / spec.name, progress=False)
        assert single.run(spec.name).values == found[spec.name]


def test_another_generator_between_two_results_is_not_mistaken(session, tmp_path):
    """`run` outside of the series looks at the generator as it is."""
    bias = tf.Variable(0.0)
    session.run(bias.initializer)
    generator = LinearGenerator(bias=bias)
    evaluator = Evaluator([FD, KID], generator, random_dataset(90), cache_dir=tmp_path, progress=False)
    results = evaluator.run_all([FD.name, KID.name])
    first = next(results)
    tfutil.set_vars({bias: 0.5})
    assert abs(evaluator.run(FD.name).value - first.value) > 10
    results.close()


def test_an_interruption_or_nan_leaves_no_result_and_no_file(session, tmp_path):
    generator = LinearGenerator(bias=np.nan)
    evaluator = Evaluator([FD, KID], generator, random_dataset(90), cache_dir=tmp_path / "cache", progress=False)
    results = evaluator.run_all([FD.name, KID.name])
    with pytest.raises(UserError, match="the network made images with values that are not finite"):
        next(results)
    assert next(results, None) is None
    # The reals were looked at before, and that holds for the next time.
    assert {path.name.split("-")[0] for path in (tmp_path / "cache").iterdir()} <= {"reals", "features"}


def test_a_disk_without_room_costs_time_only(session, tmp_path, monkeypatch, capsys):
    class Full(shared_fakes._Rows):
        def append(self, rows):
            raise shared_fakes._NoRoom("no space left on device")

    generator, dataset = LinearGenerator(), random_dataset(90)
    evaluator = Evaluator([FD, KID], generator, dataset, cache_dir=tmp_path, progress=False)
    expected = [evaluator.run(name).values for name in (FD.name, KID.name)]
    monkeypatch.setattr(shared_fakes, "_Rows", Full)
    assert [result.values for result in evaluator.run_all([FD.name, KID.name])] == expected
    assert capsys.readouterr().err.count("fakes are not shared but made for each metric: no space left") == 1


def test_what_is_shared_is_told():
    specs = [find_metric(name) for name in ("fid50k", "kid5k", "is50k", "pr50k3", "ppl_wend", "ppl2_wend", "ppl_zend")]
    one, other = describe_sharing(specs)
    assert one.startswith("shared by fid50k, kid5k, is50k, pr50k3: 50000 fakes, made once and looked at once by ")
    assert "inception-2015-12-05 (features, probabilities); vgg16 (features)" in one
    assert "shared by ppl_wend, ppl2_wend: 50000 pairs" in other and "vgg16_lpips (face crop, whole images)" in other
    assert describe_sharing([specs[0], specs[4], specs[6]]) == [] == describe_sharing([find_metric("ls")] * 2)
    (counts,) = plan_sharing([find_metric("fid5k"), find_metric("pr1k3")]).values()
    assert sorted(counts.values()) == [1000, 5000]


def test_rows_come_back_as_they_went(tmp_path):
    rng, counts = np.random.default_rng(0), {("n", "features"): 10_000, ("n", "probabilities"): 3}
    rows = {("n", "features"): rng.random((10_007, 2), np.float32), ("n", "probabilities"): rng.random((10_007, 1))}
    series = next(iter(plan_sharing([FD, KID])))

    def fill(asked, wanted):
        assert (asked, wanted) == (series, counts)
        for begin in range(0, 10_007, 11):
            yield {key: x[begin : begin + 11] for key, x in rows.items() if begin < wanted[key]}

    shared = SharedFakes({series: counts}, fill, tmp_path / "new")
    for output, count, expected in (("features", 9_000, 9_000), ("features", 10_000, 10_000), ("probabilities", 3, 3)):
        spec = MetricSpec("m", "n", compute_kernel_distance, count, output=output)
        found = np.concatenate(list(shared.read(spec)))
        np.testing.assert_array_equal(found, rows["n", output][:expected])
    assert shared.read(PPL) is None and list((tmp_path / "new").iterdir()) == []
    shared.close()
    assert shared.read(FD) is None


def test_features_and_probabilities_of_a_network_are_one_pass(session):
    network = EffnetLite0()
    images = tf.zeros([1, 3, 32, 32])
    for output in ("features", "probabilities", "features"):
        getattr(network, output)(images)
    convolutions = [op for op in tf.get_default_graph().get_operations() if op.type == "Conv2D"]
    assert len(convolutions) == 33
