"""Image files as the source of a data set: folders, archives and lists of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from dnnlib.util import UserError, list_nearest
from training.dataset_build import BuildOptions, BuildReport, Failure, Item, build, strict_error
from training.dataset_files import STRETCHED_FROM
from training.dataset_items import StoredFile, counted, printable
from training.dataset_target import check_target
from training.fits import FILTERS, FITS, result_size
from training.image_files import WHITE, ImageSpec, render_item
from training.image_shapes import check_size
from training.item_table import Dropped
from training.label_sources import LABEL_SOURCES, Labels, label_items
from training.size_advice import advise_encoding
from training.source_headers import Look, common_ratio, common_size, look_at, read_headers
from training.source_listing import Listing, list_sources
from training.work_directory import WorkDirectory

__all__ = [
    "LABEL_SOURCES",
    "ImageOptions",
    "create_from_images",
    "look_at_images",
]

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class ImageOptions:
    """What becomes of image files.

    size: (height, width) to fit to, None: images must have one size that can be stored.
    channels: 1, 3 or 4 (alpha is kept); None: 1 if all is grey, else 3.
    fit: of `FITS`. filter: of `FILTERS`.
    background: RGB, behind transparency and of padding.
    labels_from: of `LABEL_SOURCES`, None: no labels. labels_file: of labels, for json and csv.
    sharpen: amount of unsharp masking after resizing, see `training.sharpen`; 0: none.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    fit: str = "center-crop"
    filter: str = "lanczos"
    background: tuple[int, int, int] = WHITE
    labels_from: str | None = None
    labels_file: str | None = None
    sharpen: float = 0.0

    def __post_init__(self) -> None:
        for what, value, known in (("fit", self.fit, FITS), ("resize filter", self.filter, FILTERS)):
            if value not in known:
                raise UserError(f"{what} {value!r}; {list_nearest(value, known)}")
        if self.labels_from is not None and self.labels_from not in LABEL_SOURCES:
            raise UserError(f"labels from {self.labels_from!r}; {list_nearest(self.labels_from, LABEL_SOURCES)}")
        if self.channels not in (None, *_CHANNELS):
            raise UserError(f"channels is {self.channels}, expected 1, 3 or 4")
        if self.size is not None:
            check_size(*result_size(*self.size, self.fit))
        elif self.fit != "center-crop":
            raise UserError(f"--fit {self.fit} without a size to fit to; expected --resolution with it")


def _list_labelled(
    inputs: Sequence[os.PathLike | str], wanted: ImageOptions, scratch: Path, say: Callable[[str], None],
    drop: Callable[[Sequence[Item]], Dropped] | None,
) -> tuple[Listing, Labels]:  # fmt: skip
    listing = list_sources(inputs, scratch, say)
    labels = label_items(listing, wanted.labels_from, wanted.labels_file, say)
    if not len(listing.items):
        _refuse_nothing(inputs, next(iter(listing.others), None), len(listing.others))
    if drop is not None:
        _drop(listing, drop(listing.items))
    return listing, labels


def _refuse_nothing(inputs: Sequence[os.PathLike | str], first: tuple[str, str] | None, others: int) -> None:
    hint = f" (the first of {others} other files: {printable(first[0])}: {first[1]})" if first else ""
    raise UserError(f"no images in {', '.join(os.fspath(path) for path in inputs)}{hint}")


def create_from_images(
    path: os.PathLike | str,
    inputs: Sequence[os.PathLike | str] | os.PathLike | str,
    wanted: ImageOptions | None = None,
    options: BuildOptions | None = None,
    say: Callable[[str], None] = print,
    drop: Callable[[Sequence[Item]], Dropped] | None = None,
) -> BuildReport:
    """A data set of all images in folders (with their sub-folders), archives and lists.

    Args:
        path: directory to make.
        inputs: one or several, see `list_sources`; the order is that of the names.
        wanted: what becomes of the images.
        options: the rest; shape, class names, label size and source in it are ignored.
        drop: tells which of all candidates to leave out, with the reason.
    Raises:
        UserError: see `build`, `list_sources`, `label_items`; images of several sizes without a size to fit to.
    """
    wanted, options = wanted or ImageOptions(), options or BuildOptions()
    inputs = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    target = Path(os.path.realpath(path))
    check_target(target, options.overwrite)
    if wanted.channels == 4 and options.encoding.name == "jpeg":
        raise UserError("--channels 4 with --encoding jpeg, which knows no transparency; expected png, webp or raw")
    with WorkDirectory(target) as work:  # from now on: reading the sources takes long, and leaves files there
        return _convert(target, inputs, wanted, options, work, say, drop)


