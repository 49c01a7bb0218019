"""How images stand in their records.

`raw` is the published format: uint8 pixels, one file per level of the pyramid. `png`, `jpeg` and `webp` store the full
size once, as the bytes of such a file; lower levels are computed when they are read. A record tells by its first bytes
what it holds, so that files taken over as they are may lie beside others.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dnnlib.util import UserError, list_nearest
from training.example import encode_bytes, encode_image
from training.fast_pyramid import fast_pyramid
from training.image_decode import decode_file, signature
from training.pyramid import quantize
from training.tfrecord import frame

__all__ = ["ENCODINGS", "LOSSY", "Encoding", "decode_file", "encode_file", "signature"]

ENCODINGS = ("raw", "png", "jpeg", "webp")
LOSSY = ("jpeg", "webp")
_DEFAULT_QUALITY = {"jpeg": 95, "webp": 101}  # webp beyond 100: lossless


@dataclass(frozen=True)
class Encoding:
    """One way of storing images; can be pickled, so that worker processes encode.

    name: of `ENCODINGS`. quality: 1 to 100 for jpeg and webp (None: 95 for jpeg, lossless for webp).
    Raises `UserError` for an unknown name, or a quality where it means nothing.
    """

    name: str = "raw"
    quality: int | None = None

    def __post_init__(self) -> None:
        if self.name not in ENCODINGS:
            raise UserError(f"encoding {self.name!r}; {list_nearest(self.name, ENCODINGS)}")
        if self.quality is not None and (self.name not in LOSSY or not 1 <= self.quality <= 100):
            raise UserError(f"quality {self.quality} with encoding {self.name}; expected 1 to 100, for jpeg or webp")

    @property
    def lossless(self) -> bool:
        """Whether what is read equals what was written."""
        return self.name in ("raw", "png") or (self.name == "webp" and self.quality is None)

    def records(self, image: np.ndarray) -> tuple[bytes, ...]:
        """Complete records (with checksums) of all levels that are stored, the largest first.

        Args:
            image: uint8 or float [C, H, W] in [0, 255]; floats are rounded per level, not before.
        """
        if self.name == "raw":
            return tuple(frame(encode_image(level)) for level in fast_pyramid(image))
        return self.stored(encode_file(quantize(image), self.name, self.quality), image.shape)

    def stored(self, data: bytes, shape: tuple[int, int, int]) -> tuple[bytes, ...]:
        """The record of an image file that is taken over as it is (not for raw)."""
        return (frame(encode_bytes(data, shape)),)


def encode_file(image: np.ndarray, name: str, quality: int | None = None) -> bytes:
    """An image file in memory.

    Args:
        image: uint8 [C, H, W], C 1 (grey), 3 (RGB) or 4 (RGBA; not for jpeg).
        name: png, jpeg or webp.
    """
    channels = image.shape[0]
    if channels not in (1, 3, 4) or (name == "jpeg" and channels == 4):
        raise UserError(
            f"{channels} channels cannot be stored as {name}; use --encoding {'png' if channels == 4 else 'raw'}"
        )
    pixels = image[0] if channels == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    out = io.BytesIO()
    if name == "png":
        Image.fromarray(pixels).save(out, "png", compress_level=6)
    elif name == "jpeg":
        Image.fromarray(pixels).save(out, "jpeg", quality=quality or _DEFAULT_QUALITY["jpeg"], subsampling=0)
    else:
        options = {"lossless": True, "quality": 50, "exact": True} if quality is None else {"quality": quality}
        Image.fromarray(pixels).save(out, "webp", **options)
    return out.getvalue()
