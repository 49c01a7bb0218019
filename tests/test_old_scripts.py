"""Scripts written for StyleGAN run as their users run them, and what they write is looked at."""

import os
import pickle
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from moviepy.config import FFMPEG_BINARY
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SIZE = 32
# Three pictures of decreasing brightness: [n, y, x, rgb].
PIXELS = (np.random.RandomState(1).randint(0, 256, [3, SIZE, SIZE, 3]) // [[[[1]]], [[[2]]], [[[3]]]]).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A pickle of small networks whose noise is seen and whose average w is not zero."""
    from dnnlib.tflib import Network, pickles, tfutil
    from dnnlib.tflib.tfutil import tf

    path = tmp_path_factory.mktemp("model") / "network.pkl"
    sizes = dict(num_channels=3, resolution=SIZE, fmap_base=256, fmap_max=16)
    with tf.Graph().as_default(), tfutil.create_session():
        tf.set_random_seed(3)
        G = Network("G", "G_main", latent_size=16, dlatent_size=16, mapping_layers=2, mapping_fmaps=16, **sizes)
        D = Network("D", "D_stylegan2", **sizes)
        strengths = [var for name, var in G.vars.items() if name.endswith("noise_strength")]
        tfutil.set_vars({var: 0.3 for var in strengths})
        G.set_var("dlatent_avg", np.random.RandomState(0).randn(16))
        pickles.save((G, D, G.clone("Gs")), path)
        inputs = PIXELS.transpose(0, 3, 1, 2) / 127.5 - 1
        np.save(path.with_name("scores.npy"), D.run(inputs, None, minibatch_size=1)[:, 0])
    return path


SCRIPTS = Path(__file__).parent / "old_scripts"


def start_script(name, place, *args):
    """stdout of a script started in an empty folder with this repository on the path."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, args)]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def run_script(tmp_path, monkeypatch, session):
    """Function (name, arguments...) -> warnings: runs a script in an empty folder as Python itself would, but in this
    process, which has TensorFlow loaded already."""

    def run(name, *args):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, args)])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        return [str(warning.message) for warning in caught]

    return run


def picture(path):
    """uint8 [H, W, 3] of a picture that is not of one colour."""
    image = Image.open(path)
    assert image.mode == "RGB"
    pixels = np.asarray(image)
    assert pixels.std() > 2
    return pixels


def cells(path, columns, rows):
    """[rows, columns, SIZE, SIZE, 3] of a picture made of images."""
    pixels = picture(path)
    assert pixels.shape == (rows * SIZE, columns * SIZE, 3)
    return pixels.reshape(rows, SIZE, columns, SIZE, 3).transpose(0, 2, 1, 3, 4)


def frames(path):
    """float [n, H, W, 3] of a video: what ffmpeg decodes, as a row of PPM pictures."""
    command = [FFMPEG_BINARY, "-v", "error", "-i", str(path), "-f", "image2pipe", "-c:v", "ppm", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    header = re.match(rb"P6\s(\d+)\s(\d+)\s255\s", data)
    width, height = int(header[1]), int(header[2])
    rows = np.frombuffer(data, np.uint8).reshape(-1, header.end() + height * width * 3)
    return rows[:, header.end() :].reshape(-1, height, width, 3).astype(np.float64)


def test_random_samples(golden, tmp_path):
    """Of a file that the published implementation wrote, program text and all."""
    size = golden("official_sg2_uncond_expected.npz")["in/images"].shape[-1]
    out = start_script("random_samples", tmp_path, golden.path("official_sg2_uncond.pkl"))
    images = [picture(tmp_path / "results" / f"example-{i}.png") for i in range(3)]
    assert {image.shape for image in images} == {(size, size, 3)}
    assert not np.array_equal(images[0], images[1])
    assert out.split()[0] == "Gs"  # the title of the table of layers


def test_ranking(model, tmp_path, run_script, capsys):
    """Scores are those of D; with a single image per minibatch the order cannot matter."""
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for image, path in zip(PIXELS, paths, strict=True):
        Image.fromarray(image).save(path)
    args = ["--model", model, "--resolution", SIZE, "--minibatch_size", 1, "--images", *paths]
    run_script("ranking", *args)
    out = capsys.readouterr().out
    found = {line.split()[0]: float(line.split()[1]) for line in out.splitlines() if line.startswith(str(tmp_path))}
    expected = np.load(model.with_name("scores.npy"))
    np.testing.assert_allclose([found[str(path)] for path in paths], expected, rtol=1e-4, atol=1e-5)
    assert list(found.values()) == sorted(found.values())


def test_interpolation_videos(model, tmp_path, run_script):
    told = run_script("interpolations", model)
    grid, coarse, fine = (
        frames(tmp_path / "results" / f"{name}.mp4") for name in ("random_grid_404", "interpolate", "fine_503")
    )
    assert [video.shape for video in (grid, coarse, fine)] == [
        (10, 2 * SIZE, 2 * SIZE, 3),
        (10, 2 * SIZE, 2 * SIZE, 3),
        (10, SIZE, SIZE, 3),
    ]
    for video in (grid, coarse[:, SIZE:], fine):
        assert video.std() > 5
        assert np.abs(np.diff(video, axis=0)).mean() > 0.5, "nothing moves"
    # What is held constant: the destination on top, and the white corner (but for compression).
    assert np.abs(coarse[:, : SIZE - 4, SIZE + 4 :] - coarse[:1, : SIZE - 4, SIZE + 4 :]).mean() < 6
    assert coarse[:, : SIZE - 4, : SIZE - 4].mean() > 240
    assert any("does not read truncation_psi" in text for text in told)


def test_circular_interpolation(model, tmp_path, run_script, capsys):
    run_script("circular", model)
    out = capsys.readouterr().out
    video = frames(tmp_path / "results" / "circular.mp4")
    count = int(out.split("frames:")[1].split()[0])
    assert video.shape[1:] == (SIZE, SIZE, 3)
    assert count >= 5 and abs(len(video) - count * 20 / 30) <= 2
    assert np.abs(np.diff(video, axis=0)).mean() > 0.5


def test_figures(model, tmp_path, run_script):
    run_script("figures", model)
    place = tmp_path / "results"
    uncurated = cells(place / "uncurated.png", 3, 2)
    assert len({image.tobytes() for image in uncurated.reshape(6, -1)}) == 6

    mixing = cells(place / "mixing.png", 4, 4)
    np.testing.assert_array_equal(mixing[0, 0], 255)
    np.testing.assert_array_equal(mixing[1, 1:], mixing[0, 1:])  # all styles are the source's
    np.testing.assert_array_equal(mixing[3, 1:], np.broadcast_to(mixing[3, 0], mixing[3, 1:].shape))  # or none
    assert len({image.tobytes() for image in [*mixing[0, 1:], mixing[2, 0], *mixing[2, 1:]]}) == 7

    detail = cells(place / "detail.png", 3, 2)
    assert np.any(detail[:, 0] != detail[:, 1]) and np.all(detail[:, 2].max(axis=(1, 2, 3)) > 0)
    np.testing.assert_array_equal(detail[:, 2, :, :, 0], detail[:, 2, :, :, 2])

    full, none, upper, lower, again = cells(place / "components.png", 2, 5)
    np.testing.assert_array_equal(full, again)
    assert len({row.tobytes() for row in (full, none, upper, lower)}) == 4

    truncation = cells(place / "truncation.png", 4, 2)
    np.testing.assert_array_equal(truncation[0, 2], truncation[1, 2])  # psi = 0: the average image
    assert len({image.tobytes() for image in truncation.reshape(8, -1)}) == 7


def test_networks_by_the_name_of_old(model, session, tmp_path):
    import pretrained_networks
    from dnnlib.util import UserError

    _, D, Gs = pretrained_networks.load_networks(model)  # noqa: N806
    assert (D.name, Gs.name) == ("D", "Gs")
    images = Gs.run(np.zeros([1, 16]), None, truncation_psi=0.5, randomize_noise=False)
    assert images.shape == (1, 3, SIZE, SIZE)
    (tmp_path / "other.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match=r"other.pkl: expected a pickle of \(G, D, Gs\)"):
        pretrained_networks.load_networks(tmp_path / "other.pkl")
