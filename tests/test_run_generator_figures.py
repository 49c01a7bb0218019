"""Figures and videos of run_generator.py: what is in the files, against the network run by hand."""

import json
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import run_generator
from dnnlib.util import UserError
from run_generator import draw
from tests.projection_models import tiny_networks
from training.generation.mixing import coarse_styles


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with net.pkl (16 px, 6 layers)."""
    from dnnlib.tflib import pickles, tfutil
    from dnnlib.tflib.tfutil import tf

    folder = tmp_path_factory.mktemp("figures")
    with tf.Graph().as_default(), tfutil.create_session():
        networks = tiny_networks()
        networks[2].set_var("dlatent_avg", np.linspace(-0.5, 0.5, 8))
        pickles.save(networks, folder / "net.pkl")
    return folder


@pytest.fixture(scope="module")
def loaded(place):
    """The generator, loaded once for all commands: (Gs, the context that makes its graph and session the default)."""
    from dnnlib.tflib import pickles, tfutil
    from dnnlib.tflib.tfutil import tf

    with tf.Graph().as_default(), tfutil.create_session():
        yield pickles.load(place / "net.pkl")[2]


@pytest.fixture(autouse=True)
def here(place, loaded, monkeypatch):
    from training.generation_cli import figures, walks

    monkeypatch.chdir(place)
    for module in (figures, walks):
        monkeypatch.setattr(module, "load_generator", lambda network: loaded)


def call(*args):
    return CliRunner().invoke(run_generator.main, [str(arg) for arg in args])


def run(command, *args):
    """{file name: path} of what a command writes."""
    result = call(command, "--network", "net.pkl", *args)
    assert result.exit_code == 0, (result.output, result.exception)
    folder = max(path for path in Path("results").iterdir() if path.is_dir())
    assert folder.name.endswith(command)
    files = {path.name: path for path in folder.iterdir()}
    assert json.loads(files.pop("options.json").read_text())["command"] == command
    return files


def refused(command, *args):
    before = set(Path("results").glob("*"))
    result = call(command, "--network", "net.pkl", *args)
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = result.stderr.splitlines()
    assert set(Path("results").glob("*")) == before
    return line


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def w_of(Gs, seed, psi=1.0):
    w = Gs.components.mapping.run(np.random.RandomState(seed).randn(1, 8), None)[0]
    avg = Gs.get_var("dlatent_avg")
    return avg + psi * (w - avg)


def image_of(Gs, w):
    """Pixels [H, W, C] of w [layers, size] with the network's noise."""
    image = Gs.components.synthesis.run(w[None], randomize_noise=False)[0]
    return np.floor(np.clip(127.5 * image + 128, 0, 255)).astype(int).transpose(1, 2, 0)


def assert_same(found, expected):
    # The last bit may fall on the other side of a rounding edge in another minibatch.
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1


def test_style_mixing(loaded):
    files = run("style-mixing-example", "--row-seeds", "1,2", "--col-seeds", "3-5", "--col-styles", "0,4-5")
    pairs = {f"{row}-{column}.png" for row in (1, 2) for column in (3, 4, 5)}
    assert set(files) == pairs | {"grid.png"}
    mixed = w_of(loaded, 2, 0.5)
    mixed[[0, 4, 5]] = w_of(loaded, 3, 0.5)[[0, 4, 5]]
    assert_same(pixels(files["2-3.png"]), image_of(loaded, mixed))
    grid = pixels(files["grid.png"])
    assert grid.shape == (48, 64, 3)
    assert not grid[:16, :16].any()
    assert_same(grid[:16, 16:32], image_of(loaded, w_of(loaded, 3, 0.5)))
    assert_same(grid[32:, :16], image_of(loaded, w_of(loaded, 2, 0.5)))
    assert_same(grid[32:, 16:32], pixels(files["2-3.png"]))


def test_w_of_files(loaded):
    w = np.stack([w_of(loaded, seed) for seed in (7, 8)])
    np.savez("ada.npz", dlatents=w, notes=np.array([{"other": "things"}]))  # which is not read
    np.savez("port.npz", w=w)
    np.save("one.npy", w[:, 0])
    for name in ("ada.npz", "port.npz", "one.npy"):
        files = run("generate-dlatents", "--dlatents", name, "--grid")
        assert set(files) == {"dlatent00.png", "dlatent01.png", "grid.png"}
        assert_same(pixels(files["dlatent01.png"]), image_of(loaded, w[1]))
    files = run("style-mixing-example", "--row-dlatents", "ada.npz", "--col-seeds", 3, "--col-styles", 5)
    mixed = w[1].copy()
    mixed[5] = w_of(loaded, 3, 0.5)[5]
    assert_same(pixels(files["1-3.png"]), image_of(loaded, mixed))


