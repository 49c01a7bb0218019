"""report.html: what it shows of a whole run, that it needs nothing else, and what it says of damaged ones."""

from __future__ import annotations

import base64
import io
import json
import math
import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from dnnlib.util import UserError
from metrics import html_report
from metrics.html_report import choose_grids, write_report
from metrics.report import MetricResult, write_result
from metrics.run_files import better_is, flatten, read_run

DEFAULTS = {"seed": 1000, "G": {"fmap_base": 16384, "fmap_max": 512}, "schedule": {"total_kimg": 25000.0}}
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Reads a page strictly: tags must close in order. Attributes: images, links, texts, tags."""

    def __init__(self, path):
        super().__init__()
        self.path, self.images, self.links, self.texts, self.tags, self._open = Path(path), [], [], [], [], []
        self.feed(self.path.read_text(encoding="utf-8"))
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        attrs = dict(attrs)
        if tag == "img":
            self.images.append((attrs["alt"], attrs["src"]))
        if tag == "a":
            self.links.append(attrs["href"])

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return "\n".join(self.texts)

    def check(self):
        """Every image can be decoded, every link leads to a file, nothing comes from elsewhere."""
        for alt, src in self.images:
            kind, _, data = src.partition(";base64,")
            content = base64.b64decode(data, validate=True)
            if kind == "data:image/svg+xml":
                assert ElementTree.fromstring(content).tag.endswith("svg"), alt
            else:
                assert kind == "data:image/jpeg", kind
                Image.open(io.BytesIO(content)).load()
        for link in self.links:
            assert (self.path.parent / unquote(link)).is_file(), link
        assert "script" not in self.tags and "link" not in self.tags
        return self


def result(value, name="fd5k_effnet", **changes):
    fields = dict(
        name=name, values={name: value}, num_real=5000, num_fake=5000, feature_network="effnet_lite0",
        weights_sha256="ab" * 32, resize="triangle to 224x224", image_shape=[3, 8, 8], mirror=False, dataset="toys",
        dataset_hash="cd", seed=0, seconds=1.0,
    )  # fmt: skip
    return MetricResult(**fields | changes)


def record(nimg, **values):
    return json.dumps({"nimg": nimg, "timestamp": 1.0, **values}) + "\n"


def make_run(run, size=(64, 32)):
    """A run directory with everything in it."""
    run.mkdir()
    options = {"seed": 1000, "G": {"fmap_base": 64, "fmap_max": 512}, "schedule": {"total_kimg": 6.0}}
    options["data"] = {"dataset": "dir/toys"}
    (run / "training_options.json").write_text(json.dumps(options))
    lines = []
    for tick in range(1, 7):
        lines.append(record(
            tick * 1000,
            **{"Loss/G/loss": {"num": 5, "mean": 1 / tick, "std": 0.1}, "Loss/scores/real": {"num": 5, "mean": 1.0,
               "std": None}, "Gradients/G_main": {"num": 5, "mean": 10.0**-tick, "std": 0.0},
               "Timing/img_per_sec": 100.0 + tick, "Timing/total_sec": 61.0 * tick, "Loss/pl_penalty": None,
               "TrainG/learning_rate": 0.002, "TrainG/skipped_steps": 0, "Progress/augment": 0.1 * tick,
               "Progress/augment_rt": 0.3 - 0.1 * tick, "Diversity/fake": 0.02, "Diversity/real": 0.1,
               "Schedule/batch": 16, "Schedule/r1_gamma": 10 / tick, "Skipped/G_main": 0.0, "Watch/rollbacks": 0,
               "Custom/thing": 1.0},
        ))  # fmt: skip
    (run / "stats.jsonl").write_text("".join(lines))
    rng = np.random.RandomState(0)
    for name in ("reals", "fakes_init", *(f"fakes{k:06d}" for k in range(1, 7))):
        Image.fromarray(rng.randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)).save(run / f"{name}.png")
    for kimg, value in ((0, 300.0), (2, 120.0), (4, 90.5), (6, 95.0)):
        name = f"network-snapshot-{kimg:06d}.pkl"
        (run / name).write_bytes(b"")
        write_result(run, name, result(value))
    (run / "training-state-000006000.npz").write_bytes(b"")
    return run


_DRAWN: dict[str, bytes] = {}


@pytest.fixture
def drawn_once(monkeypatch):
    """The same curve is the same picture: tests that look at other things do not draw it again, which takes seconds."""

    def kept(draw):
        def get(*args):
            key = repr((draw.__name__, args))
            return _DRAWN[key] if key in _DRAWN else _DRAWN.setdefault(key, draw(*args))

        return get

    for name in ("plot_stats", "plot_metric"):
        monkeypatch.setattr(html_report, name, kept(getattr(html_report, name)))


def test_a_whole_run(tmp_path):
    run = make_run(tmp_path / "00001-toys")
    path = write_report(run, DEFAULTS)
    assert path == run / "report.html"
    page = Page(path).check()
    text = page.text
    for expected in (
        "00001-toys", "6 kimg of 6", "103.5 images/s", "6m 06s", "toys", "90.5 (network-snapshot-000004)",
        "effnet_lite0", "abababababab", "triangle to 224x224", "their numbers mean nothing beside FID",
        "fewer than 10,000 fakes", "2 fields differ from the defaults",
        "Never other than 0: TrainG/skipped_steps, Skipped/G_main, Watch/rollbacks", "Never finite: Loss/pl_penalty",
        "--total-kimg 12", "The run is complete",
    ):  # fmt: skip
        assert expected in text, expected
    assert "Missing or damaged" not in text
    shown = [alt for alt, _ in page.images]
    assert "fd5k_effnet against kimg" in shown and "reals.png" in shown and "Losses: Loss/G/loss" in shown
    assert [alt for alt in shown if alt.startswith("fakes")] == [
        "fakes_init.png", "fakes000002.png", "fakes000003.png", "fakes000004.png", "fakes000006.png"
    ]  # fmt: skip
    # What differs comes first, with its default.
    assert text.index("G.fmap_base") < text.index("16384") < text.index("G.fmap_max")
    # The same directory gives the same page.
    before = path.read_bytes()
    assert write_report(run, DEFAULTS).read_bytes() == before


def test_curves_of_unlike_size_do_not_share_a_picture(tmp_path):
    """A minibatch of 16 images would press everything else onto the axis."""
    page = Page(write_report(make_run(tmp_path / "run"), DEFAULTS))
    shown = [alt for alt, _ in page.images]
    for expected in (
        "Strength of augmentation (p): Progress/augment",
        "Signs of overfitting (augmentation goes by one): Progress/augment_rt",
        "Diversity of pixels: Diversity/fake, Diversity/real", "Weight of R1 (gamma): Schedule/r1_gamma",
        "Other: Custom/thing",
    ):  # fmt: skip
        assert expected in shown, shown
    assert not any("Schedule/batch" in alt for alt in shown)
    assert "The same all the time: Schedule/batch 16" in page.text
    # r_t may be negative, and the picture shows it.
    signs = next(src for alt, src in page.images if "augment_rt" in alt)
    text = base64.b64decode(signs.partition(",")[2]).decode()
    assert ">−0.3<" in text and ">0.2<" in text


def test_curves_hold_the_values(tmp_path):
    run = make_run(tmp_path / "run")
    page = Page(write_report(run))
    svg = next(base64.b64decode(src.partition(";base64,")[2]).decode() for alt, src in page.images if "fd5k" in alt)
    assert "best 90.5" in svg and "kimg (thousands" in svg
    gradients = next(
        base64.b64decode(s.partition(",")[2]).decode() for alt, s in page.images if "Gradient norms" in alt
    )
    assert "mathdefault" not in gradients and ">0.001<" in gradients  # labels that a person can read


def test_wide_grids_are_scaled(tmp_path, drawn_once):
    run = make_run(tmp_path / "run", size=(2400, 300))
    (_, src) = next(item for item in Page(write_report(run)).check().images if item[0] == "reals.png")
    assert Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2]))).size == (1200, 150)


def test_other_kinds_of_pictures(tmp_path, drawn_once):
    run = make_run(tmp_path / "run")
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(run / "reals.png")
    clear = np.zeros((8, 8, 4), np.uint8)
    Image.fromarray(clear).save(run / "fakes000006.png")
    images = dict(Page(write_report(run)).check().images)
    decoded = Image.open(io.BytesIO(base64.b64decode(images["fakes000006.png"].partition(",")[2])))
    assert np.asarray(decoded).min() > 250  # transparent is white


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", 'a"b&c', "$x_1^2$ %s {}", "name with 'quotes'"])
def test_names_are_escaped(tmp_path, name, drawn_once):
    safe = name.replace("/", "-")
    run = make_run(tmp_path / safe)
    with open(run / "stats.jsonl", "a") as file:
        file.write(record(7000, **{f"Loss/{name}": 1.0, f"Train{name}/learning_rate": 0.5}))
    write_result(run, "network-snapshot-000006.pkl", result(3.0, name=f"fd{safe}", dataset=name))
    (run / "metric-strange.jsonl").write_text("[]\n")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(run / f"analysis-{safe}.png")
    (run / f"analysis-{safe}.json").write_text("{}")
    page = Page(write_report(run, DEFAULTS)).check()
    assert safe in page.texts and name in page.text and f"fd{safe} against kimg" in dict(page.images)
    assert "--resume " in page.text and f"analysis-{safe}.png" in dict(page.images)


def test_a_name_that_is_no_text(tmp_path, drawn_once):
    run = make_run(Path(os.fsdecode(os.fsencode(tmp_path) + b"/run\xff")))
    assert "run?" in Page(write_report(run)).check().text


def test_damaged_files_are_named(tmp_path, drawn_once):
    run = make_run(tmp_path / "run")
    lines = (run / "stats.jsonl").read_text().splitlines(keepends=True)
    lines[2] = lines[2][:40] + "\n"
    lines[4] = '{"Loss/G/loss": 1.0}\n'
    (run / "stats.jsonl").write_text("".join([*lines, "[1]\n", '{"nimg": "x"}\n', '{"nimg": 9000, "Loss/G/loss": {"']))
    with open(run / "metric-fd5k_effnet.jsonl", "a") as file:
        file.write('{"snapshot": 1}\n\x00\n')
    (run / "reals.png").write_bytes(b"no picture")
    cut = (run / "fakes000006.png").read_bytes()
    (run / "fakes000006.png").write_bytes(cut[: len(cut) // 2])
    (run / "training_options.json").write_text('{"seed": 1,}')
    page = Page(write_report(run, DEFAULTS)).check()
    text = page.text
    assert "Missing or damaged" in text
    assert "stats.jsonl: 3 of 9 lines are damaged and left out (line 3, 7, 9)" in text
    assert "stats.jsonl: 2 records do not say at how many images" in text
    assert "metric-fd5k_effnet.jsonl: 1 of" in text and "1 records lack a snapshot or values" in text
    assert "reals.png is no readable picture" in text and "fakes000006.png is no readable picture" in text
    assert "training_options.json, line 1" in text
    shown = dict(page.images)
    assert "fakes000004.png" in shown and "reals.png" not in shown and "Losses: Loss/G/loss" in shown
    assert "90.5 (network-snapshot-000004)" in text


def test_a_directory_of_something_else(tmp_path):
    (tmp_path / "cats-r05.tfrecords").write_bytes(b"")
    with pytest.raises(UserError, match=r"is no run directory: nothing in it is of a training \(found cats-r05"):
        write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cats-r05.tfrecords"]


def test_an_empty_directory(tmp_path):
    page = Page(write_report(tmp_path, DEFAULTS)).check()
    for missing in ("stats.jsonl", "training_options.json", "reals.png", "fakes*.png", "network-snapshot-*.pkl"):
        assert f"{missing} is missing" in page.text, missing
    assert "neither a training state nor a snapshot" in page.text and not page.images


def test_how_to_continue(tmp_path, drawn_once):
    run = make_run(tmp_path / "my run")
    options = json.loads((run / "training_options.json").read_text())
    options["schedule"]["total_kimg"] = 100.0
    (run / "training_options.json").write_text(json.dumps(options))
    assert f"python run_training.py --resume '{run}'\n" in Page(write_report(run)).text + "\n"
    (run / "training-state-000006000.npz").unlink()
    text = Page(write_report(run)).text
    assert f"--init-from '{run}/network-snapshot-000006.pkl'" in text and "--resume" not in text


def test_there_must_be_a_directory(tmp_path):
    with pytest.raises(UserError, match="gone: No such file"):
        write_report(tmp_path / "gone")


def test_measured_series(tmp_path):
    for snapshot, value, changes in (
        ("network-snapshot-000010.pkl", 5.0, {}),
        ("network-snapshot-000002.pkl", 4.0, {}),
        ("network-snapshot-000010.pkl", 3.0, {}),  # measured again: the later holds
        ("network-snapshot-000002.pkl", 1.0, {"num_fake": 50_000}),  # other conditions: another curve
        ("other.pkl", 9.0, {"dataset_filter": "lanczos"}),  # for people: the hash tells data sets apart
        ("network-snapshot-000020.pkl", math.nan, {}),
    ):
        write_result(tmp_path, snapshot, result(value, **changes))
    first, second = read_run(tmp_path).measured
    assert [(p.kimg, p.value) for p in first.points][:2] == [(2, 4.0), (10, 3.0)]
    assert [p.kimg for p in first.points] == [2, 10, 20, None]
    assert [one.conditions["dataset_filter"] for one in (first, second)] == ["lanczos", None]
    assert first.best.value == 3.0 and second.best.value == 1.0
    page = Page(write_report(tmp_path)).check()
    svg = next(base64.b64decode(src.partition(",")[2]).decode() for alt, src in page.images if "fd5k" in alt)
    assert "lanczos" in page.text
    assert "num_fake 5000" in svg and "num_fake 50000" in svg


def test_held_out_images_are_told_from_those_of_the_training(tmp_path):
    for kimg, value in ((1, 5.0), (2, 3.0)):
        name = f"network-snapshot-{kimg:06d}.pkl"
        write_result(tmp_path, name, result(value))
        write_result(tmp_path, name, result(value + 1, validation=True, num_real=50, dataset_hash="ef"))
    page = Page(write_report(tmp_path)).check()
    assert "best fd5k_effnet 3 (network-snapshot-000002)" in " ".join(page.text.split())
    assert "best fd5k_effnet (held out) 4 (network-snapshot-000002)" in " ".join(page.text.split())
    svg = next(base64.b64decode(src.partition(",")[2]).decode() for alt, src in page.images if "fd5k" in alt)
    assert "held-out images" in svg and "training images" in svg and "dataset_hash" not in svg


def test_of_values_that_are_all_the_same_none_is_the_best(tmp_path):
    for kimg, metric in ((1, "fd5k_effnet"), (2, "fd5k_effnet"), (1, "kd5k_effnet")):
        write_result(tmp_path, f"network-snapshot-{kimg:06d}.pkl", result(7.0, metric))
    several, single = read_run(tmp_path).measured
    assert several.best is None and single.best.value == 7.0
    write_result(tmp_path, "network-snapshot-000003.pkl", result(6.5))
    assert read_run(tmp_path).measured[0].best.snapshot == "network-snapshot-000003.pkl"


def test_which_way_is_better():
    assert [better_is(n) for n in ("fid50k", "kid50k_full", "ppl2_wend", "ls_z", "fd5k_effnet")] == [-1] * 5
    assert [better_is(n) for n in ("is50k_mean", "pr50k3_precision", "pr50k3_full_recall", "is5k_effnet_mean")] == [
        1
    ] * 4
    assert better_is("is50k_std") == 0


def test_choice_of_grids():
    grids = [Path(str(i)) for i in range(100)]
    assert choose_grids(grids) == [grids[i] for i in (0, 25, 50, 74, 99)]
    assert choose_grids(grids[:3]) == grids[:3] and choose_grids(grids[:1]) == grids[:1] and choose_grids([]) == []


def test_flat_options():
    assert flatten({"a": 1, "G": {"x": {"4": 1}, "y": 2}}) == {"a": 1, "G.x": {"4": 1}, "G.y": 2}
