"""Linear separability: entropies by hand, half-spaces that are and are not there, classifiers and tables."""

from __future__ import annotations

import numpy as np
import pytest

import metrics.evaluate
from dnnlib.tflib import pickles, tfutil
from dnnlib.tflib.network import Network
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.attributes import load_attributes
from metrics.errors import NotFinite
from metrics.evaluate import Evaluator
from metrics.inputs import AttributeSamples
from metrics.noise import labels_of, latents_of
from metrics.registry import ATTRIBUTES, MetricSpec
from metrics.separability import (
    compute_separability,
    conditional_entropy,
    predict_linearly,
    separability,
    surest_half,
)
from tests.metrics.fakes import LATENT_SIZE, LinearGenerator, random_dataset


def test_entropy_by_hand():
    true, false = np.ones(8, bool), np.zeros(8, bool)
    half = np.arange(8) < 4
    assert conditional_entropy(half, half) == 0  # predictions tell the answer
    assert conditional_entropy(half, ~half) == 0  # as their opposite does
    assert conditional_entropy(half, true) == conditional_entropy(half, false) == 1  # nothing: one bit
    assert conditional_entropy(half, np.arange(8) % 2 == 0) == 1  # independent
    # Prediction true (5 images): 4 of 5; false (3 images): none.
    answers = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    predictions = np.array([1, 1, 1, 1, 1, 0, 0, 0], bool)
    expected = 5 / 8 * -(0.8 * np.log2(0.8) + 0.2 * np.log2(0.2))
    assert conditional_entropy(answers, predictions) == pytest.approx(expected, abs=1e-12)


def test_the_surest_half():
    np.testing.assert_array_equal(sorted(surest_half(np.array([0.1, -5, 3, -0.2, 0.3]))), [1, 2])
    np.testing.assert_array_equal(surest_half(np.array([0.5, -0.5, 0.5, -0.5])), [0, 1])


def half_spaces(rng, count=600, size=5, attributes=3):
    latents = rng.standard_normal((count, size)).astype(np.float32)
    return latents, (latents @ rng.standard_normal((size, attributes))).astype(np.float32)


def test_half_spaces_are_separable():
    latents, scores = half_spaces(np.random.default_rng(0))
    assert separability(latents, scores) == pytest.approx(1, abs=0.02)
    # Also away from the origin.
    assert separability(latents + 1, scores) == pytest.approx(1, abs=0.05)


def test_attributes_that_have_nothing_to_do_with_the_latents():
    rng = np.random.default_rng(1)
    latents, scores = rng.standard_normal((20_000, 4)), rng.choice([-1.0, 1.0], (20_000, 3))
    assert separability(latents, scores) == pytest.approx(2**3, rel=0.01)


def test_attribute_of_a_circle_is_not_linear():
    # |z|² > 2 is true for exp(-1) of the plane, and no half-plane knows more.
    rng = np.random.default_rng(2)
    latents = rng.standard_normal((40_000, 2))
    answers = np.sum(latents**2, axis=1) > 2
    p = answers.mean()
    expected = 2 ** -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    # Equal sureness keeps the first half of the samples.
    assert separability(latents, np.where(answers, 1.0, -1.0)[:, None]) == pytest.approx(expected, rel=0.02)


def test_known_share_of_noise():
    # A tenth of the answers are turned: H = H(0.1) for each of two attributes.
    rng = np.random.default_rng(3)
    latents = rng.standard_normal((40_000, 3))
    scores = np.sign(latents[:, :2]) * np.where(rng.random((40_000, 2)) < 0.1, -1, 1)
    h = -(0.1 * np.log2(0.1) + 0.9 * np.log2(0.9))
    assert separability(latents, scores) == pytest.approx(2 ** (2 * h), rel=0.03)


def test_unsure_images_do_not_count():
    # The unsure half has random answers; it is dropped, and the rest is separable.
    rng = np.random.default_rng(4)
    latents = rng.standard_normal((2000, 3))
    sure = np.arange(2000) < 1000
    scores = np.where(sure, 5 * np.sign(latents[:, 0]), 0.1 * rng.choice([-1, 1], 2000))[:, None]
    assert separability(latents, scores) == pytest.approx(1, abs=0.05)


