"""Videos are decoded again by ffmpeg."""

import os
import shlex
import subprocess
from contextlib import ExitStack

import imageio_ffmpeg
import numpy as np
import pytest

from dnnlib.util import UserError
from training.generation.video import open_video, video_frame


def test_frames_come_back(tmp_path):
    images = [np.full([3, 32, 48], 40 * index, np.uint8) for index in range(5)]
    images[0][0, :, :24] = 255
    with open_video(tmp_path / "a.mp4", 7) as video:
        for image in images:
            video.add(image)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", tmp_path / "a.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run(ffmpeg, capture_output=True, check=True)
    for fact in (b"h264", b"192x128", b"7 fps"):  # enlarged four times
        assert fact in decoded.stderr
    found = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, 128, 192, 3)
    assert len(found) == 5
    for image, frame in zip(images[1:], found[1:], strict=True):
        np.testing.assert_allclose(frame.astype(int), int(image.max()), atol=6)
    assert found[0][:, :80, 0].min() > 220
    assert found[0][:, 112:, 0].max() < 30


def test_channels_become_colours():
    grey = video_frame(np.full([1, 128, 128], 7, np.uint8))
    assert grey.shape == (128, 128, 3)
    assert (grey == 7).all()
    clear = np.zeros([4, 128, 128], np.uint8)
    assert (video_frame(clear) == 255).all()
    clear[3] = 255
    assert (video_frame(clear) == 0).all()


def test_sides_become_even():
    assert video_frame(np.zeros([3, 129, 131], np.uint8)).shape == (130, 132, 3)


def test_nothing_is_left_of_a_failure(tmp_path):
    with pytest.raises(RuntimeError), open_video(tmp_path / "a.mp4", 5) as video:
        video.add(np.zeros([3, 32, 32], np.uint8))
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="no frames"), open_video(tmp_path / "a.mp4", 5):
        assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"written as \.mp4, found '\.gif'"), open_video(tmp_path / "a.gif", 5):
        pytest.fail("never opened")


def test_frames_of_one_shape(tmp_path):
    with pytest.raises(ValueError, match="shape"), open_video(tmp_path / "a.mp4", 5) as video:
        video.add(np.zeros([3, 32, 32], np.uint8))
        video.add(np.zeros([3, 32, 64], np.uint8))


@pytest.mark.parametrize(
    ("after", "text"),
    [
        ("; exit 3", "ffmpeg: exit code 3"),  # it ends badly
        ("; echo Error writing trailer: No space left on device >&2", "ffmpeg: Error writing trailer: No space left"),
        ("& kill -9 $!; exit 1", "ffmpeg: exit code 1"),  # it ends before the frames do
    ],
)
def test_what_ffmpeg_did_not_finish_is_no_video(tmp_path, monkeypatch, after, text):
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/sh\n{shlex.quote(imageio_ffmpeg.get_ffmpeg_exe())} "$@" {after}\n')
    program.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: os.fspath(program))
    message = f"a.mp4: the video could not be written: {text}"
    with pytest.raises(UserError, match=message) as info, open_video(tmp_path / "a.mp4", 5) as video:
        for _ in range(100):
            video.add(np.zeros([3, 256, 256], np.uint8))
    assert "\n" not in str(info.value)
    assert list(tmp_path.iterdir()) == [program]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"none/a.mp4: .*No such file"), open_video(tmp_path / "none/a.mp4", 5) as video:
        video.add(np.zeros([3, 32, 32], np.uint8))


def test_paths_that_ffmpeg_would_take_for_something_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere.mp4").write_bytes(b"old")
    for name in ("run:1", "-x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").symlink_to(tmp_path / "elsewhere.mp4")
        with open_video(f"{name}/a.mp4", 5) as video:
            video.add(np.zeros([3, 32, 32], np.uint8))
        assert (tmp_path / name / "a.mp4").is_symlink()
        assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "elsewhere.mp4"))[0] == 1
        (tmp_path / "elsewhere.mp4").write_bytes(b"old")


def test_of_two_videos_the_one_that_failed_is_named(tmp_path):
    with pytest.raises(UserError, match="a.mp4: ") as info, ExitStack() as stack:
        first, second = (stack.enter_context(open_video(tmp_path / name, 5)) for name in ("a.mp4", "b.mp4"))
        for index in range(100):
            if index == 1:
                first._process.kill()
            for video in (second, first):
                video.add(np.zeros([3, 256, 256], np.uint8))
    assert "b.mp4" not in str(info.value) and list(tmp_path.iterdir()) == []
