"""run_projector.py: files, records, data sets, image files and refusals, with a distance that costs nothing."""

import json
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import run_projector
from metrics import features
from tests.projection_models import pixel_embedding, tiny_networks
from tests.tiny import tiny_dataset


class Pixels:
    """In place of a feature network: mean squared differences of pixels 0..255, scaled to -1..1."""

    name, outputs, weights_sha256 = "pixels", ("perceptual",), "0" * 64

    def perceptual(self, images):
        return pixel_embedding(images / 127.5)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with net.pkl (16 px) and data sets right and wrong; a graph and session around it."""
    from dnnlib.tflib import pickles, tfutil
    from dnnlib.tflib.tfutil import tf

    folder = tmp_path_factory.mktemp("projector")
    with tf.Graph().as_default(), tfutil.create_session():
        pickles.save(tiny_networks(), folder / "net.pkl")
    tiny_dataset(folder / "reals", 4, 16)
    tiny_dataset(folder / "smaller", 4, 8)
    return folder


@pytest.fixture(autouse=True)
def here(place, session, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr(features, "load_feature_network", lambda name, weights: Pixels())


def call(*args):
    return CliRunner().invoke(run_projector.main, [str(arg) for arg in args])


def run(command, *args):
    """The directory that a command makes."""
    result = call(command, "--network", "net.pkl", *args)
    assert result.exit_code == 0, (result.output, result.exception)
    return max(Path("results").iterdir(), key=lambda path: path.name if path.is_dir() else ""), result.output


def pixels(path):
    return np.asarray(Image.open(path))


def test_generated_images():
    args = ("--seeds", "3,5", "--steps", 60, "--num-snapshots", 2, "--batch", 2, "--noise-weight", 1)
    folder, output = run("project-generated-images", *args, "--video", "--video-frames", 6)
    assert folder.name.endswith("project-generated-images")
    expected = {"comparison.png", "dlatents.npz", "projection.json"}
    for name in ("seed0003", "seed0005"):
        expected |= {f"{name}-{what}" for what in ("target.png", "step0030.png", "step0060.png", "dlatents.npz")}
        expected.add(f"{name}.mp4")
    assert {path.name for path in folder.iterdir()} == expected
    record = json.loads((folder / "projection.json").read_text())
    assert record["distance"] == "pixels"
    assert record["options"]["steps"] == 60
    assert "seed0003: distance" in output
    assert "(pixels)" in output
    comparison = pixels(folder / "comparison.png")
    assert comparison.shape == (32, 32, 3)
    for row, name in enumerate(("seed0003", "seed0005")):
        target, last = (pixels(folder / f"{name}-{what}.png").astype(float) for what in ("target", "step0060"))
        # The picture itself says how far it is.
        measured = np.square((target - last) / 127.5).mean()
        assert measured == pytest.approx(record["distances"][name], rel=0.1, abs=1e-3)
        np.testing.assert_array_equal(comparison[row * 16 : row * 16 + 16], np.concatenate([target, last], axis=1))
        with np.load(folder / f"{name}-dlatents.npz") as arrays:
            assert arrays["dlatents"].shape == (1, 6, 8)
            assert arrays["noise4"].shape == (1, 1, 16, 16)
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(folder / "seed0003.mp4"))
    assert frames == 6
    with np.load(folder / "dlatents.npz") as arrays:
        assert arrays["dlatents"].shape == (2, 6, 8)


def test_real_images():
    from training.dataset import TFRecordDataset

    args = ("--data-dir", ".", "--dataset", "reals", "--num-images", 2, "--first-image", 1, "--steps", 2)
    folder, _ = run("project-real-images", *args, "--num-snapshots", 1)
    reals = TFRecordDataset("reals").read(np.array([1, 2]))
    for number, real in zip((1, 2), reals, strict=True):
        np.testing.assert_array_equal(pixels(folder / f"image{number:04d}-target.png"), real.transpose(1, 2, 0))
        assert (folder / f"image{number:04d}-step0002.png").is_file()
    assert json.loads((folder / "projection.json").read_text())["dataset"] == "reals"


def test_image_files(place):
    image = np.zeros([40, 60, 3], np.uint8)
    image[:, 10:50] = 200  # what the square crop keeps
    Image.fromarray(image).save(place / "wide.png")
    folder, _ = run("project-files", "wide.png", "--steps", 2, "--num-snapshots", 0, "--w-plus", "--keep-noise")
    target = pixels(folder / "image0000-target.png")
    assert target.shape == (16, 16, 3)
    assert (target == 200).all()
    assert json.loads((folder / "projection.json").read_text())["options"]["w_plus"]
    (place / "broken.png").write_bytes(b"no image")
    result = call("project-files", "broken.png", "--network", "net.pkl")
    assert result.exit_code == 2
    assert "broken.png" in result.stderr


def test_attribution():
    args = (
        "--data-dir",
        ".",
        "--dataset",
        "reals",
        "--num-images",
        3,
        "--steps",
        60,
        "--noise-weight",
        1,
        "--batch",
        3,
    )
    folder, output = run("attribution", *args)
    record = json.loads((folder / "attribution.json").read_text())
    generated, real = (np.array(record["distances"][kind]) for kind in ("generated", "real"))
    # The data are noise, which this generator cannot make.
    assert generated.max() < real.min()
    assert record["auc"] == record["accuracy"] == 1
    assert generated.max() < record["threshold"] < real.min()
    assert pixels(folder / "attribution.png").shape[2] >= 3
    assert (folder / "real" / "image0002-dlatents.npz").is_file()
    assert "AUC 1.000, 100.0% told right" in output


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("project-real-images", "--data-dir", ".", "--dataset", "smaller"), "smaller"),
        (("project-real-images", "--data-dir", ".", "--dataset", "reals", "--num-images", 5), "holds 4 images"),
        (("project-real-images", "--data-dir", ".", "--dataset", "none"), "none"),
        (("project-generated-images", "--seeds", "1,1"), "1 is given twice"),
        (("project-generated-images", "--steps", "0"), "--steps"),
        (("project-generated-images", "--noise-weight", "inf"), "found inf, expected a finite number"),
        (("project-generated-images", "--class", "1"), "trained without labels"),
        (("project-generated-images", "--stepss", "2"), "No such option '--stepss'"),
    ],
)
def test_refusals(args, text):
    before = set(Path("results").glob("*"))
    result = call(args[0], "--network", "net.pkl", *args[1:])
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = result.stderr.splitlines()
    assert text in line
    assert set(Path("results").glob("*")) == before


def test_networks_without_a_distance(monkeypatch):
    class Features(Pixels):
        outputs = ("features",)

    monkeypatch.setattr(features, "load_feature_network", lambda name, weights: Features())
    result = call("project-generated-images", "--network", "net.pkl", "--feature-network", "vgg16")
    assert result.exit_code == 2
    assert "--feature-network vgg16: measures no perceptual distance" in result.stderr
