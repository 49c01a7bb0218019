"""Videos of images."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from dnnlib.util import UserError

_SMALLEST = 128  # smaller frames are enlarged pixel by pixel, by a whole factor


class VideoWriter:
    """Takes frames one by one; all have the shape of the first.

    ffmpeg is run here and not by imageio_ffmpeg's writer, which does not look at how it ended: a video that a full disk
    cut short passed for a good one.
    """

    def __init__(self, path: Path, part: Path, fps: int) -> None:
        """path: of the video, for errors; part: absolute path of the file to write."""
        self._path, self._part, self._fps = path, part, fps
        self._shape: tuple[int, ...] | None = None
        self._process: subprocess.Popen | None = None

    def add(self, image: np.ndarray) -> None:
        """A frame uint8 [C, H, W], C = 1, 3 or 4 (alpha is laid on white). Raises `UserError` if ffmpeg has ended."""
        frame = video_frame(image)
        if self._process is None:
            self._shape = frame.shape
            self._process = self._start(*frame.shape[:2])
        if frame.shape != self._shape:
            raise ValueError(f"video: a frame of shape {list(frame.shape)} after {list(self._shape or ())}")
        try:
            self._process.stdin.write(frame)
        except BrokenPipeError:
            self.finish()
            raise UserError(f"{self._path}: ffmpeg ended before the video") from None

    def _start(self, height: int, width: int) -> subprocess.Popen:
        # H.264 with halved colour, which every player knows; frames of any even size.
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error",
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(self._fps), "-i", "-",
            "-c:v", "libx264", "-crf", "10", "-pix_fmt", "yuv420p", "-f", "mp4", os.fspath(self._part),
        ]  # fmt: skip
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def finish(self) -> None:
        """Finish the file. Raises `UserError` if there were no frames, or ffmpeg says that anything went wrong."""
        if self._process is None:
            raise UserError(f"{self._path}: the video has no frames")
        _, said = self._process.communicate()
        if self._process.returncode or said.strip():
            lines = said.decode(errors="replace").split("\n")
            reason = next((line for line in reversed(lines) if line.strip()), f"exit code {self._process.returncode}")
            raise UserError(f"{self._path}: the video could not be written: ffmpeg: {reason.strip()}")

    def abandon(self) -> None:
        """End ffmpeg, whatever it is at."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def open_video(path: str | os.PathLike, fps: int) -> Iterator[VideoWriter]:
    """A writer of an .mp4, which appears at `path` when the block ends without an error. Raises `UserError`."""
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise UserError(f"{path}: videos are written as .mp4, found {path.suffix!r}")
    # Beside the video and not in /tmp, which may be small: a full disk shows early, and what is written is moved whole.
    # The path is absolute, as ffmpeg takes `-x/a.mp4` for an option and `x:1/a.mp4` for a protocol.
    target = Path(os.path.realpath(path))
    part = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    writer = VideoWriter(path, part, fps)
    try:
        yield writer
        writer.finish()
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        writer.abandon()
        part.unlink(missing_ok=True)


def video_frame(image: np.ndarray) -> np.ndarray:
    """uint8 [C, H, W] to a frame uint8 [h, w, 3]: colours on white, sides even, small images enlarged."""
    pixels = image.transpose(1, 2, 0)
    if pixels.shape[2] in (2, 4):
        alpha = pixels[:, :, -1:].astype(np.float32) / 255
        pixels = np.rint(pixels[:, :, :-1] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    factor = max(-(-_SMALLEST // min(pixels.shape[:2])), 1)
    pixels = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
    return np.ascontiguousarray(padded)
