"""Where published code bases define a metric differently: what each of them does, by name.

`sg2` is what gives the numbers of the StyleGAN2 paper and the default; what StyleGAN2 does not have (`_full`) is then
as StyleGAN2-ADA has it. Every result records its variant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dnnlib.util import UserError, list_nearest

DEFAULT_VARIANT = "sg2"


@dataclass(frozen=True)
class Variant:
    """Conventions of one code base (spec section 6).

    real_ddof, fake_ddof: covariances of the Fréchet distance are divided by count minus this; full_real_ddof: those of
    the reals of metrics named `_full`; box_of_crop: the box average before a path length's features is chosen for the
    height after cropping, else for the height before; softmax_bias: Inception's classes are those of its last layer
    with its bias, else without; labels_on_images: the images of linear separability are made with the labels that w is
    made with, else without; unit_paths: points of paths in z have length 1, else sqrt(L) as latents have, which differs
    where the mapping network takes labels beside z before it normalises both.
    """

    name: str
    meaning: str
    real_ddof: int = 1
    fake_ddof: int = 1
    full_real_ddof: int = 0
    box_of_crop: bool = True
    softmax_bias: bool = True
    labels_on_images: bool = False
    unit_paths: bool = True

    def for_full(self) -> Variant:
        """The conventions for metrics named `_full`."""
        return replace(self, real_ddof=self.full_real_ddof)


_ALL = (
    Variant("sg2", "StyleGAN2: both covariances unbiased; _full metrics as ada"),
    Variant("ada", "StyleGAN2-ADA: the reals' covariance divided by N", real_ddof=0),
    Variant(
        "pt",
        "StyleGAN2-ADA for PyTorch: both covariances divided by N; cropped path lengths at half the size; inception "
        "scores without the bias of the last layer",
        real_ddof=0, fake_ddof=0, box_of_crop=False, softmax_bias=False,
    ),
    Variant(
        "corrected",
        "as sg2; both covariances of _full metrics unbiased, too; linear separability labels the images as it labels "
        "w; paths in z are of points as long as latents",
        full_real_ddof=1, labels_on_images=True, unit_paths=False,
    ),
)  # fmt: skip
VARIANTS = {variant.name: variant for variant in _ALL}


def find_variant(name: str) -> Variant:
    """The variant of that name. Raises `UserError` listing those that exist."""
    if name not in VARIANTS:
        raise UserError(f"unknown variant {name!r}: {list_nearest(name, VARIANTS)}")
    return VARIANTS[name]
