"""run_analysis.py: every command on tiny networks, where results go, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import metrics.features
from dnnlib.tflib import pickles, tfutil
from dnnlib.tflib.network import Network
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.analysis.samples import Samples
from metrics.noise import labels_of
from run_analysis import main
from tests.metrics.analysis_fakes import Pixels
from tests.record_sets import write_set
from tests.tiny import tiny_config, tiny_dataset
from training.config_io import save_config, with_fields

NETWORK = dict(
    num_channels=3, resolution=8, fmap_base=64, fmap_max=8, latent_size=8, dlatent_size=8, mapping_layers=2,
    mapping_fmaps=8,
)  # fmt: skip


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(metrics.features, "load_feature_network", lambda name, _: {"pixels": Pixels()}[name])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """data/plain; run: configuration and two snapshots; others: a network with labels, one without skips."""
    root = tmp_path_factory.mktemp("made")
    tiny_dataset(root / "data" / "plain", 20, 8)
    tiny_dataset(root / "data" / "classes", 20, 8, label_size=3)
    run = root / "00000-run"
    run.mkdir()
    changes = {"data.data_dir": str(root / "data"), "data.dataset": "plain", "data.mirror_augment": True}
    save_config(with_fields(tiny_config(), changes), run)
    others = root / "others"
    others.mkdir()
    for path, options in (
        (run / "network-snapshot-000000.pkl", {}),
        (run / "network-snapshot-000010.pkl", {}),
        (others / "classes.pkl", {"label_size": 3}),
        (others / "resnet.pkl", {"architecture": "resnet"}),
    ):
        with tf.Graph().as_default(), tfutil.create_session():
            Gs = Network("Gs", func_name="G_main", **NETWORK | options)
            pickles.save((None, None, Gs), path)
    return root


def call(*args):
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def refused(*args):
    """stderr of a command that must fail as every mistake does: one line, exit code 2, no traceback."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 2, (result.output, result.exception)
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    return lines[0]


def numbers_beside(path):
    Image.open(path).load()
    return json.loads(Path(path).with_suffix(".json").read_text())


def test_contributions(made):
    run = made / "00000-run"
    assert f"wrote {run / 'analysis-contributions.png'}" in call("contributions", run, "--num", 6)
    numbers = numbers_beside(run / "analysis-contributions.png")
    assert numbers["kimg"] == [0, 10] and numbers["resolutions"] == [4, 8]
    # As in the paper: deviations of what the layers give, in shares.
    layers = np.array(numbers["std_of_layers"])
    np.testing.assert_allclose(numbers["shares"], layers / layers.sum(axis=1, keepdims=True))
    # A single snapshot, at the size of the image, elsewhere.
    call("contributions", run / "network-snapshot-000010.pkl", "--measure", "image", "--num", 6, "--out", "new/c.png")
    one = numbers_beside("new/c.png")
    assert one["plotted"] == "image" and one["std_of_layers"][0] == pytest.approx(layers[1], rel=1e-4)
    np.testing.assert_allclose(one["shares"][0], np.array(one["std_in_image"][0]) / np.sum(one["std_in_image"]))
    assert "architecture 'resnet'" in refused("contributions", made / "others" / "resnet.pkl", "--out", "x.png")


