"""Videos of images."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from dnnlib.util import UserError, atomic_write

_SMALLEST = 128  # smaller frames are enlarged pixel by pixel, by a whole factor


class VideoWriter:
    """Takes frames one by one; all have the shape of the first."""

    def __init__(self, path: Path, fps: int) -> None:
        self._path, self._fps = path, fps
        self._shape: tuple[int, ...] | None = None
        self._process = None

    def add(self, image: np.ndarray) -> None:
        """A frame uint8 [C, H, W], C = 1, 3 or 4 (alpha is laid on white)."""
        frame = video_frame(image)
        if self._process is None:
            self._shape = frame.shape
            # H.264 with halved colour, which every player knows; frames of any even size.
            self._process = imageio_ffmpeg.write_frames(
                os.fspath(self._path), frame.shape[1::-1], fps=self._fps, codec="libx264", quality=8,
                macro_block_size=2, pix_fmt_out="yuv420p", ffmpeg_log_level="error",
            )  # fmt: skip
            self._process.send(None)
        if frame.shape != self._shape:
            raise ValueError(f"video: a frame of shape {list(frame.shape)} after {list(self._shape or ())}")
        self._process.send(frame)

    def close(self) -> None:
        """Finish the file."""
        if self._process is not None:
            self._process.close()


@contextmanager
def open_video(path: str | os.PathLike, fps: int) -> Iterator[VideoWriter]:
    """A writer of an .mp4, which appears at `path` when the block ends without an error. Raises `UserError`."""
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise UserError(f"{path}: videos are written as .mp4, found {path.suffix!r}")
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "video.mp4"
        writer = VideoWriter(part, fps)
        try:
            yield writer
        finally:
            writer.close()
        if not part.is_file() or not part.stat().st_size:
            raise UserError(f"{path}: the video could not be encoded, or it has no frames")
        with atomic_write(path) as target, open(part, "rb") as source:
            shutil.copyfileobj(source, target)


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
