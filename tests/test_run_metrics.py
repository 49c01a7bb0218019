"""run_metrics.py: which networks are measured against which images, what is printed, and what is refused."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import runpy
import shutil
import signal
import sys
import types
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import metrics.conditions
import metrics.evaluate
import run_metrics
from dnnlib.tflib import pickles, tfutil
from dnnlib.tflib.network import Network
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics import html_report, registry
from metrics.noise import IndexedRandom, labels_of, latents_of
from metrics.report import MetricResult
from metrics.run_files import read_run
from run_metrics import main
from tests.dataset_tools import tool
from tests.metrics.fakes import PIXELS, PixelFeatures, pixel_metric
from tests.tiny import tiny_config, tiny_dataset
from training.config_io import save_config, with_fields
from training.dataset import TFRecordDataset
from training.dataset_writer import DatasetWriter

NETWORK = dict(
    num_channels=3, resolution=8, fmap_base=64, fmap_max=8, latent_size=8, dlatent_size=8, mapping_layers=2,
    mapping_fmaps=8,
)  # fmt: skip


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """A cache and a working directory of its own; metrics by the name of a small one that needs 40 images."""
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    find = registry.find_metric

    def find_metric(name):
        return pixel_metric(40) if name == "fd_pixels" else find(name)

    monkeypatch.setattr(registry, "find_metric", find_metric)
    monkeypatch.setattr(metrics.evaluate, "find_metric", find_metric)
    for module in (metrics.evaluate, metrics.conditions):
        monkeypatch.setattr(module, "load_feature_network", lambda name, **_: {PIXELS: PixelFeatures()}[name])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """data/plain: 50 images of 8x8; data/classes: with labels; run: its configuration and two snapshots."""
    root = tmp_path_factory.mktemp("made")
    tiny_dataset(root / "data" / "plain", 50, 8)
    tiny_dataset(root / "data" / "classes", 50, 8, label_size=3)
    run = root / "00000-run"
    run.mkdir()
    changes = {"data.data_dir": str(root / "data"), "data.dataset": "plain", "data.mirror_augment": True}
    save_config(with_fields(tiny_config(), changes), run)
    with tf.Graph().as_default(), tfutil.create_session():
        for label_size, paths in ((0, ["network-snapshot-000000", "network-snapshot-000010"]), (3, ["classes"])):
            for path in paths:
                tf.set_random_seed(len(path) + int(path[-1] == "0"))
                Gs = Network("Gs", func_name="G_main", label_size=label_size, **NETWORK)
                tfutil.set_vars({v: np.float32(0.5) for n, v in Gs.vars.items() if n.endswith("noise_strength")})
                pickles.save((None, None, Gs), run / f"{path}.pkl")  # G and D are not looked at
    pickles_alone = root / "alone"
    pickles_alone.mkdir()
    shutil.copy(run / "network-snapshot-000010.pkl", pickles_alone / "net.pkl")
    return root


def call(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def refused(*args):
    """stderr of a command that must fail as every mistake does: one line, exit code 2, no traceback."""
    result = call(*args)
    assert result.exit_code == 2, (result.output, result.exception)
    lines = [line for line in result.stderr.splitlines() if "img" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    return lines[0]


def test_a_network_against_a_data_set(made):
    network = made / "alone" / "net.pkl"
    args = ("--network", network, "--metrics", "fd_pixels", "--data-dir", made / "data", "--dataset", "plain")
    result = call(*args, "--result-dir", "out/new")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "fd_pixels" in result.stdout and "pixels" in result.stdout and " 40 " in result.stdout
    assert "note: fd_pixels looks at 40 fakes" in result.stdout
    (record,) = [json.loads(line) for line in Path("out/new/metric-fd_pixels.jsonl").read_text().splitlines()]
    assert record["snapshot"] == "net.pkl" and record["mirror"] is False and record["dataset"] == "plain"
    assert f"{record['values']['fd_pixels']:.4f}" in result.stdout
    assert Path("out/new/metric-fd_pixels.txt").read_text().startswith("net          ")
    # Noise and all else belong to images: minibatches and towers change nothing but rounding; another seed does.
    assert call(*args, "--result-dir", "b", "--minibatch-gpu", 7, "--num-gpus", 2).exit_code == 0
    again = json.loads(Path("b/metric-fd_pixels.jsonl").read_text())
    assert again["values"]["fd_pixels"] == pytest.approx(record["values"]["fd_pixels"], rel=1e-3)
    assert f"{record['values']['fd_pixels']:.4f}" not in call(*args, "--seed", 1).stdout


def test_a_value_is_shown_even_if_it_cannot_be_written(made, tmp_path, reports):
    """A measurement may have taken hours."""
    (tmp_path / "out" / "metric-fd_pixels.txt").mkdir(parents=True)
    args = ("--network", made / "alone" / "net.pkl", "--metrics", "fd_pixels", "--result-dir", "out")
    result = call(*args, "--data-dir", made / "data", "--dataset", "plain")
    assert result.exit_code == 2 and "cannot write out/metric-fd_pixels.txt: Is a directory" in result.stderr
    assert re.search(r"│ net +│ fd_pixels │ \d+\.\d{4} │", result.stdout)
    result = call("--network", made / "00000-run", *args[2:])
    assert result.exit_code == 2 and re.search(r"000000\.pkl  fd_pixels \d+\.\d{4} \(40 fakes", result.stderr)


def test_a_place_for_results_that_takes_none_is_refused_before_measuring(made, monkeypatch):
    def read_only(dir):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(run_metrics.tempfile, "TemporaryFile", read_only)
    monkeypatch.setattr(run_metrics, "measure", lambda *_: pytest.fail("measured what cannot be written"))
    run = made / "00000-run"
    for network in (run, run / "network-snapshot-000010.pkl"):
        text = refused("--network", network, "--metrics", "fd_pixels")
        assert f"into {run}: Read-only file system; give another directory with --result-dir" in text


def test_a_run_against_what_it_was_trained_on(made):
    run = made / "00000-run"
    result = call("--network", run, "--metrics", "fd_pixels", "--result-dir", "out")
    assert result.exit_code == 0, (result.output, result.exception)
    records = [json.loads(line) for line in Path("out/metric-fd_pixels.jsonl").read_text().splitlines()]
    names = ["network-snapshot-000000.pkl", "network-snapshot-000010.pkl"]
    assert [record["snapshot"] for record in records] == names
    assert all(record["mirror"] and record["dataset"] == "plain" for record in records)
    values = [record["values"]["fd_pixels"] for record in records]
    assert np.isfinite(values).all() and values[0] != values[1]
    table, best = result.stdout.split("best fd_pixels: ")
    assert table.count("network-snapshot-") == 2
    assert best == f"{min(values):.4f} ({names[int(np.argmin(values))]})\n"


def test_a_snapshot_of_a_run_adds_to_its_files(made, tmp_path, reports):
    run = copy_of_run(made, tmp_path)
    result = call("--network", run / "network-snapshot-000010.pkl", "--metrics", "fd_pixels")
    assert result.exit_code == 0, (result.output, result.exception)
    (record,) = [json.loads(line) for line in (run / "metric-fd_pixels.jsonl").read_text().splitlines()]
    assert record["snapshot"] == "network-snapshot-000010.pkl" and record["mirror"] is True
    (line,) = (run / "metric-fd_pixels.txt").read_text().splitlines()
    assert line.startswith("network-snapshot-000010        time ") and line.split()[-2] == "fd_pixels"
    assert f"added to metric-fd_pixels.txt and .jsonl in {run}" in result.stderr
    # And counts when the run is measured.
    assert call("--network", run, "--metrics", "fd_pixels").exit_code == 0
    records = [json.loads(line) for line in (run / "metric-fd_pixels.jsonl").read_text().splitlines()]
    assert [r["snapshot"][-10:] for r in records] == ["000010.pkl", "000000.pkl"] and records[0] == record


def copy_of_run(made, tmp_path, diverged=()):
    """A copy of the run; snapshots named in `diverged` make NaN."""
    run = tmp_path / "00001-copy"
    shutil.copytree(made / "00000-run", run)
    (run / "classes.pkl").unlink()
    for name in diverged:
        with tf.Graph().as_default(), tfutil.create_session():
            _, _, Gs = pickles.load(run / "network-snapshot-000010.pkl")
            bias = next(v for n, v in Gs.vars.items() if n.endswith("ToRGB/bias"))
            tfutil.set_vars({bias: np.full(bias.shape, np.nan, np.float32)})
            pickles.save((None, None, Gs), run / name)
    return run


@pytest.fixture
def reports(monkeypatch):
    """Directories whose report was asked for."""
    asked = []

    def write_report(run_dir, defaults):
        assert defaults["G"]["fmap_base"] == 16384  # so that the page can put changed fields first
        asked.append(str(run_dir))
        return Path(run_dir) / "report.html"

    monkeypatch.setattr(html_report, "write_report", write_report)
    return asked


def test_a_run_is_measured_once(made, tmp_path, reports, monkeypatch):
    run = copy_of_run(made, tmp_path)
    measured, measure = [], run_metrics.measure

    def counted(snapshot, names, *rest):
        measured.append((Path(snapshot).name, names))
        yield from measure(snapshot, names, *rest)

    monkeypatch.setattr(run_metrics, "measure", counted)
    first = call("--network", run, "--metrics", "fd_pixels")
    assert first.exit_code == 0, (first.output, first.exception)
    lines = (run / "metric-fd_pixels.jsonl").read_text().splitlines()
    assert len(lines) == len(measured) == 2
    assert reports == [str(run)] and f"report: {run}" in first.stdout
    # Again: nothing is left to do, and the same table comes out.
    again = call("--network", run, "--metrics", "fd_pixels")
    assert len(measured) == 2 and again.stdout == first.stdout
    # One that is missing is made up for.
    (run / "metric-fd_pixels.jsonl").write_text(lines[0] + "\n")
    assert call("--network", run, "--metrics", "fd_pixels").exit_code == 0
    assert measured[2:] == [("network-snapshot-000010.pkl", ["fd_pixels"])]
    # Other conditions are another measurement.
    for change in (("--seed", 1), ("--mirror-augment", "false"), ("--variant", "pt")):
        before = len(measured)
        result = call("--network", run, "--metrics", "fd_pixels", *change)
        assert result.exit_code == 0 and len(measured) == before + 2, (change, result.output)
    assert "note: fd_pixels by the conventions of pt" in result.stdout


def test_earlier_results_count_if_data_and_weights_are_the_same(made, tmp_path, reports, monkeypatch):
    run, data = copy_of_run(made, tmp_path), tmp_path / "data"
    shutil.copytree(made / "data", data)
    args = ("--network", run, "--metrics", "fd_pixels", "--data-dir", data)
    measured, measure = [], run_metrics.measure

    def counted(snapshot, names, *rest):
        measured.append(Path(snapshot).name)
        yield from measure(snapshot, names, *rest)

    monkeypatch.setattr(run_metrics, "measure", counted)
    assert call(*args).exit_code == 0 and len(measured) == 2
    # The same images under another name, where reals are mirrored as before.
    (data / "plain").rename(data / "renamed")
    renamed = call(*args, "--dataset", "renamed", "--mirror-augment", "true")
    assert renamed.exit_code == 0 and len(measured) == 2, (renamed.output, renamed.exception)
    # Other images under the same name.
    tiny_dataset(data / "plain", 45, 8)
    result = call(*args)
    assert result.exit_code == 0 and len(measured) == 4, (result.output, result.exception)
    assert "fd_pixels: earlier results of another dataset_hash do not count" in result.stderr
    # Other weights of the feature network.
    monkeypatch.setattr(PixelFeatures, "weights_sha256", "others")
    result = call(*args)
    assert result.exit_code == 0 and len(measured) == 6, (result.output, result.exception)
    assert "earlier results of another " in result.stderr and "weights_sha256" in result.stderr
    again = call(*args)
    assert len(measured) == 6 and again.stdout == result.stdout and "do not count" not in again.stderr
    records = [json.loads(line) for line in (run / "metric-fd_pixels.jsonl").read_text().splitlines()]
    assert len({record["dataset_hash"] for record in records}) == 2 and len(records) == 6

    # Weights that cannot be had keep nobody from looking at earlier results.
    def refuse(name, **_):
        raise UserError("no weights")

    monkeypatch.setattr(metrics.conditions, "load_feature_network", refuse)
    result = call(*args)
    assert result.stdout == again.stdout and "may be of other weights than now: no weights" in result.stderr


def test_held_out_images(made, tmp_path, reports):
    run, data = copy_of_run(made, tmp_path), tmp_path / "data"
    with DatasetWriter(data / "plain", (3, 8, 8)) as writer:
        for index in range(60):
            value = 20 if index < 40 else 220
            writer.add(np.full((3, 8, 8), value + index % 7, np.uint8), None, validation=index >= 40)
    args = ("--network", run, "--metrics", "fd_pixels", "--data-dir", data)
    assert call(*args).exit_code == 0
    result = call(*args, "--validation")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "note: fd_pixels is measured against the held-out images of plain" in result.stdout
    records = [json.loads(line) for line in (run / "metric-fd_pixels.jsonl").read_text().splitlines()]
    assert [(r["num_real"], r["validation"]) for r in records] == [(40, False)] * 2 + [(20, True)] * 2
    assert abs(records[0]["values"]["fd_pixels"] - records[2]["values"]["fd_pixels"]) > 100
    series = read_run(run).measured
    assert [(len(one.points), one.conditions["validation"]) for one in series] == [(2, False), (2, True)]
    again = call(*args, "--validation")  # nothing to do
    assert again.stdout == result.stdout
    text = refused("--network", run, "--metrics", "fd_pixels", "--data-dir", made / "data", "--validation")
    assert "validation" in text


def test_metrics_of_a_snapshot_share_its_fakes(made, tmp_path, monkeypatch):
    other = dataclasses.replace(pixel_metric(30), name="fd_less")
    find = registry.find_metric
    for module in (registry, metrics.evaluate):
        monkeypatch.setattr(module, "find_metric", lambda name: other if name == "fd_less" else find(name))
    network = made / "alone" / "net.pkl"
    args = ("--network", network, "--data-dir", made / "data", "--dataset", "plain")
    result = call(*args, "--metrics", "fd_pixels,fd_less", "--result-dir", "out")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "shared by fd_pixels, fd_less: 40 fakes, made once" in result.stderr
    alone = call(*args, "--metrics", "fd_less", "--result-dir", "alone")
    assert alone.exit_code == 0 and "shared" not in alone.stderr
    one, two = (json.loads(Path(d, "metric-fd_less.jsonl").read_text())["values"]["fd_less"] for d in ("out", "alone"))
    assert one == pytest.approx(two, rel=1e-4)


def test_a_diverged_snapshot_does_not_keep_the_others_from_being_measured(made, tmp_path, reports):
    run = copy_of_run(made, tmp_path, ["network-snapshot-000005.pkl"])
    result = call("--network", run, "--metrics", "fd_pixels")
    assert result.exit_code == 2
    assert "network-snapshot-000005.pkl: the network made images with values that are not finite" in result.stderr
    assert "error: 1 of 3 snapshots could not be measured: network-snapshot-000005.pkl" in result.stderr
    records = [json.loads(line) for line in (run / "metric-fd_pixels.jsonl").read_text().splitlines()]
    assert [r["snapshot"] for r in records] == ["network-snapshot-000000.pkl", "network-snapshot-000010.pkl"]
    assert "000005" not in result.stdout and "000005" not in (run / "metric-fd_pixels.txt").read_text()
    # Nor does the first one; nor if there is no other.
    (run / "network-snapshot-000005.pkl").rename(run / "network-snapshot-000000.pkl")
    (run / "metric-fd_pixels.jsonl").unlink()
    result = call("--network", run, "--metrics", "fd_pixels")
    assert result.exit_code == 2 and "1 of 2 snapshots could not be measured" in result.stderr
    assert "best fd_pixels" in result.stdout and reports == [str(run)] * 2
    (run / "network-snapshot-000010.pkl").unlink()
    (run / "metric-fd_pixels.jsonl").unlink()
    result = call("--network", run, "--metrics", "fd_pixels")
    assert result.exit_code == 2 and "1 of 1 snapshots could not be measured" in result.stderr
    assert not (run / "metric-fd_pixels.jsonl").exists()


def test_a_snapshot_of_the_same_name_is_another(made, tmp_path, reports, monkeypatch):
    """Of another run that is measured into the same directory, or written again."""
    one = copy_of_run(made, tmp_path)
    other, results = tmp_path / "00002-other", tmp_path / "results"
    shutil.copytree(one, other)
    with tf.Graph().as_default(), tfutil.create_session():
        _, _, Gs = pickles.load(one / "network-snapshot-000010.pkl")
        Gs.reset_trainables()
        pickles.save((None, None, Gs), other / "network-snapshot-000010.pkl")
    measured, measure = [], run_metrics.measure

    def counted(snapshot, names, *rest):
        measured.append(snapshot)
        yield from measure(snapshot, names, *rest)

    monkeypatch.setattr(run_metrics, "measure", counted)
    for run, number in ((one, 2), (one, 2), (other, 3), (other, 3)):
        result = call("--network", run, "--metrics", "fd_pixels", "--result-dir", results)
        assert result.exit_code == 0 and len(measured) == number, (run, result.output)
    assert measured[2] == str(other / "network-snapshot-000010.pkl")


def test_other_mistakes_of_the_first_snapshot_end_it(made, tmp_path, reports):
    run = copy_of_run(made, tmp_path)
    (run / "network-snapshot-000000.pkl").write_bytes(b"nonsense")
    result = call("--network", run, "--metrics", "fd_pixels")
    assert result.exit_code == 2 and "could not be measured" not in result.stderr
    assert not (run / "metric-fd_pixels.jsonl").exists()


def test_best_is_highest_where_higher_is_better(made, tmp_path, reports, monkeypatch):
    run = copy_of_run(made, tmp_path)
    spec = dataclasses.replace(pixel_metric(40), higher_is_better=True)
    monkeypatch.setattr(registry, "find_metric", lambda name: spec)
    monkeypatch.setattr(metrics.evaluate, "find_metric", lambda name: spec)
    result = call("--network", run, "--metrics", "fd_pixels")
    assert result.exit_code == 0, (result.output, result.exception)
    records = [json.loads(line) for line in (run / "metric-fd_pixels.jsonl").read_text().splitlines()]
    best = max(records, key=lambda record: record["values"]["fd_pixels"])
    assert result.stdout.splitlines()[-2] == f"best fd_pixels: {best['values']['fd_pixels']:.4f} ({best['snapshot']})"
    assert all(record["higher_is_better"] for record in records)


def test_fetch_is_a_command(monkeypatch):
    @click.command()
    @click.argument("names", nargs=-1)
    def fetch_command(names):
        """Gets weights."""
        click.echo(f"fetching {' '.join(names)}")

    module = types.ModuleType("metrics.fetch")
    module.fetch_command = fetch_command
    monkeypatch.setitem(sys.modules, "metrics.fetch", module)
    result = call("fetch", "vgg16", "inception")
    assert (result.exit_code, result.stdout) == (0, "fetching vgg16 inception\n")
    help_text = call("--help")
    assert help_text.exit_code == 0 and "Gets weights." in help_text.stdout and "--network" in help_text.stdout
    assert "No such command 'fetsh'" in refused("fetsh")


def test_weights_reach_the_evaluator(made, monkeypatch):
    seen = []

    def load(name, **given):
        seen.append(given)
        return PixelFeatures()

    monkeypatch.setattr(metrics.evaluate, "load_feature_network", load)
    network = made / "alone" / "net.pkl"
    args = ("--network", network, "--metrics", "fd_pixels", "--data-dir", made / "data", "--dataset", "plain")
    result = call(*args, "--weights", f"vgg16={network}", "--weights", f"inception={network}")
    assert result.exit_code == 0, (result.output, result.exception)
    (given,) = seen
    assert sorted(given["weights"]) == ["inception-2015-12-05", "vgg16"]
    assert call(*args).exit_code == 0 and "weights" not in seen[1]
    assert "nonsense" in refused(*args, "--weights", "nonsense")


@pytest.mark.parametrize("variant", ["sg2", "corrected"])
def test_samples_are_the_fakes_of_separability(made, tmp_path, variant):
    """Pictures against the network run on the latents and labels of the metric, and as a data set with labels."""
    network, out = made / "00000-run" / "classes.pkl", tmp_path / "pictures"
    args = ("samples", "--network", network, "--count", 7, "--out", out, "--seed", 2, "--minibatch", 3)
    args += ("--variant", variant, "--data-dir", made / "data", "--dataset", "classes")
    result = call(*args)
    assert result.exit_code == 0, (result.output, result.exception)
    assert sorted(path.name for path in out.iterdir()) == [*(f"{i:06d}.png" for i in range(7)), "dataset.json"]
    assert ("--variant corrected draws labels" in result.stderr) == (variant == "sg2")
    assert "there are pictures already" in refused(*args)
    labels = np.zeros((7, 3), np.float32)
    if variant == "corrected":
        labels = labels_of(2, np.arange(7), TFRecordDataset(made / "data" / "classes").labels)
        assert len(np.unique(labels, axis=0)) > 1
    convert = ["create_from_images", tmp_path / "set", out, "--labels-from", "json", "--shuffle", 0, "--workers", 1]
    tool(*convert)
    made_set = TFRecordDataset(tmp_path / "set", shuffle=False)
    np.testing.assert_array_equal(made_set.labels, labels)
    pictures = [np.asarray(Image.open(out / f"{i:06d}.png")).transpose(2, 0, 1) for i in range(7)]
    np.testing.assert_array_equal(made_set.read(np.arange(7)), pictures)
    with tf.Graph().as_default(), tfutil.create_session() as session:
        _, _, Gs = pickles.load(network)
        options = dict(is_validation=True, randomize_noise=True, rng=IndexedRandom(2, tf.constant(0, tf.int64)))
        images = Gs.get_output_for(latents_of(2, np.arange(7), 8), labels, **options)
        expected = session.run(tfutil.convert_images_to_uint8(images, nchw_to_nhwc=True))
    found = np.stack([np.asarray(Image.open(out / f"{i:06d}.png")) for i in range(7)])
    assert np.abs(found.astype(int) - expected).max() <= 1 and found.std() > 1


def test_samples_of_a_network_without_labels_have_none(made, tmp_path):
    args = ("samples", "--network", made / "alone" / "net.pkl", "--count", 2, "--out", tmp_path / "a")
    result = call(*args, "--variant", "corrected")
    assert result.exit_code == 0, (result.output, result.exception)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["000000.png", "000001.png"]
    labelled = ("samples", "--network", made / "00000-run" / "classes.pkl", "--count", 2, "--variant", "corrected")
    assert "have 0 numbers" in refused(*labelled, "--out", tmp_path / "b")  # the run was on data without labels
    assert not list((tmp_path / "b").iterdir())


def test_unknown_variant(made):
    text = refused("--network", made / "alone" / "net.pkl", "--metrics", "fd_pixels", "--variant", "sg3")
    assert "unknown variant 'sg3': did you mean 'sg2'" in text


def test_networks_with_labels(made):
    network = made / "00000-run" / "classes.pkl"
    args = ("--network", network, "--metrics", "fd_pixels", "--data-dir", made / "data", "--result-dir", "out")
    result = call(*args, "--dataset", "classes", "--num-gpus", 2)
    assert result.exit_code == 0, (result.output, result.exception)
    text = refused(*args, "--dataset", "plain")
    assert "max_label_size is 3, but the labels of" in text and "plain have 0 numbers" in text
    # A network without labels takes labelled data.
    plain = made / "alone" / "net.pkl"
    assert call("--network", plain, *args[2:], "--dataset", "classes").exit_code == 0


def test_which_snapshots(made, tmp_path):
    assert f"{tmp_path}: no network-snapshot-*.pkl in this directory" in refused("--network", tmp_path)
    assert "gone.pkl: no such file" in refused("--network", "gone.pkl")


def test_mistakes_are_one_line(made, tmp_path):
    network = made / "alone" / "net.pkl"
    data = ("--data-dir", made / "data", "--dataset", "plain")
    assert "no network: give --network PKL" in refused()
    assert "no data set: give --dataset NAME" in refused("--network", network)
    unknown = refused("--network", network, "--metrics", "fid50")
    assert "unknown metric 'fid50': did you mean 'fid50k'" in unknown and "fd50k_effnet" in unknown
    assert "no metrics: give --metrics LIST" in refused("--network", network, "--metrics", "none")
    assert "named more than once" in refused("--network", network, "--metrics", "fid5k,fid5k")
    assert "--seed" in refused("--network", network, "--seed", "-1", *data)
    assert "gone" in refused("--network", network, "--metrics", "fd_pixels", "--dataset", "gone")
    (tmp_path / "file").write_text("")
    assert "cannot write results into file/x" in refused("--network", network, "--result-dir", "file/x", *data)
    assert "file" in refused("--network", tmp_path / "file", "--metrics", "fd_pixels", *data)


def test_images_must_have_the_shape_of_the_network(made, golden, tmp_path):
    args = ("--network", made / "alone" / "net.pkl", "--metrics", "fd_pixels")
    tiny_dataset(tmp_path / "small", 3, 4)
    assert "has no images of resolution 8; there are: 4" in refused(*args, "--dataset", "small")
    gray = golden.path("tfrecords_official_gray")
    assert "makes images of shape [3, 8, 8], the data set" in refused(*args, "--dataset", gray)


def test_published_network_on_published_data(golden):
    args = ("--network", golden.path("official_sg2_uncond.pkl"), "--metrics", "fd_pixels")
    result = call(*args, "--dataset", golden.path("tfrecords_official"), "--result-dir", "out")
    assert result.exit_code == 0, (result.output, result.exception)
    record = json.loads(Path("out/metric-fd_pixels.jsonl").read_text())
    assert record["num_real"] == 20 and record["image_shape"] == [3, 32, 32]


@pytest.mark.parametrize("script", ["run_metrics.py", "run_analysis.py"])
def test_sigterm_ends_in_an_exception(monkeypatch, script):
    """So that half a file in the cache is removed, as after Ctrl-C."""
    handlers = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(Path(run_metrics.__file__).with_name(script)), run_name="__main__")
    with pytest.raises(SystemExit, match="143"):
        handlers[signal.SIGTERM](signal.SIGTERM, None)


def test_list_of_metrics():
    result = call("--list-metrics")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(registry.list_metrics())


def test_table_shows_the_conditions(capsys):
    common = dict(num_real=70_000, num_fake=50_000, weights_sha256="", image_shape=[3, 64, 64], mirror=False)
    common |= dict(dataset="d", dataset_hash="", seed=0, seconds=61)
    result = MetricResult(
        name="x", values={"x_a": 1.25, "x_b": 0.5}, feature_network="some-network", resize="some resize", **common
    )
    run_metrics.print_table([("dir/network-snapshot-000001.pkl", result)])
    out = capsys.readouterr().out
    for text in ("network-snapshot-000001", "x_a", "1.2500", "x_b", "0.5000", "50000", "70000", "1m 01s"):
        assert text in out
    assert "some-network" in out and "some resize" in out and "note" not in out
