"""run_generator.py: images of seeds against the network run by hand, independence of seeds, refusals."""

import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import run_generator
from dnnlib.util import UserError
from run_generator import class_labels, draw, main
from training import config_io
from training.cli import NumberList
from training.config import DataConfig, TrainConfig

ROOT = Path(run_generator.__file__).parent


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def pkl(golden):
    return golden.path("official_sg2_uncond.pkl")


@pytest.fixture(scope="module")
def Gs(pkl):
    """The generator of the golden pickle; tests give it back as it was, or set what they change."""
    from dnnlib.tflib import pickles, tfutil
    from dnnlib.tflib.tfutil import tf

    with tf.Graph().as_default(), tfutil.create_session():
        yield pickles.load(pkl)[2]


@pytest.fixture
def run_dir(place):
    """A run directory whose data set names three classes."""
    run_dir = place / "run"
    run_dir.mkdir()
    config_io.save_config(TrainConfig(data=DataConfig(data_dir=str(place), dataset="zoo")), run_dir)
    info = dict(resolution=8, channels=3, num_images=9, label_size=3, content_hash="", format_version=1)
    (place / "zoo").mkdir()
    (place / "zoo" / "dataset.json").write_text(json.dumps(info | {"class_names": ["cat", "dog", "owl"]}))
    return run_dir


@pytest.fixture
def conditional(session, run_dir):
    """A pickle of small networks with 3 classes, in that run directory."""
    from dnnlib.tflib import Network, pickles

    sizes = dict(num_channels=3, resolution=8, label_size=3, fmap_base=32, fmap_max=8)
    G = Network("G", func_name="G_main", **sizes, latent_size=4, dlatent_size=4, mapping_layers=1, mapping_fmaps=4)
    G.set_var("G_mapping/LabelConcat/weight", np.eye(3, 4) * 5)
    D = Network("D", func_name="D_stylegan2", **sizes)
    pickles.save((G, D, G.clone("Gs")), run_dir / "net.pkl")
    return run_dir / "net.pkl"


def call(*args):
    return CliRunner().invoke(main, ["generate-images", *map(str, args)])


def images(*args):
    """{file name: pixels [H, W, C]} of the run that a command makes."""
    before = set(Path("results").glob("0*"))
    result = call(*args)
    assert result.exit_code == 0, (result.output, result.exception)
    (run_dir,) = set(Path("results").glob("0*")) - before
    assert run_dir.name.endswith("-generate-images")
    return {path.name: np.asarray(Image.open(path)) for path in run_dir.iterdir() if path.suffix == ".png"}


def refused(*args):
    result = call(*args)
    assert result.exit_code == 2, (result.output, result.exception)
    assert not Path("results").exists()
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("5", [5]), ("0-3", [0, 1, 2, 3]), ("1,2,5-7", [1, 2, 5, 6, 7]), (" 3 , 1 - 2 ", [3, 1, 2]), ("4-4", [4])],
)
def test_number_lists(text, numbers):
    assert NumberList().convert(text, None, None) == numbers


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "1,,2", "1.5", "0-99999999999"])
def test_bad_number_lists(place, pkl, text):
    assert "expected" in refused("--network", pkl, f"--seeds={text}")


# ---------------------------------------------------------------- images


def to_pixels(image):
    """Spec of the generator script: floor(clip(127.5x + 128, 0, 255))."""
    return np.floor(np.clip(127.5 * image + 128, 0, 255)).astype(np.uint8)


def by_hand(Gs, seed, psi):
    """The image of a seed: one RandomState draws z, then noise0, noise1, ..."""
    rng = np.random.RandomState(seed)
    latents = rng.randn(1, 32)
    for index, size in enumerate((4, 8, 8, 16, 16, 32, 32)):
        Gs.set_var(f"G_synthesis/noise{index}", rng.randn(1, 1, size, size))
    return to_pixels(Gs.run(latents, None, truncation_psi=psi, randomize_noise=False)[0])


def test_a_seed_fixes_latents_and_noise(Gs):
    for seed, found in zip((3, 11), draw(Gs, [3, 11], None, 0.7, "seed"), strict=True):
        expected = by_hand(Gs, seed, 0.7)
        assert expected.std() > 20
        # The last bit may fall on the other side of a rounding edge between two runs of the convolution library.
        assert np.abs(found.astype(int) - expected).max() <= 1


def test_files_hold_what_is_drawn(session, place, pkl):
    found = images("--network", pkl, "--seeds", "9,4,7", "--grid")
    assert sorted(found) == ["grid.png", "seed0004.png", "seed0007.png", "seed0009.png"]
    grid = found["grid.png"]
    assert grid.shape == (64, 64, 3)
    np.testing.assert_array_equal(grid[:32, :32], found["seed0009.png"])
    np.testing.assert_array_equal(grid[:32, 32:], found["seed0004.png"])
    np.testing.assert_array_equal(grid[32:, :32], found["seed0007.png"])
    assert not grid[32:, 32:].any()
    # Half truncation and noise by seed are the defaults; alone, a seed gives the same image as among others.
    (alone,) = images("--network", pkl, "--seeds", 4, "--truncation-psi=0.5", "--noise=seed").values()
    np.testing.assert_array_equal(alone, found["seed0004.png"])