def test_one_answer_alone():
    latents = np.random.default_rng(5).standard_normal((10, 2))
    for answers in (np.ones(10, bool), np.zeros(10, bool)):
        np.testing.assert_array_equal(predict_linearly(latents, answers), answers)
    assert separability(latents, np.ones((10, 2))) == 1


def test_metric_of_its_inputs(capsys):
    latents, scores = half_spaces(np.random.default_rng(6))
    noise = np.random.default_rng(7).standard_normal(latents.shape).astype(np.float32)

    class Inputs:
        scores, progress, num_fake = None, True, len(latents)

        def attribute_samples(self):
            for part in np.array_split(np.arange(len(latents)), 4):
                yield AttributeSamples(noise[part], latents[part], self.scores[part])

    inputs = Inputs()
    inputs.scores = scores
    values = compute_separability(inputs)
    assert values["_w"] == separability(latents, scores) and values["_w"] < 1.1
    assert values["_z"] == separability(noise, scores) and values["_z"] > 6
    bars = capsys.readouterr().err  # 40 attributes take minutes
    assert "planes in z" in bars and "planes in w" in bars
    inputs.scores = np.where(np.arange(len(scores))[:, None] == 7, np.nan, scores)
    with pytest.raises(UserError, match="classifier 0 gives a score for fake 7 that is not finite"):
        compute_separability(inputs)


