"""Cuts out what a cascade finds: one PNG file per object."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import tqdm
from PIL import Image

from dnnlib.util import UserError
from training.clean.cascade import Box, Cascade, crop_box
from training.clean.picture import Decode, decode_file, open_picture
from training.dataset_build import Failure, Item, ordered_map
from training.item_table import Reasons
from training.work_directory import appears_whole

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
        out_dir: is made, complete or not at all; must be empty or not there.
        scale: side of a crop by that of the object; see `crop_box`.
        workers, decode: see `pipeline.judge`.
    Raises:
        UserError: `out_dir` is not empty or cannot be written, or scale is not over 0.
    """
    if scale <= 0:
        raise UserError(
            f"scale of crops is {scale:g}, expected more than 0 (1: what is found, 1.5: half as much again)"
        )
    out = Path(out_dir)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already and not an empty folder, expected a new one for the crops")
    work = partial(_crop, cascade=cascade, scale=scale, decode=decode)
    num_crops = num_empty = 0
    failed = Reasons()
    with (
        appears_whole(Path(os.path.realpath(out))) as content,
        closing(ordered_map(work, items, workers)) as results,
        open(content / TABLE_NAME, "x", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        table = csv.writer(file)
        table.writerow(("file", "image", "left", "top", "width", "height"))
        bar = tqdm.tqdm(results, total=len(items), unit="img", desc="cropping")
        for item, result in zip(items, bar, strict=True):
            if isinstance(result, Failure):
                failed.append(item.name, result.reason)
                continue
            num_empty += not result
            for number, (box, png) in enumerate(result):
                # The whole name, ending included, so that a.jpg and a.png do not meet.
                name = f"{_inner(item.name)}-{number}.png"
                path = content / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png)
                table.writerow((name, item.name, *box))
                num_crops += 1
    return CropReport(num_crops, num_empty, failed)


def _inner(name: str) -> str:
    """A name as a path inside a folder: that of an image may begin with the path of its input, and lead anywhere."""
    return "/".join(step for step in PurePosixPath(name).parts if step not in ("/", "//", ".", ".."))


def _crop(item: Item, cascade: Cascade, scale: float, decode: Decode) -> list[tuple[Box, bytes]]:
    """Places and PNG files of what is found. What writes them is the caller: a full disk is no fault of an image."""
    picture = open_picture(item, decode)
    crops = []
    for found in cascade.find(picture.grey):
        box = crop_box(found, scale, picture.width, picture.height)
        pixels = picture.pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        crops.append((box, buffer.getvalue()))
    return crops