def test_styles_that_are_mixed_unless_told_otherwise(loaded):
    """The coarse half of a small network; the first 7 of one with 14 layers or more."""
    files = run("style-mixing-example", "--row-seeds", 1, "--col-seeds", 2)
    record = json.loads((files["grid.png"].parent / "options.json").read_text())
    assert record["col_styles"] == [0, 1, 2]
    mixed = w_of(loaded, 1, 0.5)
    mixed[:3] = w_of(loaded, 2, 0.5)[:3]
    assert_same(pixels(files["1-2.png"]), image_of(loaded, mixed))
    assert [len(coarse_styles(layers)) for layers in (2, 8, 12, 14, 18)] == [1, 4, 6, 7, 7]


def test_noise_of_files(loaded):
    """Maps that projection found are drawn with, each w with its own, and the network has its own again afterwards."""
    from training.generation.draw import noise_buffers

    shapes = [buffer.shape.as_list()[2:] for buffer in noise_buffers(loaded)]
    maps = {f"noise{i}": np.random.RandomState(i).randn(2, 1, *shape) * 3 for i, shape in enumerate(shapes)}
    names = [name for name in loaded.vars if name.split("/")[-1] in maps]
    stored = {name: loaded.get_var(name) for name in names}
    w = np.stack([w_of(loaded, seed) for seed in (7, 8)])
    np.savez("noisy.npz", dlatents=w, **maps)
    plain = image_of(loaded, w[1])
    files = run("generate-dlatents", "--dlatents", "noisy.npz")
    assert all(np.array_equal(loaded.get_var(name), value) for name, value in stored.items())
    assert_same(pixels(run("generate-dlatents", "--dlatents", "noisy.npz", "--noise", "const")["dlatent01.png"]), plain)
    for name in names:
        loaded.set_var(name, maps[name.split("/")[-1]][1:])
    expected = image_of(loaded, w[1])
    for name, value in stored.items():
        loaded.set_var(name, value)
    assert np.abs(expected - plain).max() > 3
    assert_same(pixels(files["dlatent01.png"]), expected)

    np.savez("noisy.npz", dlatents=w, **{**maps, "noise2": maps["noise2"][:1]})
    assert "noisy.npz: noise2: found float64 [1, 1, " in refused("generate-dlatents", "--dlatents", "noisy.npz")
    del maps["noise4"]
    np.savez("noisy.npz", dlatents=w, **maps)
    assert "noisy.npz: no noise4" in refused("generate-dlatents", "--dlatents", "noisy.npz")


def test_truncation_sweep(loaded):
    files = run("truncation-sweep", "--seeds", "4,9", "--psis", "1,0,-0.5", "--cutoff", 3)
    names = {f"seed{seed:04d}-psi{psi}.png" for seed in (4, 9) for psi in ("1", "0", "-0.5")}
    assert set(files) == names | {"grid.png"}
    w = w_of(loaded, 9)
    w[:3] = w_of(loaded, 9, -0.5)[:3]
    assert_same(pixels(files["seed0009-psi-0.5.png"]), image_of(loaded, w))
    grid = pixels(files["grid.png"])
    assert_same(grid[16:, 32:], pixels(files["seed0009-psi-0.5.png"]))
    whole = run("truncation-sweep", "--seeds", "4,9", "--psis", "0")
    average = image_of(loaded, np.tile(loaded.get_var("dlatent_avg"), (6, 1)))
    for name in ("seed0004-psi0.png", "seed0009-psi0.png"):
        assert_same(pixels(whole[name]), average)


def test_noise_example(loaded):
    stored = loaded.get_var("G_synthesis/noise3")
    files = run("noise-example", "--seeds", 6, "--num", 5, "--coarse", 8)
    groups = ("all", "none", "coarse", "fine")
    expected = {"realization1", "realization2", "deviation", *(f"noise-{group}" for group in groups)}
    assert set(files) == {f"seed0006-{name}.png" for name in expected} | {"grid.png"}
    found = {name: pixels(files[f"seed0006-{name}.png"]) for name in expected}
    np.testing.assert_array_equal(loaded.get_var("G_synthesis/noise3"), stored)
    np.testing.assert_array_equal(found["realization1"], found["noise-all"])
    none = loaded.components.synthesis.run(w_of(loaded, 6, 0.5)[None], use_noise=False)[0]
    assert_same(found["noise-none"], np.floor(np.clip(127.5 * none + 128, 0, 255)).astype(int).transpose(1, 2, 0))
    for one, other in (("realization1", "realization2"), ("noise-coarse", "noise-fine"), ("noise-fine", "noise-none")):
        assert np.abs(found[one] - found[other]).max() > 3, (one, other)
    assert found["deviation"].max() == 255
    assert pixels(files["grid.png"]).shape == (16, 7 * 16, 3)