def write_table(path, probabilities, names=("hat", "smile"), order=None):
    order = range(len(probabilities)) if order is None else order
    lines = [",".join(["sample", *names])] + [",".join(map(str, [i, *probabilities[i]])) for i in order]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_table(tmp_path):
    p = np.array([[0, 1], [0.25, 0.5], [1, 0.75]])
    found = load_attributes(write_table(tmp_path / "a.csv", p, order=[2, 0, 1]))
    assert found.names == ["hat", "smile"] and not found.classifiers and len(found.sha256) == 64
    np.testing.assert_array_equal(found.scores, (p - 0.5).astype(np.float32))
    assert found.description == "2 attribute columns"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "expected the column sample and one per attribute"),
        ("sample\n1\n", "expected the column sample and one per attribute"),
        ("", "expected the column sample"),
        ("sample,a,a\n0,1,1\n", "the column sample and one per attribute, found"),
        ("sample,a\n0,x\n", "line 2: expected 2 numbers, found"),
        ("sample,a\n0\n", "line 2: expected 2 numbers, found"),
        ("sample,a\n0,1.5\n", "line 2: expected probabilities from 0 to 1"),
        ("sample,a\n0,nan\n", "line 2: expected probabilities from 0 to 1"),
        ("sample,a\n0,1\n0,1\n", "line 3: expected the index of another sample, found 0"),
        ("sample,a\n0,1\n2,1\n", "2 samples, but none with the index 1"),
        ("sample,a\n", "0 samples, but none with the index 0"),
    ],
)
def test_broken_tables(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        load_attributes(tmp_path / "a.csv")


def test_places_that_are_no_attributes(tmp_path):
    with pytest.raises(UserError, match="give --attributes FOLDER"):
        load_attributes(None)
    with pytest.raises(UserError, match=r"no \*.pkl in this folder"):
        load_attributes(tmp_path)
    for content in ("sample,a\n0,1\n".encode("utf-16"), "sample,ä\n0,1\n".encode("latin-1")):
        (tmp_path / "b.csv").write_bytes(content)
        with pytest.raises(UserError, match=r"b\.csv: cannot be read as a table of UTF-8 text"):
            load_attributes(tmp_path / "b.csv")
    with pytest.raises(UserError, match="expected a folder of classifiers or a file .csv"):
        load_attributes(tmp_path / "gone.csv")


SIZES = dict(num_channels=3, resolution=8, fmap_base=64, fmap_max=8)


def ls_metric(count):
    return MetricSpec("ls_small", None, compute_separability, count, output=ATTRIBUTES)


@pytest.fixture
def classifiers(tmp_path):
    """Two small discriminators as files."""
    folder = tmp_path / "classifiers"
    folder.mkdir()
    with tf.Graph().as_default(), tfutil.create_session():
        for index in range(2):
            tf.set_random_seed(index)
            network = Network("C", func_name="D_stylegan2", mbstd_group_size=1, **SIZES)
            pickles.save(network, folder / f"classifier-{index:02d}.pkl")
    return folder


def test_classifiers_look_at_shrunk_fakes_without_labels(session, tmp_path, classifiers):
    """Scores from the graph against scores of images that are made, shrunk and classified one by one."""
    shape, count = (3, 16, 16), 10
    generator, dataset = LinearGenerator(shape, label_size=3), random_dataset(20, shape, label_size=3)
    generator.strength = 0.0
    options = dict(attributes=classifiers, cache_dir=tmp_path, progress=False, minibatch_gpu=4, num_gpus=2, seed=5)
    found = {}
    for variant in ("sg2", "corrected"):
        evaluator = Evaluator([ls_metric(count)], generator, dataset, variant=variant, **options)
        parts = list(evaluator.attribute_samples(ls_metric(count)))
        found[variant] = AttributeSamples(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    latents = latents_of(5, np.arange(count), LATENT_SIZE)
    labels = labels_of(5, np.arange(count), dataset.labels)
    np.testing.assert_array_equal(found["sg2"].latents, latents)
    np.testing.assert_allclose(found["sg2"].dlatents, np.concatenate([latents, labels], axis=1))
    networks = [pickles.load(file) for file in sorted(classifiers.iterdir())]
    for variant, given in (("sg2", 0 * labels), ("corrected", labels)):
        images = (latents @ generator.a + given @ generator.b).reshape(count, *shape)
        small = images.reshape(count, 3, 8, 2, 8, 2).mean(axis=(3, 5))
        expected = np.concatenate([network.run(small, None) for network in networks], axis=1)
        np.testing.assert_allclose(found[variant].scores, expected, rtol=1e-3, atol=1e-3)


def test_result_of_classifiers(session, tmp_path, classifiers):
    generator, dataset = LinearGenerator((3, 8, 8)), random_dataset(20, (3, 8, 8))
    options = dict(attributes=classifiers, cache_dir=tmp_path, progress=False)
    evaluator = Evaluator([ls_metric(64)], generator, dataset, **options)
    session.graph.finalize()
    result = evaluator.run("ls_small")
    assert set(result.values) == {"ls_small_z", "ls_small_w"} and all(1 <= v <= 4 for v in result.values.values())
    assert result.feature_network == "2 attribute classifiers" and result.num_real == 0
    # The linear generator's w is its z, twice.
    assert result.values["ls_small_z"] == result.values["ls_small_w"]


def test_table_through_the_evaluator(session, tmp_path):
    latents = latents_of(0, np.arange(60), LATENT_SIZE)
    probabilities = 1 / (1 + np.exp(-3 * latents[:, :2]))
    place = write_table(tmp_path / "a.csv", probabilities)
    options = dict(attributes=place, cache_dir=tmp_path, progress=False, minibatch_gpu=7)
    result = Evaluator([ls_metric(60)], LinearGenerator(), random_dataset(), **options).run("ls_small")
    assert result.values["ls_small_z"] < 1.3
    with pytest.raises(UserError, match="ls_small needs attributes of 61 fakes, the table has 60"):
        Evaluator([ls_metric(61)], LinearGenerator(), random_dataset(), **options)


def test_a_table_does_not_hide_a_broken_mapping(session, tmp_path):
    """No image is made that could show it."""
    generator = LinearGenerator()
    mapping = generator.components["mapping"].get_output_for
    generator.components["mapping"].get_output_for = lambda *inputs: mapping(*inputs) * np.nan
    place = write_table(tmp_path / "a.csv", np.full((10, 2), 0.25))
    options = dict(attributes=place, cache_dir=tmp_path, progress=False)
    with pytest.raises(NotFinite, match="values that are not finite"):
        Evaluator([ls_metric(10)], generator, random_dataset(), **options).run("ls_small")


def test_classifiers_that_do_not_fit(session, tmp_path, classifiers):
    with pytest.raises(UserError, match=r"classifier classifier-00 takes images \[3, 8, 8\]"):
        Evaluator([ls_metric(10)], LinearGenerator(), random_dataset(), attributes=classifiers, cache_dir=tmp_path)
    pickles.save((1, 2), classifiers / "classifier-02.pkl")
    with pytest.raises(UserError, match="classifier-02.pkl: expected one network"):
        load_attributes(classifiers)


def test_ls_without_attributes_is_refused(session):
    with pytest.raises(UserError, match="linear separability needs attributes"):
        Evaluator(["ls"], LinearGenerator(), random_dataset())
    assert metrics.evaluate.find_metric("ls").num_fake == 200_000
