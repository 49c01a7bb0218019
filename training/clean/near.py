"""Images that look the same: re-encoded, resized or lightly edited copies, found by a perceptual hash.

Of such images the largest stays, of equally large ones that with most detail. Every image that is dropped is within the
threshold of one that stays: there are no chains of images each like the next but the last unlike the first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from PIL import Image

from training.clean.detail import detail
from training.clean.hamming import MOST_BITS, HammingIndex
from training.clean.libraries import require
from training.clean.picture import Picture
from training.clean.verdicts import SetFilter, Verdict

DEFAULT_BITS = 4
COLOR_TOLERANCE = 24.0  # mean difference of 4x4 averages, of 255; the hash does not see colours


_PACKED = struct.Struct("<QQQd48s")


class NearMeasure(NamedTuple):
    """What is remembered of an image."""

    hash: int  # 64 bits, `imagehash.phash`
    mirrored: int  # of the mirrored image; equal to `hash` if mirrors do not count
    pixels: int
    detail: float  # bits per pixel
    colors: bytes  # uint8 [4, 4, 3], averages


def perceptual_hash(image: Image.Image) -> int:
    """64 bits that tell which low frequencies of the luminance are stronger than their median."""
    import imagehash

    return int.from_bytes(np.packbits(imagehash.phash(image).hash).tobytes(), "big")


@dataclass(frozen=True)
class NearDuplicates(SetFilter):
    """Drops images whose perceptual hash is within `bits` of 64 bits of one that stays, if the colours agree.

    With `mirror`, an image and its mirror image look the same.
    """

    bits: int = DEFAULT_BITS
    mirror: bool = False
    name: ClassVar[str] = "near_duplicate"
    high_is_bad: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require("imagehash", "near duplicates")
        if not 0 <= self.bits <= MOST_BITS:
            raise ValueError(f"bits is {self.bits}, expected 0 to {MOST_BITS}")

    @property
    def criterion(self) -> str:
        """See `Filter`."""
        mirrored = ", or of its mirror image," if self.mirror else ""
        return f"perceptual hash{mirrored} within {self.bits} of 64 bits of a larger or more detailed image's"

    def measure(self, picture: Picture) -> NearMeasure:
        """See `NearMeasure`."""
        image = picture.image
        hashed = perceptual_hash(image)
        mirrored = perceptual_hash(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) if self.mirror else hashed
        colors = image.resize((4, 4), Image.Resampling.BOX, reducing_gap=2.0).tobytes()
        return NearMeasure(hashed, mirrored, picture.width * picture.height, detail(picture.grey), colors)

    def pack(self, measured: NearMeasure) -> bytes:
        """See `SetFilter`."""
        return _PACKED.pack(*measured)

    def unpack(self, data: bytes) -> NearMeasure:
        """See `SetFilter`."""
        return NearMeasure(*_PACKED.unpack(data))

    def decide(self, names: Sequence[str], measures: Sequence[NearMeasure]) -> Iterator[tuple[int, Verdict]]:
        """The best of those that look the same stays. Score: bits by which a copy differs, none for the others."""
        keys = np.fromiter(((one.pixels, one.detail) for one in measures), np.dtype((np.float64, 2)), len(measures))
        best_first = np.lexsort((-keys[:, 1], -keys[:, 0]))  # stable
        del keys
        kept = HammingIndex(self.bits)
        for index in map(int, best_first):
            twin = self._twin(measures, index, kept)
            if twin is None:
                kept.add(measures[index].hash, index)
            else:
                distance, other = twin
                yield index, Verdict(False, distance, f"looks like {names[other]} ({distance} bits apart)", other)

    def _twin(self, measures: Sequence[NearMeasure], index: int, kept: HammingIndex) -> tuple[int, int] | None:
        mine = measures[index]
        colors = np.frombuffer(mine.colors, np.uint8).reshape(4, 4, 3).astype(np.int16)
        probes = [(mine.hash, colors)]
        if self.mirror:
            probes.append((mine.mirrored, colors[:, ::-1]))
        for value, expected in probes:
            for distance, other in kept.near(value):
                theirs = np.frombuffer(measures[other].colors, np.uint8).reshape(4, 4, 3)
                if np.abs(expected - theirs).mean() <= COLOR_TOLERANCE:
                    return distance, other
        return None
