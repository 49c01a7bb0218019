"""How many feature maps a stage has: nf(stage) as data.

Stage s stands for resolution 2^(s+1): nf(1) at 4x4, nf(2) at 8x8, ..., nf(9) at 1024x1024; nf(0) is the width of the
discriminator's last dense layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dnnlib.util import UserError


def _halving(low: int, first_halved: int, start: int) -> dict[int, int]:
    """`low` maps below resolution `first_halved`, `start` there, then half as many at each doubling, up to 2048."""
    return {res: low if res < first_halved else start * first_halved // res for res in (2**i for i in range(2, 12))}


# Feature maps of the larger models by name ("Scaling up StyleGAN2"; config-f: 512 up to 64x64, 256, 128, 64, 32).
# Entries for 2048x2048 go on with the halving.
SIZES: Mapping[str, Mapping[int, int]] = {
    "M": _halving(512, 128, 384),  # fmap_base 24576
    "L": _halving(512, 256, 256),
    "XL": _halving(640, 256, 320),
    "XXL": _halving(768, 256, 384),
    "XXXL": _halving(1024, 128, 768),
}


@dataclass(frozen=True)
class Fmaps:
    """Feature maps per stage.

    The published rule is `clip(int(base / 2^(stage * decay)), min, max)`. `explicit` maps resolutions to counts
    instead: every resolution of the network must then be named, an unknown one is an error. nf(0) takes the count of
    4x4. Raises `UserError` for counts below 1 and resolutions that are no power of two.
    """

    base: int = 16384
    decay: float = 1.0
    min: int = 1
    max: int = 512
    explicit: Mapping[int, int] | None = None

    def __post_init__(self) -> None:
        if self.base < 1 or self.min < 1 or self.max < self.min:
            found = f"found base {self.base}, min {self.min}, max {self.max}"
            raise UserError(f"feature maps: expected base >= 1 and 1 <= min <= max, {found}")
        if self.explicit is not None:
            table = {int(res): int(count) for res, count in self.explicit.items()}
            for res, count in table.items():
                if res < 4 or res & (res - 1):
                    raise UserError(f"fmap_explicit: resolution {res} is not a power of two from 4 up")
                if count < 1:
                    raise UserError(f"fmap_explicit: {count} feature maps at resolution {res}, expected at least 1")
            object.__setattr__(self, "explicit", table)

    def __call__(self, stage: int) -> int:
        """Feature maps of a stage (0, 1, 2, ...). Raises `UserError` for a resolution missing from `explicit`."""
        if self.explicit is None:
            return int(min(max(int(self.base / 2.0 ** (stage * self.decay)), self.min), self.max))
        resolution = 2 ** (max(stage, 1) + 1)
        if resolution not in self.explicit:
            known = ", ".join(str(res) for res in sorted(self.explicit))
            raise UserError(f"fmap_explicit has no entry for resolution {resolution}; it knows {known}")
        return self.explicit[resolution]

    def at(self, resolution: int) -> int:
        """Feature maps of the block at `resolution` (a power of two from 4 up)."""
        return self(resolution.bit_length() - 2)
