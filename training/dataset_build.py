"""Conversion of a list of images into a data set: order, worker processes, progress, what to do with bad images."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import tqdm

from dnnlib.util import UserError
from training.build_sample import Encoded, check_room, encode_sample, size_on_disk
from training.dataset_items import Item, StoredFile, counted, printable
from training.dataset_target import check_target, expected_bytes
from training.dataset_writer import DatasetWriter
from training.encodings import Encoding
from training.image_shapes import check_size
from training.spool import Spooled, SpoolReader, spool
from training.work_directory import WorkDirectory
from training.workers import Failure, Workers, available_cores, ordered_map

__all__ = [
    "BuildOptions", "BuildReport", "Failure", "Item", "PUBLISHED_SEED", "StoredFile", "available_cores", "build",
    "held_out_order", "ordered_map", "published_order",
]  # fmt: skip

PUBLISHED_SEED = 123  # of the order in which the published tool writes images
_UNDER_WAY = 4 << 20  # bytes of records per hand-over between processes, about


@dataclass(frozen=True)
class BuildOptions:
    """How a data set is built, whatever the images are."""

    shape: tuple[int, int, int] = (3, 0, 0)  # (C, H, W); 0: decided by the source
    encoding: Encoding = Encoding()
    class_names: tuple[str, ...] = ()
    label_size: int = 0  # numbers per label, 0: one per class name
    shuffle: bool = True
    seed: int = PUBLISHED_SEED
    max_images: int | None = None  # of the training set
    num_validation: int = 0  # images held out, chosen at random
    strict: bool = False  # the first bad image is an error
    workers: int | None = None  # processes, None: one per core
    overwrite: bool = False
    source: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildReport:
    """What became of it."""

    path: Path
    num_images: int
    skipped: tuple[tuple[str, str], ...]  # (name, reason) of the first of them
    num_skipped: int = 0
    num_validation: int = 0


def published_order(n: int, seed: int = PUBLISHED_SEED) -> np.ndarray:
    """The order in which the published tool writes n images: record i is image order[i]. int64 [n]."""
    order = np.arange(n)
    np.random.RandomState(seed).shuffle(order)
    return order


def held_out_order(n: int, seed: int = PUBLISHED_SEED) -> np.ndarray:
    """The order in which images are held out. int64 [n].

    It is another one than that of writing, so that they are a random choice even of an ordered set.
    """
    return published_order(n, seed ^ 0x5EED)


def encode_item(
    item: Item,
    render: Callable[[Item], np.ndarray | StoredFile],
    encoding: Encoding,
    shape: tuple[int, int, int],
    folder: str | None = None,
) -> Sequence[bytes] | Spooled:
    """The records of an item: what worker processes do. Large ones become files in `folder`.

    Raises:
        UserError: the image has another shape; or what `render` raises.
    """
    image = render(item)
    found = image.pixels.shape if isinstance(image, StoredFile) else image.shape
    if found != shape:
        sizes = ["{2}x{1}x{0}".format(*s) for s in (found, shape)]
        raise UserError(f"the image is {sizes[0]}, expected {sizes[1]} (width x height x channels)")
    stored = isinstance(image, StoredFile)
    return spool(encoding.stored(image.data, shape) if stored else encoding.records(image), folder)


def build(
    path: os.PathLike | str,
    items: Sequence[Item],
    render: Callable[[Item], np.ndarray | StoredFile],
    options: BuildOptions,
    skipped: Sequence[tuple[str, str]] = (),
    say: Callable[[str], None] = print,
    advise: Callable[[Mapping[int, int]], None] | None = None,
    work_directory: WorkDirectory | None = None,
) -> BuildReport:
    """Converts `items` into a data set. What was interrupted goes on with the same arguments.

    Args:
        path: directory to make.
        items: candidates in sorted order; the order of the records is a permutation of it (`published_order`). They
            are taken from it one by one, so that it need not hold objects.
        render: item -> uint8 or float [C, H, W] in [0, 255], or a file to take over; can be pickled. An exception skips
            the item.
        skipped: (name, reason) of files left out before, for the report.
        say: where messages go.
        advise: may say something before anything is written; gets {position: bytes of its records} of a sample of the
            items, which is empty for raw records.
        work_directory: the target's, if this process has locked it before.
    Raises:
        UserError: nothing to convert, no room on the disk, target not empty, or a bad image with `strict`.
    """
    target = Path(os.path.realpath(path))
    check_size(*options.shape[1:])
    check_target(target, options.overwrite)
    _check_counts(options, len(items), skipped)
    label_size = options.label_size or len(options.class_names)
    options = replace(options, label_size=label_size)
    work = partial(encode_item, render=render, encoding=options.encoding, shape=options.shape)
    source = {**options.source, "shuffle": options.shuffle, "seed": options.seed, "max_images": options.max_images}
    key = _key(items, render, options)
    writer = DatasetWriter(
        target, options.shape, options.encoding, label_size, options.class_names, source, options.overwrite, key,
        work_directory,
    )  # fmt: skip
    done = writer.state
    ready: dict[int, Encoded] = {}
    wanted = min(len(items) - options.num_validation, options.max_images or len(items))
    total = wanted + options.num_validation
    chunk = max(1, min(8, _UNDER_WAY // max(1, expected_bytes(options.shape, 1))))
    workers = Workers(partial(work, folder=str(writer.work_directory)), options.workers, chunk)
    with writer, saved_when_stopped(writer, say), workers:
        workers.start(len(items))
        if done is None:
            # While the processes start: what is done before would be done by one core.
            sizes, ready = encode_sample(items, work, options.encoding)
            if advise is not None:
                advise(sizes)
            needed = size_on_disk(sizes, options.encoding, options.shape, options.label_size, total)
            check_room(target, needed, bool(sizes), total, say)
            for name, reason in skipped:
                writer.skip(name, reason)
            done = {"tried": 0, "consumed": 0}
        else:
            if options.strict and writer.num_skipped > len(skipped):  # by a command without --strict
                name, reason = writer.skipped[min(len(skipped), len(writer.skipped) - 1)]
                raise strict_error(name, reason)
            so_far = writer.num_images + writer.num_validation
            say(f"Going on after {counted(so_far, 'image')} of an interrupted conversion.")
        _convert(writer, items, workers, options, wanted, done, ready)
    return BuildReport(writer.path, writer.num_images, tuple(writer.skipped), writer.num_skipped, writer.num_validation)


@contextlib.contextmanager
def saved_when_stopped(writer: DatasetWriter, say: Callable[[str], None]) -> Iterator[None]:
    """Whatever ends the block early: the same command goes on from where the writer is."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        writer.save()
        so_far = writer.num_images + writer.num_validation
        say(f"Stopped after {counted(so_far, 'image')}; the same command goes on from there.")
        raise
    except UserError:
        with contextlib.suppress(UserError, OSError):  # the disk may be full
            writer.save()
        raise


