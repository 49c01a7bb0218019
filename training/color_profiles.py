"""Embedded colour profiles: pixels are converted to sRGB, which is what images without a profile are taken for."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageCms

_SRGB = ImageCms.createProfile("sRGB")
_STEPS = 18  # values of a channel that are tried: every 15th
_SAME = 4  # of 255: profiles of sRGB round its primaries and curve, and a gamma of 2.2 is 7 away


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None: nothing to convert, because the profile is that of sRGB, or broken, or one for another kind of image."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if mode != "CMYK" and _changes_nothing(source, mode):
            return None
        return ImageCms.buildTransform(source, _SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _changes_nothing(source: ImageCms.ImageCmsProfile, mode: str) -> bool:
    """Whether it is sRGB by its colours, whatever its name: linear profiles are named sRGB, too.

    The colours are those of the colorimetric intent. A perceptual table of an sRGB profile may map the blacks anew, and
    still it is sRGB that the pixels are in.
    """
    steps = np.linspace(0, 255, _STEPS).round().astype(np.uint8)
    grid = steps[None] if mode == "L" else np.stack(np.meshgrid(steps, steps, steps), -1).reshape(_STEPS, -1, 3)
    probe = Image.fromarray(grid)
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    result = ImageCms.buildTransform(source, _SRGB, mode, "RGB", renderingIntent=intent).apply(probe)
    return int(np.abs(np.asarray(result, np.int16) - np.asarray(probe.convert("RGB"), np.int16)).max()) <= _SAME


def to_srgb(image: Image.Image) -> Image.Image:
    """The image in sRGB, as RGB or RGBA; the same object if it has no profile that says something else.

    A profile of sRGB, a broken one, and one that does not fit the kind of image (RGB, grey, CMYK) are ignored. The
    intent is perceptual. Alpha is left as it is; images of 16 bits or 1 bit are, too.
    """
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return image
    alpha = None
    plain = image
    if image.mode in ("P", "PA"):
        plain = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    elif "transparency" in image.info and image.mode in ("L", "RGB"):  # one colour is transparent
        plain = image.convert("RGBA")
    if plain.mode in ("RGBA", "LA"):
        alpha = plain.getchannel("A")
        plain = plain.convert(plain.mode[:-1])
    if plain.mode not in ("RGB", "L", "CMYK"):
        return image
    transform = _transform(profile, plain.mode)
    if transform is None:
        return image
    result = transform.apply(plain)
    if alpha is not None:
        result.putalpha(alpha)
    return result