def test_the_same_seed_gives_the_same_image(Gs):
    for noise, tolerance in (("seed", 0), ("const", 1)):  # minibatches of other sizes may round otherwise
        (alone,) = draw(Gs, [5], None, 0.5, noise, minibatch=1)
        many = list(draw(Gs, list(range(7)), None, 0.5, noise, minibatch=3))
        assert len(many) == 7
        assert np.abs(alone.astype(int) - many[5]).max() <= tolerance
        assert np.abs(many[4].astype(int) - many[5]).max() > 10


def test_const_noise_is_that_of_the_network(Gs):
    latents = np.concatenate([np.random.RandomState(seed).randn(1, 32) for seed in (2, 3, 4)])
    expected = to_pixels(Gs.run(latents, None, truncation_psi=1, randomize_noise=False))
    found = np.stack(list(draw(Gs, [2, 3, 4], None, 1, "const", minibatch=2)))
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_truncation_reaches_the_network(Gs):
    (half,), (none,) = (draw(Gs, [1], None, psi, "const") for psi in (0.5, 1.0))
    assert np.abs(half.astype(int) - none).max() > 10


def test_random_noise_differs(Gs):
    (first,), (second,) = (draw(Gs, [2], None, 0.5, "random") for _ in range(2))
    assert np.abs(first.astype(int) - second).max() > 0


def test_stored_noise_survives(Gs):
    before = Gs.get_var("G_synthesis/noise3")
    assert len(list(draw(Gs, [1, 2], None, 0.5, "seed"))) == 2
    np.testing.assert_array_equal(Gs.get_var("G_synthesis/noise3"), before)
    assert [v.shape.as_list()[2] for v in run_generator.noise_buffers(Gs)] == [4, 8, 8, 16, 16, 32, 32]


def test_classes_by_index_and_name(session, place, conditional, run_dir):
    args = ("--network", conditional, "--seeds", 1, "--truncation-psi", 1)
    cat, dog = (images(*args, "--class", label)["seed0001.png"] for label in ("0", "dog"))
    assert not np.array_equal(cat, dog)
    for label, index in (("dog", 1), ("1", 1), ("owl", 2)):
        for place in (conditional, run_dir):
            np.testing.assert_array_equal(run_generator.class_label(label, 3, str(place)), np.eye(3)[index])


def test_several_classes(session, place, conditional):
    """Every seed in each class, as if it was drawn alone; the grid has a column for each class."""
    args = ("--network", conditional, "--seeds", "1,2,4", "--truncation-psi", 1)
    found = images(*args, "--class", "owl,0", "--grid")
    assert set(found) == {f"seed{s:04d}-class{c}.png" for s in (1, 2, 4) for c in (0, 2)} | {"grid.png"}
    for index in (0, 2):
        alone = images(*args, "--class", index)
        for seed in (1, 2, 4):
            np.testing.assert_array_equal(found[f"seed{seed:04d}-class{index}.png"], alone[f"seed{seed:04d}.png"])
    assert found["grid.png"].shape == (24, 16, 3)
    np.testing.assert_array_equal(found["grid.png"][8:16, :8], found["seed0002-class2.png"])
    np.testing.assert_array_equal(found["grid.png"][16:, 8:], found["seed0004-class0.png"])


def test_class_names_with_commas(place, run_dir):
    path = place / "zoo" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"class_names": ["cat", "cat, black", "dog"]}))
    labels = lambda text: np.argmax(class_labels(text, 3, str(run_dir)), axis=1).tolist()  # noqa: E731
    assert (labels("cat, black"), labels("cat,dog"), labels("2,cat")) == ([1], [0, 2], [2, 0])
    with pytest.raises(UserError, match="--class cat,0: expected every class once"):
        labels("cat,0")
    assert class_labels(None, 0, "") == [None]


def test_how_images_were_drawn_is_written_down(session, place, conditional):
    images("--network", conditional, "--seeds", "3,5", "--class", "dog", "--truncation-psi", 0.7, "--noise", "const")
    (record,) = [json.loads(path.read_text()) for path in Path("results").glob("*/options.json")]
    digest = hashlib.sha256(conditional.read_bytes()).hexdigest()
    expected = {"command": "generate-images", "network": str(conditional), "network_sha256": digest, "seeds": [3, 5]}
    expected |= {"truncation_psi": 0.7, "label": "dog", "noise": "const", "truncation_cutoff": None}
    assert record.items() >= expected.items()

    # Of a run directory it is the newest snapshot.
    conditional.rename(conditional.with_name("network-snapshot-000008.pkl"))
    images("--network", conditional.parent, "--seeds", "3", "--class", "dog")
    record = json.loads(max(Path("results").glob("*/options.json")).read_text())
    assert (Path(record["network"]).name, record["network_sha256"]) == ("network-snapshot-000008.pkl", digest)


