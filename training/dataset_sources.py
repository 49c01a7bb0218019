"""Image folders as sources of data sets: which files there are, what size they have, which class they are of."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import tqdm
from PIL import Image

from dnnlib.util import UserError, list_nearest
from training.dataset_build import BuildOptions, BuildReport, Failure, Item, build, ordered_map
from training.dataset_writer import check_resolution, check_target
from training.image_files import FILTERS, ImageHeader, ImageSpec, read_header, read_image

LABEL_SOURCES = ("folders",)


@dataclass(frozen=True)
class Candidate:
    """An image file whose header could be read."""

    item: Item
    header: ImageHeader


def list_image_files(folder: os.PathLike | str) -> tuple[list[Item], list[tuple[str, str]]]:
    """All image files below `folder`, sorted by relative name, and (name, reason) of the other files.

    Hidden files and folders are ignored.

    Raises:
        UserError: no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"{root} is {'a file' if root.exists() else 'not there'}, expected a folder of images")
    known = Image.registered_extensions()
    items, others = [], []
    seen: set[str] = set()
    for where, folders, files in os.walk(root, followlinks=True):
        if os.path.realpath(where) in seen:  # a link to a folder further up would lead round in circles
            folders.clear()
            continue
        seen.add(os.path.realpath(where))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for file in files:
            path = Path(where, file)
            name = path.relative_to(root).as_posix()
            if file.startswith("."):
                continue
            if path.suffix and path.suffix.lower() not in known:
                others.append((name, f"no image by its ending {path.suffix}"))
            else:
                items.append(Item(name, str(path)))
    return sorted(items, key=lambda item: item.name), sorted(others)


def label_by_folder(items: Sequence[Item]) -> tuple[list[Item], tuple[str, ...]]:
    """Items with the class of their first sub-folder, and the names of the classes, sorted.

    Raises:
        UserError: an image lies outside of any sub-folder, or there are fewer than two.
    """
    outside = [item.name for item in items if "/" not in item.name]
    if outside:
        raise UserError(
            f"{len(outside)} images lie in no sub-folder (the first: {outside[0]}); expected one folder per class"
        )
    of = [item.name.split("/", 1)[0] for item in items]
    names = tuple(sorted(set(of)))
    if len(names) < 2:
        raise UserError(f"found {len(names)} sub-folders with images, expected at least 2 classes; leave labels out")
    index = {name: i for i, name in enumerate(names)}
    return [replace(item, label=index[name]) for item, name in zip(items, of, strict=True)], names


def _header_of(item: Item) -> ImageHeader:
    return read_header(item.path)


def _pixels_of(item: Item, spec: ImageSpec) -> np.ndarray:
    return read_image(item.path, spec)


def scan(items: Sequence[Item], workers: int | None = None) -> tuple[list[Candidate], list[tuple[str, str]]]:
    """Headers of all files; (name, reason) of those that are no images."""
    good, bad = [], []
    headers = ordered_map(_header_of, items, workers)
    for item, header in zip(items, tqdm.tqdm(headers, total=len(items), unit="img", desc="looking"), strict=True):
        if isinstance(header, Failure):
            bad.append((item.name, header.reason))
        else:
            good.append(Candidate(item, header))
    return good, bad


def common_resolution(candidates: Sequence[Candidate]) -> int:
    """Side of the images, if all are squares of one power of two.

    Raises:
        UserError: they are not; names the first odd file.
    """
    sizes = Counter(candidate.header.size for candidate in candidates)
    usual = sizes.most_common(1)[0][0]
    first = next(candidate for candidate in candidates if candidate.header.size == usual)
    width, height = first.header.width, first.header.height
    side = max(4, 1 << (min(width, height).bit_length() - 1))
    if width != height or width & (width - 1) or width < 4:
        raise UserError(
            f"{first.item.name} is {usual}, expected a square with a power of two as side; "
            f"--resolution {side} crops and resizes all images to {side}x{side}"
        )
    odd = next((candidate for candidate in candidates if candidate.header.size != usual), None)
    if odd is not None:
        raise UserError(
            f"{odd.item.name} is {odd.header.size}, but {sizes[usual]} of {len(candidates)} images are {usual}; "
            f"--resolution {side} crops and resizes all images to {side}x{side}"
        )
    return side


def create_from_images(
    path: os.PathLike | str,
    folder: os.PathLike | str,
    resolution: int | None = None,
    channels: int | None = None,
    labels_from: str | None = None,
    filter_name: str = "lanczos",
    options: BuildOptions | None = None,
    say: Callable[[str], None] = print,
) -> BuildReport:
    """A data set of all images below a folder.

    Args:
        path: directory to make.
        folder: sub-folders are searched, too; the order is that of the relative names.
        resolution: crop to the central square and resize; None: images must be equal squares of a power of two.
        channels: 1 or 3; None: 1 if all images are grey, else 3.
        labels_from: 'folders': the class of an image is its first sub-folder.
        filter_name: of `FILTERS`, for resizing.
        options: the rest; resolution, channels and class names in it are ignored.
    Raises:
        UserError: see `build`, `common_resolution`, `label_by_folder`.
    """
    options = options or BuildOptions()
    if labels_from is not None and labels_from not in LABEL_SOURCES:
        raise UserError(f"labels from {labels_from!r}; {list_nearest(labels_from, LABEL_SOURCES)}")
    if filter_name not in FILTERS:
        raise UserError(f"resize filter {filter_name!r}; {list_nearest(filter_name, FILTERS)}")
    if channels not in (None, 1, 3):
        raise UserError(f"channels is {channels}, expected 1 or 3")
    if resolution is not None:
        check_resolution(resolution)
    check_target(Path(os.path.realpath(path)), options.overwrite)

    items, others = list_image_files(folder)
    class_names: tuple[str, ...] = ()
    if labels_from is not None:
        items, class_names = label_by_folder(items)
    candidates, bad = scan(items, options.workers)
    if not candidates:
        first = next(iter(bad + others), None)
        hint = f" (the first of {len(bad + others)} other files: {first[0]}: {first[1]})" if first else ""
        raise UserError(f"no images in {folder}{hint}")
    if bad and options.strict:
        raise UserError(f"{bad[0][0]}: {bad[0][1]} (without --strict it would be skipped)")
    side = common_resolution(candidates) if resolution is None else resolution
    if channels is None:
        channels = 1 if all(candidate.header.grey for candidate in candidates) else 3
    small = sum(min(candidate.header.width, candidate.header.height) < side for candidate in candidates)
    if small:
        say(f"{small} images are smaller than {side}x{side} and are enlarged.")

    source = {"kind": "images", "folder": str(folder), "filter": filter_name, "cropped": resolution is not None}
    # Every file counts for the order, the unreadable ones too: a repaired file then changes one record, not all.
    options = replace(options, shape=(channels, side, side), class_names=class_names, source=source)
    render = partial(_pixels_of, spec=ImageSpec(resolution, channels, filter_name))
    return build(path, items, render, options, others, say)
