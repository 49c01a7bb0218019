"""Small pictures of images for reports."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import partial

from PIL import Image

from training.clean.picture import Decode, decode_file, open_picture
from training.dataset_build import Failure, Item, ordered_map

SIDE = 128  # pixels of the longer side


def _thumbnail(item: Item, decode: Decode) -> str:
    small = Image.fromarray(open_picture(item, decode).shrunk(SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def thumbnails(
    items: Sequence[Item], wanted: Sequence[int], workers: int | None = None, decode: Decode = decode_file
) -> Mapping[int, str]:
    """Thumbnails, as data URLs, of the items at the `wanted` positions; without those that cannot be decoded."""
    order = sorted(set(wanted))
    made = ordered_map(partial(_thumbnail, decode=decode), [items[index] for index in order], workers)
    return {index: url for index, url in zip(order, made, strict=True) if not isinstance(url, Failure)}