def test_a_diverged_snapshot_is_left_out_of_contributions(made, tmp_path):
    run = tmp_path / "00001-copy"
    shutil.copytree(made / "00000-run", run)
    with tf.Graph().as_default(), tfutil.create_session():
        _, _, Gs = pickles.load(run / "network-snapshot-000010.pkl")
        bias = next(v for n, v in Gs.vars.items() if n.endswith("ToRGB/bias"))
        tfutil.set_vars({bias: np.full(bias.shape, np.nan, np.float32)})
        pickles.save((None, None, Gs), run / "network-snapshot-000005.pkl")
    result = CliRunner().invoke(main, ["contributions", str(run), "--num", "6"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "note: network-snapshot-000005.pkl is left out: the network adds values that are not finite" in result.stderr
    numbers = numbers_beside(run / "analysis-contributions.png")
    assert numbers["kimg"] == [0, 10] and len(numbers["shares"]) == 2
    assert numbers["snapshots"] == ["network-snapshot-000000.pkl", "network-snapshot-000010.pkl"]
    # Where it is the first it may concern all, and a single one leaves nothing to draw.
    (run / "network-snapshot-000000.pkl").unlink()
    for place in (run, run / "network-snapshot-000005.pkl"):
        result = CliRunner().invoke(main, ["contributions", str(place), "--num", "6", "--out", "x.png"])
        assert result.exit_code == 2
        assert "error: network-snapshot-000005.pkl: the network adds values that are not finite" in result.stderr


def test_ppl_distribution(made):
    network = made / "others" / "classes.pkl"
    args = ("ppl-distribution", "--network", network, "--feature-network", "pixels", "--num", 30, "--examples", 4)
    call(*args, "--out", "p.png")
    numbers = numbers_beside("p.png")
    assert len(numbers["scores"]) == 30 and numbers["distance"] == "squared distance of features (pixels)"
    assert numbers["mean"] == pytest.approx(np.mean(numbers["scores"])) and numbers["mean"] > 0
    assert len(numbers["low"]) == len(numbers["high"]) == 3
    for grid in ("p-low.png", "p-high.png"):
        with Image.open(grid) as picture:
            assert picture.size == (16, 16)
    call(*args, "--out", "q.png", "--seed", 1, "--batch", 7)
    assert numbers_beside("q.png")["scores"] != numbers["scores"]


def test_jacobian(made):
    call("jacobian", "--network", made / "00000-run" / "network-snapshot-000010.pkl", "--num", 2)
    numbers = numbers_beside(made / "00000-run" / "analysis-jacobian-network-snapshot-000010.png")
    values = np.array(numbers["values"])
    assert values.shape == (2, 8) and (np.diff(values) <= 0).all() and values[:, 0].min() > 0
    assert numbers["rows"] == 192 and numbers["mean_log10_relative"][0] == 0


def test_neighbours(made):
    network = made / "00000-run" / "network-snapshot-000010.pkl"
    call("neighbours", "--network", network, "--feature-network", "pixels", "--num", 3, "-k", 2)
    numbers = numbers_beside(made / "00000-run" / "analysis-neighbours-network-snapshot-000010.png")
    assert np.shape(numbers["indices"]) == (3, 2) and numbers["dataset"] == "plain" and numbers["mirror"] is True
    lone = ("neighbours", "--network", made / "others" / "classes.pkl", "--feature-network", "pixels", "--num", 2)
    assert "no data set: give --dataset NAME" in refused(*lone)
    call(*lone, "--data-dir", made / "data", "--dataset", "plain", "--out", "n.png")
    assert numbers_beside("n.png")["mirror"] is False


def test_neighbours_among_held_out_images(made, tmp_path):
    images = np.random.RandomState(7).randint(0, 256, (9, 3, 8, 8)).astype(np.uint8)
    write_set(tmp_path / "split", images[:6], held_out=images[6:])
    network = made / "00000-run" / "network-snapshot-000010.pkl"
    args = ("neighbours", "--network", network, "--feature-network", "pixels", "--num", 4, "-k", 3)
    args += ("--data-dir", tmp_path, "--dataset", "split")
    call(*args, "--validation", "--out", "held.png")
    held = numbers_beside("held.png")
    assert held["validation"] is True and {i for row in held["indices"] for i in row} == {0, 1, 2}
    call(*args, "--out", "all.png")
    every = numbers_beside("all.png")
    assert every["validation"] is False and every["distances"] != held["distances"]
    assert "held-out" in refused(*args[:-1], made / "data" / "plain", "--validation", "--out", "x.png")


def test_labels_come_from_the_data_set(made, tmp_path):
    """As those of metrics do; of a set with one class alone, every sample is of that class."""
    network = made / "others" / "classes.pkl"
    data = ("--data-dir", made / "data", "--dataset")
    args = ("jacobian", "--network", network, "--num", 6)
    uniform = CliRunner().invoke(main, [str(a) for a in (*args, "--out", "u.png")])
    assert uniform.exit_code == 0 and "note: classes are drawn uniformly: no data set" in uniform.stderr
    call(*args, *data, "classes", "--out", "d.png")
    assert numbers_beside("d.png")["values"] != numbers_beside("u.png")["values"]
    assert "labels of" in refused(*args, *data, "plain", "--out", "x.png")
    with tf.Graph().as_default(), tfutil.create_session():
        _, _, Gs = pickles.load(network)
        second = np.tile(np.eye(3, dtype=np.float32)[1], (5, 1))
        samples = Samples(Gs, 4, given=second)
        np.testing.assert_array_equal(samples.feed(np.arange(7))[samples.labels], second[[0] * 7])
        many = np.eye(3, dtype=np.float32)[np.arange(50) % 3]
        drawn = Samples(Gs, 4, given=many)
        np.testing.assert_array_equal(drawn.feed(np.arange(9))[drawn.labels], labels_of(4, np.arange(9), many))
        with pytest.raises(UserError, match="labels of 3 numbers, those of the data set have 2"):
            Samples(Gs, 0, given=np.zeros((4, 2), np.float32))


@pytest.mark.parametrize(
    ("command", "options", "key"),
    [
        ("contributions", (), "std_in_image"),
        ("ppl-distribution", ("--feature-network", "pixels", "--examples", 2), "scores"),
        ("jacobian", (), "values"),
        ("neighbours", ("--feature-network", "pixels", "-k", 2), "distances"),
    ],
)
def test_devices_change_nothing(made, command, options, key):
    network = made / "00000-run" / "network-snapshot-000010.pkl"
    place = (network,) if command == "contributions" else ("--network", network)
    for gpus in (1, 2):
        call(command, *place, *options, "--num", 7, "--batch", 2, "--num-gpus", gpus, "--out", f"{gpus}.png")
    one, two = (np.array(numbers_beside(f"{gpus}.png")[key]) for gpus in (1, 2))
    np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-6)


def test_weights_reach_the_feature_network(made, monkeypatch):
    seen = []

    def load(name, weights):
        seen.append((name, weights))
        return Pixels()

    monkeypatch.setattr(metrics.features, "load_feature_network", load)
    network = made / "00000-run" / "network-snapshot-000010.pkl"
    args = ("neighbours", "--network", network, "--num", 2, "-k", 1, "--out", "n.png")
    call(*args, "--feature-network", "inception", "--weights", f"inception={network}")
    ((name, weights),) = seen
    assert name == "inception-2015-12-05" and weights[name].place == str(network)
    assert "nonsense" in refused(*args, "--weights", "nonsense")


def test_report(made):
    text = call("report", made / "00000-run")
    page = (made / "00000-run" / "report.html").read_text()
    assert "report.html" in text and "fields differ from the defaults" in page and "stats.jsonl is missing" in page


def test_mistakes_are_one_line(made, tmp_path):
    network = made / "00000-run" / "network-snapshot-000000.pkl"
    assert "gone: no such file or directory" in refused("contributions", "gone")
    assert f"{tmp_path}: no network-snapshot-*.pkl" in refused("contributions", tmp_path)
    assert "expected a name that ends in .png" in refused("jacobian", "--network", network, "--out", "x.jpg")
    (tmp_path / "training_options.json").write_text("{}")
    error = refused("jacobian", "--network", network, "--out", "training_options.png")
    assert "training_options.json exists and is of no analysis, it is not replaced: give another name" in error
    assert (tmp_path / "training_options.json").read_text() == "{}"
    assert "--network" in refused("jacobian")
    assert "--seed" in refused("jacobian", "--network", network, "--seed", -1)
    assert "gone" in refused("report", "gone")
    (tmp_path / "file.pkl").write_text("no pickle")
    assert "file.pkl" in refused("jacobian", "--network", tmp_path / "file.pkl")
