"""CelebA: the square around the face."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.published_files import fails, save, tool
from training.dataset import TFRecordDataset
from training.dataset_build import published_order

COUNT = 6


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (218, 178, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    for index in range(COUNT):
        save(tmp_path / "in" / "img_align_celeba_png" / f"{index + 1:06d}.png", picture(index))
    (tmp_path / "in" / "img_align_celeba_png" / "readme.txt").write_text("not a picture")
    return tmp_path / "in"


@pytest.mark.parametrize(("cx", "cy"), [(89, 121), (64, 64), (114, 154)])
def test_celeba(folder, tmp_path, cx, cy):
    sub = "" if cx == 64 else "img_align_celeba_png"
    options = () if (cx, cy) == (89, 121) else ("--cx", cx, "--cy", cy)
    output = tool("create_celeba", tmp_path / "out", folder / sub, *options).output
    assert f"Found {COUNT} images; the published data set has 202599." in output
    dataset = TFRecordDataset(tmp_path / "out")
    expected = np.stack([picture(i)[cy - 64 : cy + 64, cx - 64 : cx + 64] for i in published_order(COUNT)])
    np.testing.assert_array_equal(dataset.read(np.arange(COUNT)), expected.transpose(0, 3, 1, 2))
    assert dataset.label_size == 0


def test_jpeg_and_bad_files(tmp_path):
    save(tmp_path / "in" / "000001.jpg", picture(1), quality=95)
    save(tmp_path / "in" / "000002.jpg", picture(2)[:, :100])
    (tmp_path / "in" / "000003.jpg").write_bytes((tmp_path / "in" / "000001.jpg").read_bytes()[:5000])
    output = tool("create_celeba", tmp_path / "out", tmp_path / "in").output
    assert "Wrote 1 image of 128x128x3" in output and "Skipped 2 files" in output
    assert "100x218, expected 178x218" in (tmp_path / "out" / "skipped.csv").read_text()
    assert "error: 00000" in fails("create_celeba", tmp_path / "b", tmp_path / "in", "--strict")


def test_a_pipe_among_the_pictures_is_skipped(tmp_path):
    """To open one as a file waits for somebody to write into it."""
    save(tmp_path / "in" / "000001.jpg", picture(1))
    os.mkfifo(tmp_path / "in" / "000002.jpg")
    code = "import sys, dataset_tool; dataset_tool.cli.main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "create_celeba", tmp_path / "out", tmp_path / "in", "--workers", "1"]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    assert "not a regular file but a pipe" in (tmp_path / "out" / "skipped.csv").read_text()


def test_wrong_arguments(folder, tmp_path):
    line = fails("create_celeba", tmp_path / "out", folder, "--cx", 63)
    assert "--cx is 63, expected 64 to 114" in line
    assert "--cy is 155, expected 64 to 154" in fails("create_celeba", tmp_path / "out", folder, "--cy", 155)
    assert "nowhere is not a folder" in fails("create_celeba", tmp_path / "out", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "expected img_align_celeba" in fails("create_celeba", tmp_path / "out", tmp_path / "empty")
    assert not (tmp_path / "out").exists()


def test_encoding_and_images_held_out(folder, tmp_path):
    tool("create_celeba", tmp_path / "out", folder, "--encoding", "png", "--validation", 2)
    training, held_out = (TFRecordDataset(tmp_path / "out", validation=validation) for validation in (False, True))
    assert training.encoding == "png" and (training.num_images, held_out.num_images) == (COUNT - 2, 2)
    read = [*training.read(np.arange(COUNT - 2)), *held_out.read(np.arange(2))]
    expected = [picture(i)[57:185, 25:153].transpose(2, 0, 1).tobytes() for i in range(COUNT)]
    assert sorted(image.tobytes() for image in read) == sorted(expected)
