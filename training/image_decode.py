"""Pixels of png, jpeg and webp files that lie in memory."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

_SIGNATURES = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_GREY = ("L", "1", "I", "I;16", "F")


def signature(data: bytes | memoryview) -> str | None:
    """png, jpeg or webp by the first bytes of a file; None for anything else."""
    start = bytes(data[:12])
    for name, expected in _SIGNATURES.items():
        if start.startswith(expected) and (name != "webp" or start[8:12] == b"WEBP"):
            return name
    return None


def decode_file(
    data: bytes | memoryview, channels: int | None = None, out: np.ndarray | None = None, size: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """The image of a png, jpeg or webp file in memory: uint8 [C, H, W].

    Args:
        channels: 1 (grey), 3 (RGB) or 4 (RGBA), whatever the file has; None: as many as the file has.
        out: uint8 array of the shape of the result, to decode into.
        size: (H, W) that it must have; (0, 0): any.
    Raises:
        ValueError: not such a file, broken, or of another size.
    """
    kind = signature(data)
    if kind is None:
        raise ValueError("neither pixels nor a png, jpeg or webp file")
    if out is not None:
        channels, size = out.shape[0], out.shape[1:]
    if channels is not None and channels not in _MODES:
        raise ValueError(f"a {kind} file does not hold {channels} channels")
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            # Before anything is decoded: a header may promise any number of pixels.
            if any(size) and image.size != (size[1], size[0]):
                raise ValueError(f"a {kind} file of {image.width}x{image.height}, expected {size[1]}x{size[0]}")
            mode = _MODES[channels] if channels is not None else _own_mode(image)
            # WebP knows no grey, JPEG no alpha: what was written grey comes back as equal channels.
            image = image if image.mode == mode else image.convert(mode)
            pixels = np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, -1)
    except MemoryError:
        raise
    except Exception as err:  # decoders raise anything on broken data
        text = str(err) if type(err) is ValueError else f"{type(err).__name__}: {err}"
        raise ValueError(f"broken {kind} file: {text}") from err
    if out is None:
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    out[...] = pixels.transpose(2, 0, 1)
    return out


def _own_mode(image: Image.Image) -> str:
    if image.mode in _GREY:
        return "L"
    return "RGBA" if image.mode.endswith(("A", "a")) or "transparency" in image.info else "RGB"