def _convert(
    writer: DatasetWriter,
    items: Sequence[Item],
    workers: Workers[Item, Sequence[bytes] | Spooled],
    options: BuildOptions,
    wanted: int,
    done: dict[str, int],
    ready: dict[int, Encoded],
) -> None:
    """The held-out set and then the training set, each in its own order.

    Args:
        done: says how far both are.
        ready: what has become of some of the items, by position; the others are given to the workers.
    """
    n = len(items)

    def write(indices: np.ndarray, counter: str, enough: int) -> None:
        validation = counter == "tried"
        chosen, again = itertools.tee((int(index), items[int(index)]) for index in indices)
        others = (item for index, item in chosen if index not in ready)
        with closing(workers.map(others, len(indices))) as results, SpoolReader() as reader:
            for index, item in again:
                records = ready[index] if index in ready else next(results)
                if not isinstance(records, Failure):
                    records = reader.take(records) if isinstance(records, Spooled) else records
                    writer.append(records, _label(item, options.label_size), validation)
                    bar.update()
                elif options.strict:
                    raise strict_error(item.name, records.reason)
                elif _is_gone(item):
                    raise UserError(
                        f"{printable(os.path.dirname(item.path) or item.path)}: no longer there, nor is "
                        f"{printable(item.name)}; the same command goes on when it is back"
                    )
                else:
                    writer.skip(item.name, records.reason)
                done[counter] += 1
                writer.checkpoint(done)
                if (writer.num_validation if validation else writer.num_images) == enough:
                    break

    initial = writer.num_images + writer.num_validation
    total = wanted + options.num_validation
    with tqdm.tqdm(total=total, initial=initial, unit="img", desc=writer.path.name) as bar:
        held_out = held_out_order(n, options.seed) if options.num_validation else np.arange(0)
        while (missing := options.num_validation - writer.num_validation) > 0 and done["tried"] < n:
            write(held_out[done["tried"] : done["tried"] + missing], "tried", options.num_validation)
        order = published_order(n, options.seed) if options.shuffle else np.arange(n)
        free = np.ones(n, bool)
        free[held_out[: done["tried"]]] = False
        queue = order[free[order]][done["consumed"] :]
        if writer.num_images < wanted:
            write(queue, "consumed", wanted)


def strict_error(name: str, reason: str) -> UserError:
    """What a bad image is with `strict`."""
    return UserError(f"{printable(name)}: {reason} (without --strict it would be skipped)")


def _is_gone(item: Item) -> bool:
    """Whether an item is missing with its folder or archive: a disk that went away, not a bad image."""
    if os.path.lexists(item.path):
        return False
    return item.part is not None or not os.path.isdir(os.path.dirname(item.path) or os.curdir)


def _label(item: Item, label_size: int) -> np.ndarray | None:
    if not label_size or isinstance(item.label, np.ndarray):
        return item.label if label_size else None
    one_hot = np.zeros(label_size, np.float32)
    one_hot[item.label] = 1
    return one_hot


def _check_counts(options: BuildOptions, num_items: int, skipped: Sequence[tuple[str, str]]) -> None:
    for name, value, least in (
        ("max_images", options.max_images, 1),
        ("workers", options.workers, 1),
        ("num_validation", options.num_validation, 0),
    ):
        if value is not None and value < least:
            raise UserError(f"{name} is {value}, expected at least {least}")
    if not num_items:
        first = f" (the first: {': '.join(skipped[0])})" if skipped else ""
        raise UserError(f"no images to convert, {len(skipped)} skipped{first}")
    if options.num_validation >= num_items:
        raise UserError(f"{options.num_validation} images to hold out, but there are only {num_items} in all")


def _key(items: Sequence[Item], render: Callable, options: BuildOptions) -> dict[str, Any]:
    """What the bytes of the data set depend on, but for the content of the image files."""
    digest = hashlib.sha256()
    for item in items:
        label = item.label.tobytes() if isinstance(item.label, np.ndarray) else str(item.label).encode()
        digest.update(item.name.encode("utf-8", "surrogatepass") + b"\0" + label + b"\0")
    names = ("shape", "class_names", "label_size", "shuffle", "seed", "max_images", "num_validation")
    return {
        "list of images": digest.hexdigest(),
        "rendering": hashlib.sha256(pickle.dumps(render)).hexdigest(),
        "encoding": [options.encoding.name, options.encoding.quality],
        "version of Pillow": PIL.__version__,
        **{name: getattr(options, name) for name in names},
        **{f"source {name}": value for name, value in options.source.items()},
    }