def test_deviation_by_hand(loaded):
    from training.generation.noise_study import study_noise

    study = study_noise(loaded, w_of(loaded, 6), 4, 8, 0)
    by_hand = np.array([image.astype(float).mean(axis=0) for image in study.realizations])
    np.testing.assert_allclose(study.deviation, np.sqrt(by_hand.var(axis=0)))
    assert study.deviation.max() > 1


def frames_of(path):
    return imageio_ffmpeg.count_frames_and_secs(str(path))[0]


def test_video_in_z(loaded):
    files = run("interpolation-video", "--seeds", "1,2", "--frames", 4, "--save-frames", "--truncation-psi", 0.7)
    assert set(files) == {"video.mp4", "dlatents.npz", *(f"frame{index:05d}.png" for index in range(8))}
    assert frames_of(files["video.mp4"]) == 8
    assert_same(pixels(files["frame00004.png"]), image_of(loaded, w_of(loaded, 2, 0.7)))
    with np.load(files["dlatents.npz"]) as arrays:
        np.testing.assert_allclose(arrays["dlatents"][0], w_of(loaded, 1, 0.7), atol=1e-5)
        assert_same(pixels(files["frame00002.png"]), image_of(loaded, arrays["dlatents"][2]))


@pytest.mark.parametrize(
    ("mode", "loop", "count"),
    [("linear", "--no-loop", 5), ("spline", "--no-loop", 5), ("circle", "--loop", 16)],
    ids=["linear", "spline", "circle"],
)
def test_videos_in_w(loaded, mode, loop, count):
    w = np.stack([w_of(loaded, seed) for seed in (7, 8)])
    np.savez("keys.npz", dlatents=w)
    files = run("interpolation-video", "--dlatents", "keys.npz", "--mode", mode, loop, "--frames", 4)
    assert frames_of(files["video.mp4"]) == count
    with np.load(files["dlatents.npz"]) as arrays:
        found = arrays["dlatents"]
    np.testing.assert_allclose(found[[0, 4]], w, atol=1e-5)
    if mode == "linear":
        np.testing.assert_allclose(found[2], w.mean(axis=0), atol=1e-5)
    if mode == "circle":
        np.testing.assert_allclose(found.mean(axis=0), np.tile(loaded.get_var("dlatent_avg"), (6, 1)), atol=1e-5)


def test_points_outlast_a_video_that_fails(monkeypatch):
    def fail(path, fps):
        raise UserError(f"{path}: no space left")

    monkeypatch.setattr("training.generation.video.open_video", fail)
    result = call("interpolation-video", "--network", "net.pkl", "--seeds", "1,2", "--frames", 2)
    assert result.exit_code == 2 and "no space left" in result.stderr
    folder = max(path for path in Path("results").iterdir() if path.is_dir())
    assert {path.name for path in folder.iterdir()} == {"dlatents.npz", "options.json"}


def test_noise_of_videos(loaded):
    stored = loaded.get_var("G_synthesis/noise3")
    w = np.tile(w_of(loaded, 7), (2, 1, 1))
    np.savez("still.npz", dlatents=w)
    args = ("--dlatents", "still.npz", "--mode", "linear", "--frames", 4, "--save-frames")
    still = run("interpolation-video", *args)
    turning = run("interpolation-video", *args, "--noise", "loop")
    again = run("interpolation-video", *args, "--noise", "loop")
    other = run("interpolation-video", *args, "--noise", "loop", "--noise-seed", 1)
    random = run("interpolation-video", *args, "--noise", "random")
    first, third = "frame00000.png", "frame00003.png"
    assert_same(pixels(still[first]), pixels(still[third]))
    for files in (turning, random):
        assert np.abs(pixels(files[first]) - pixels(files[third])).max() > 3
    assert_same(pixels(turning[third]), pixels(again[third]))
    assert np.abs(pixels(turning[third]) - pixels(other[third])).max() > 3
    np.testing.assert_array_equal(loaded.get_var("G_synthesis/noise3"), stored)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("interpolation-video", "--seeds", 1), "2 points at least, found 1"),
        (("interpolation-video", "--seeds", "1-3", "--mode", "circle"), "exactly 2 points, found 3"),
        (("interpolation-video",), "give either --seeds or --dlatents"),
        (("interpolation-video", "--seeds", "1,2", "--space", "v"), "'v' is not one of 'z', 'w'"),
        (("interpolation-video", "--seeds", "1,1"), "1 is given twice"),
        (("style-mixing-example", "--row-seeds", 1), "give either --col-seeds or --col-dlatents"),
        (("interpolation-video", "--seeds", "1,2", "--mode", "circle", "--no-loop"), "a circle is a full turn"),
        (("style-mixing-example", "--row-seeds", 1, "--col-seeds", 2, "--col-styles", "4-6"), "found layer 6, this"),
        (("style-mixing-example", "--row-seeds", "1,1", "--col-seeds", 2), "--row-seeds: 1 is given twice"),
        (("truncation-sweep", "--seeds", 1, "--psis", "a"), "expected numbers such as -1,0,0.5"),
        (("truncation-sweep", "--seeds", 1, "--psis", "nan"), "expected finite numbers"),
        (("truncation-sweep", "--seeds", 1, "--psis", "0.5,0.50"), "--psis 0.5,0.5: expected each once"),
        (("noise-example", "--seeds", 1, "--num", 1), "--num"),
        (("generate-dlatents", "--dlatents", "none.npz"), "none.npz: cannot be read"),
        (("generate-dlatents", "--dlatents", __file__), "test_run_generator_figures.py: neither .npy nor .npz"),
    ],
)
def test_refusals(args, text):
    assert text in refused(*args)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"dlatents": np.zeros([1, 18, 512])}, "expected w of shape [n, 6, 8] or [n, 8], found [1, 18, 512]"),
        ({"dlatents": np.zeros([0, 6, 8])}, "found [0, 6, 8]"),
        ({"z": np.zeros([1, 8])}, "expected an array dlatents or w, found ['z']"),
        ({"w": np.full([1, 8], np.nan)}, "w is not finite"),
        ({"w": np.array([["a"] * 8])}, "expected numbers, found <U1"),
        ({"w": np.array([[{}] * 8])}, "cannot be read"),
    ],
)
def test_files_that_hold_no_w(content, text):
    np.savez("bad.npz", **content)
    assert text in refused("generate-dlatents", "--dlatents", "bad.npz")