def _convert(
    target: Path, inputs: Sequence[os.PathLike | str], wanted: ImageOptions, options: BuildOptions,
    work: WorkDirectory, say: Callable[[str], None], drop: Callable[[Sequence[Item]], Dropped] | None,
) -> BuildReport:  # fmt: skip
    listing, labels = _list_labelled(inputs, wanted, work.root / "sources", say, drop)
    if options.strict and listing.first_lost is not None:
        raise strict_error(*listing.first_lost)
    size, channels = wanted.size, wanted.channels
    stretched = wanted.fit == "stretch"
    ratio = None
    if size is None or channels is None or stretched:
        look = look_at(listing.items, wanted.size, options.workers, options.strict, whole=stretched)
        if not look.num_images:
            _refuse_nothing(inputs, look.first_bad, look.bad + len(listing.others))
        size = common_size(look) if size is None else size
        channels = _channels(wanted, look) if channels is None else channels
        ratio = common_ratio(look) if stretched else None
    spec = ImageSpec(wanted.size, channels, wanted.filter, wanted.fit, wanted.background, sharpen=wanted.sharpen)
    source = {
        "kind": "images",
        "inputs": [printable(os.fspath(given)) for given in inputs],
        "fit": None if wanted.size is None else wanted.fit,
        "filter": wanted.filter,
        "background": list(wanted.background),
        "labels_from": wanted.labels_from,
        **({"sharpen": wanted.sharpen} if wanted.sharpen else {}),
        **({STRETCHED_FROM: list(ratio)} if ratio else {}),
    }
    # Every file counts for the order, the unreadable ones too: a repaired file then changes one record, not all.
    options = replace(
        options,
        shape=(channels, *(spec.result_size or size)),
        class_names=labels.class_names,
        label_size=labels.size,
        source=source,
    )

    def render_for(encoding: str) -> Callable[[Item], np.ndarray | StoredFile]:
        return partial(render_item, spec=replace(spec, take_over=None if encoding == "raw" else encoding))

    advise = partial(
        advise_encoding, items=listing.items, render_for=render_for, encoding=options.encoding, shape=options.shape,
        say=say,
    )  # fmt: skip
    return build(target, listing.items, render_for(options.encoding.name), options, listing.others, say, advise, work)


def _channels(wanted: ImageOptions, look: Look) -> int:
    """1 if all is grey: the images, and what is seen of the background."""
    seen = look.clear or wanted.fit == "pad"
    grey = look.grey and not (seen and len(set(wanted.background)) > 1)
    return 1 if grey else 3


def _drop(listing: Listing, dropped: Dropped) -> None:
    count = len(dropped.positions)
    if count == len(listing.items):
        raise UserError(f"all {count} images are left out (the first: {dropped.reasons[0][1]})")
    for name, reason in dropped.reasons:
        listing.others.append(name, reason)
    keep = np.ones(len(listing.items), bool)
    keep[np.asarray(dropped.positions, np.int64)] = False
    if count:
        listing.items = listing.items.select(np.flatnonzero(keep))


def look_at_images(
    inputs: Sequence[os.PathLike | str],
    wanted: ImageOptions,
    options: BuildOptions,
    say: Callable[[str], None] = print,
    drop: Callable[[Sequence[Item]], Dropped] | None = None,
) -> None:
    """Tells what `create_from_images` would convert and leave out, by the headers and `drop`; makes no data set.

    Raises:
        UserError: an input or the labels cannot be read, or the images have several sizes and none is given.
    """
    with tempfile.TemporaryDirectory(prefix="dataset-sources-") as scratch:
        listing, labels = _list_labelled(inputs, wanted, Path(scratch), say, drop)
        for name, reason in listing.others:
            say(f"skip     {printable(name)}: {reason}")
        look = Look()
        for item, header in read_headers(listing.items, options.workers):
            look.add(item.name, header, wanted.size)
            what = header.reason if isinstance(header, Failure) else f"{header.size}{' grey' if header.grey else ''}"
            say(f"{'skip    ' if isinstance(header, Failure) else 'convert '} {printable(item.name)}: {what}")
    common = ", ".join(f"{w}x{h} ({count})" for (w, h), count in look.sizes.most_common(5))
    more = f" and {len(look.sizes) - 5} others" if len(look.sizes) > 5 else ""
    skipped = counted(look.bad + len(listing.others), "file")
    say(f"{counted(look.num_images, 'image')} to convert, {skipped} to skip. Sizes: {common}{more}")
    if labels.size:
        names = f" ({', '.join(labels.class_names[:10])}, ...)" if labels.class_names else ""
        say(f"Labels of {labels.size} numbers{names}")
    if wanted.size is not None:
        say(f"{counted(look.small, 'image')} smaller than {wanted.size[1]}x{wanted.size[0]} would be enlarged.")
    elif look.num_images:
        common_size(look)
