"""Cuts out what a cascade finds: one PNG file per object."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tqdm
from PIL import Image

from dnnlib.util import UserError, atomic_write
from training.clean.cascade import Box, Cascade, crop_box
from training.clean.picture import Decode, decode_file, open_picture
from training.dataset_build import Failure, Item, ordered_map
from training.item_table import Reasons

TABLE_NAME = "crops.csv"


@dataclass(frozen=True)
class CropReport:
    """What became of a collection."""

    num_crops: int
    num_empty: int  # images in which nothing was found
    failed: Reasons  # (name, reason)


def write_crops(
    out_dir: os.PathLike | str,
    items: Sequence[Item],
    cascade: Cascade,
    scale: float = 1.0,
    workers: int | None = None,
    decode: Decode = decode_file,
) -> CropReport:
    """Writes what the cascade finds in NAME to `out_dir`/NAME-0.png, NAME-1.png, ..., the largest first, and a table.

    Args:
        out_dir: is made; must be empty or not there.
        scale: side of a crop by that of the object; see `crop_box`.
        workers, decode: see `pipeline.judge`.
    Raises:
        UserError: `out_dir` is not empty, or scale is not over 0.
    """
    if scale <= 0:
        raise UserError(
            f"scale of crops is {scale:g}, expected more than 0 (1: what is found, 1.5: half as much again)"
        )
    out = Path(out_dir)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already and not an empty folder, expected a new one for the crops")
    out.mkdir(parents=True, exist_ok=True)
    work = partial(_crop, out=str(out), cascade=cascade, scale=scale, decode=decode)
    num_crops = num_empty = 0
    failed = Reasons()
    with closing(ordered_map(work, items, workers)) as results, atomic_write(out / TABLE_NAME) as file:
        text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
        table = csv.writer(text)
        table.writerow(("file", "image", "left", "top", "width", "height"))
        bar = tqdm.tqdm(results, total=len(items), unit="img", desc="cropping")
        for item, result in zip(items, bar, strict=True):
            if isinstance(result, Failure):
                failed.append(item.name, result.reason)
            elif result:
                table.writerows((name, item.name, *box) for name, box in result)
                num_crops += len(result)
            else:
                num_empty += 1
        text.detach()  # flushes
    return CropReport(num_crops, num_empty, failed)


def _crop(item: Item, out: str, cascade: Cascade, scale: float, decode: Decode) -> list[tuple[str, Box]]:
    picture = open_picture(item, decode)
    written = []
    for number, found in enumerate(cascade.find(picture.grey)):
        box = crop_box(found, scale, picture.width, picture.height)
        # The whole name, ending included, so that a.jpg and a.png do not meet.
        file = f"{item.name}-{number}.png"
        path = Path(out, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = picture.pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        with atomic_write(path) as target:
            target.write(buffer.getvalue())
        written.append((file, box))
    return written
