"""How an image of any size becomes one of the size asked for.

center-crop  The largest rectangle of the target's aspect in the middle of the image, resized to the target.
pad          The whole image, resized to fit inside the target, in the middle of it; the rest is background.
stretch      The whole image, resized to the target whatever its aspect.
crop-wide    As center-crop to width x height (width >= height), then black bars above and below make a square of it.

Sides of what is cut or resized are the exact ones rounded to the nearest pixel (halves up, at least 1); where a margin
is odd, the pixel more is at the right or the bottom.
"""

from __future__ import annotations

from PIL import Image

from dnnlib.util import UserError
from training.image_shapes import check_size

FITS = ("center-crop", "pad", "stretch", "crop-wide")
FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
}


def result_size(height: int, width: int, fit: str) -> tuple[int, int]:
    """(height, width) of the images that a fit to a size gives.

    Raises:
        UserError: crop-wide of something that is not wide, or whose square cannot be stored.
    """
    if fit != "crop-wide":
        return height, width
    if width < height:
        raise UserError(f"--fit crop-wide with {width}x{height}: expected width x height with width >= height")
    check_size(width, width, "--fit crop-wide: the square around it is")
    return width, width


def crop_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the largest central rectangle of the target's aspect; sizes are (width, height)."""
    (width, height), (tw, th) = size, target
    if width * th > height * tw:
        w, h = _rounded(height * tw, th), height
    else:
        w, h = width, _rounded(width * th, tw)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def pad_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) inside the target of the whole image; sizes are (width, height)."""
    (width, height), (tw, th) = size, target
    if width * th > height * tw:
        w, h = tw, _rounded(tw * height, width)
    else:
        w, h = _rounded(th * width, height), th
    left, top = (tw - w) // 2, (th - h) // 2
    return left, top, left + w, top + h


def _rounded(numerator: int, denominator: int) -> int:
    return max(1, (2 * numerator + denominator) // (2 * denominator))


def fit_image(
    image: Image.Image,
    height: int,
    width: int,
    fit: str = "center-crop",
    resample: str = "lanczos",
    background: tuple[int, int, int] = (255, 255, 255),
) -> Image.Image:
    """The image in the size asked for; the same object if nothing has to be done.

    Args:
        image: mode L, RGB or RGBA (resized with premultiplied alpha).
        height, width: target in pixels.
        fit: of `FITS`. resample: of `FILTERS`.
        background: what pads, RGB; transparent in RGBA.
    """
    size = (width, height)
    if fit == "stretch":
        return _resize(image, size, resample)
    if fit == "pad":
        box = pad_box(image.size, size)
        small = _resize(image, (box[2] - box[0], box[3] - box[1]), resample)
        return small if small.size == size else _paste(small, size, box, background)
    box = crop_box(image.size, size)
    part = image if box == (0, 0, *image.size) else image.crop(box)
    part = _resize(part, size, resample)
    if fit == "crop-wide" and width != height:
        return _paste(part, (width, width), (0, (width - height) // 2), (0, 0, 0), opaque=True)
    return part


def crop_and_resize(image: Image.Image, side: int, filter_name: str = "lanczos") -> Image.Image:
    """The largest central square, resized to `side` pixels."""
    return fit_image(image, side, side, "center-crop", filter_name)


def _resize(image: Image.Image, size: tuple[int, int], resample: str) -> Image.Image:
    return image if image.size == size else image.resize(size, FILTERS[resample])


def _paste(
    image: Image.Image,
    size: tuple[int, int],
    place: tuple[int, ...],
    colour: tuple[int, int, int],
    opaque: bool = False,
) -> Image.Image:
    if image.mode == "RGBA":
        canvas = Image.new("RGBA", size, (*colour, 255 if opaque else 0))
    else:
        canvas = Image.new("RGB", (1, 1), colour).convert(image.mode).resize(size)
    canvas.paste(image, place[:2])
    return canvas