def test_damaged_files():
    np.savez("good.npz", dlatents=np.zeros([2, 6, 8]))
    Path("cut.npz").write_bytes(Path("good.npz").read_bytes()[:200])
    Path("text.npy").write_text("w")
    for name, text in (("cut.npz", "cannot be read"), ("text.npy", "neither .npy nor .npz")):
        assert f"{name}: {text}" in refused("generate-dlatents", "--dlatents", name)


def test_networks_without_noise(monkeypatch):
    from training.generation_cli import figures, walks

    for module in (figures, walks):
        monkeypatch.setattr(module, "noise_buffers", lambda network: [])
    assert "no noise inputs" in refused("interpolation-video", "--seeds", "1,2", "--noise", "loop")
    assert "no noise inputs" in refused("noise-example", "--seeds", "1")


def test_truncation_cutoff(loaded):
    """Fine layers are not truncated: for seeds in all commands, as `Gs.run` does it."""
    w = w_of(loaded, 9)
    w[:3] = w_of(loaded, 9, 0.2)[:3]
    expected = image_of(loaded, w)
    options = ["--truncation-psi", 0.2, "--truncation-cutoff", 3]
    files = run("style-mixing-example", "--row-seeds", 9, "--col-seeds", 4, "--col-styles", 5, *options)
    w[5] = w_of(loaded, 4)[5]
    assert_same(pixels(files["9-4.png"]), image_of(loaded, w))
    files = run("interpolation-video", "--seeds", "9,4", "--frames", 1, "--save-frames", *options)
    assert_same(pixels(files["frame00000.png"]), expected)
    (image,) = draw(loaded, [9], None, 0.2, "const", truncation_cutoff=3)
    assert_same(image.transpose(1, 2, 0), expected)
    assert np.abs(expected.astype(int) - image_of(loaded, w_of(loaded, 9, 0.2))).max() > 3


def test_the_cutoff_of_a_network(loaded, monkeypatch):
    monkeypatch.setitem(loaded.static_kwargs, "truncation_cutoff", 2)
    w = w_of(loaded, 9)
    w[:2] = w_of(loaded, 9, -0.5)[:2]
    files = run("truncation-sweep", "--seeds", 9, "--psis", "-0.5")
    assert_same(pixels(files["seed0009-psi-0.5.png"]), image_of(loaded, w))
    files = run("truncation-sweep", "--seeds", 9, "--psis", "-0.5", "--truncation-cutoff", 6)
    assert_same(pixels(files["seed0009-psi-0.5.png"]), image_of(loaded, w_of(loaded, 9, -0.5)))


def test_single_images_take_a_cutoff(place):
    """The whole command line."""
    shown = {}
    for name, options in (("all", []), ("none", ["--truncation-cutoff", 0]), ("psi 1", ["--truncation-psi", 1])):
        files = run("generate-images", "--seeds", 3, "--noise", "const", *options)
        shown[name] = pixels(files["seed0003.png"]).astype(int)
    assert_same(shown["none"], shown["psi 1"])
    assert np.abs(shown["all"] - shown["none"]).max() > 3