def test_help_shows_no_bounds_where_there_are_none():
    text = CliRunner().invoke(main, ["generate-images", "--help"]).stdout
    assert "--truncation-psi FLOAT " in text and "None" not in text


def test_help_needs_no_tensorflow():
    code = "import sys, run_generator; sys.exit(any(m.startswith(('tensorflow', 'scipy')) for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("label", "label_size", "text"),
    [
        (None, 3, "this network draws classes: give --class 0 to 2, or a name"),
        ("dgo", 3, "--class dgo: unknown class; did you mean 'dog'? known: cat, dog, owl; indices are 0 to 2"),
        ("3", 3, "--class 3: expected 0 to 2"),
        ("-1", 3, "--class -1: unknown class"),
        ("0", 0, "--class 0: this network was trained without labels; leave the option out"),
    ],
)
def test_class_mistakes(place, run_dir, label, label_size, text):
    with pytest.raises(UserError) as info:
        run_generator.class_label(label, label_size, str(run_dir / "net.pkl"))
    assert text in str(info.value)


@pytest.mark.parametrize(("size", "shape"), [([300, 200], (8, 12)), ([100, 200], (16, 8)), ([64, 64], (8, 8))])
def test_images_in_the_ratio_of_the_data_set(session, place, conditional, size, shape):
    """The longer side by the ratio grows, by the resampling of data sets; off unless it is asked for."""
    path = place / "zoo" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"source": {"fit": "stretch", "stretched_from": size}}))
    args = ("--network", conditional, "--seeds", "1,2", "--class", 0)
    plain, found = images(*args), images(*args, "--original-ratio", "--grid")
    assert plain["seed0001.png"].shape == (8, 8, 3) and found["grid.png"].shape[0] % shape[0] == 0
    for name in ("seed0001.png", "seed0002.png"):
        expected = Image.fromarray(plain[name]).resize(shape[::-1], Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(found[name], np.asarray(expected))


def test_a_ratio_that_nobody_knows(place, run_dir):
    args = ("--network", run_dir / "net.pkl", "--seeds", 1, "--original-ratio")
    assert "were not stretched from one ratio" in refused(*args)
    (place / "zoo" / "dataset.json").unlink()
    assert "--original-ratio: the data set of" in refused(*args)


def test_class_names_need_the_data_set(place):
    with pytest.raises(UserError, match="no names are known for this network; indices are 0 to 2"):
        run_generator.class_label("dog", 3, "elsewhere/net.pkl")


def test_a_class_is_needed(session, place, conditional):
    assert "give --class 0 to 2" in refused("--network", conditional, "--seeds", 1)


@pytest.mark.parametrize(
    "content",
    [b"", b"text", pickle.dumps({"G": 1}), pickle.dumps((1, 2, 3)), pickle.dumps(Path)],
    ids=["empty", "text", "dict", "numbers", "class"],
)
def test_foreign_pickles(session, place, content):
    (place / "a.pkl").write_bytes(content)
    assert "a.pkl" in refused("--network", "a.pkl", "--seeds", 1)


def test_truncated_pickle(session, place, pkl):
    (place / "a.pkl").write_bytes(pkl.read_bytes()[:-1000])
    assert "a.pkl" in refused("--network", "a.pkl", "--seeds", 1)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--network", "a.pkl"), "Missing option '--seeds'"),
        (("--seeds", "1"), "Missing option '--network'"),
        (("--network", "a.pkl", "--seeds", "1"), "a.pkl"),
        (("--network", "a.pkl", "--seeds", "4294967296"), "--seeds: found 4294967296, expected numbers below 2^32"),
        (("--network", "a.pkl", "--seeds", "1-3,2"), "--seeds: 2 is given twice"),
        (("--network", "a.pkl", "--seeds", "1", "--noise", "none"), "'none' is not one of 'seed', 'const', 'random'"),
        (("--network", "a.pkl", "--seeds", "1", "--minibatch", "0"), "'--minibatch'"),
        (("--network", "a.pkl", "--seeds", "1", "--truncation-psi", "nan"), "found nan, expected a finite number"),
        (("--network", "a.pkl", "--seeds", "1", "--truncation-psi", "-inf"), "found -inf, expected a finite number"),
        (("--network", "a.pkl", "--seeds", "1", "--trunc", "0"), "No such option '--trunc'"),
    ],
)
def test_mistakes_are_one_line(session, place, args, text):
    assert text in refused(*args)


def test_unknown_command(place):
    result = CliRunner().invoke(main, ["generate"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: No such command 'generate'.")


def test_result_directory_that_cannot_be(session, place, pkl):
    Path("file").write_text("")
    assert "result directory" in refused("--network", pkl, "--seeds", 1, "--result-dir", "file/results")
