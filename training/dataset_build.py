"""Conversion of a list of images into a data set: order, worker processes, progress, what to do with bad images."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tqdm

from dnnlib.util import UserError
from training.dataset_writer import DatasetWriter, check_resolution, check_target, expected_bytes

PUBLISHED_SEED = 123  # of the order in which the published tool writes images
_IN_PROCESS = 64  # so few images are not worth starting processes for
_CHUNK = 8  # images per hand-over to a process

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Item:
    """One image to convert."""

    name: str  # shown in messages, unique
    path: str
    label: int = -1  # class, -1: none


@dataclass(frozen=True)
class BuildOptions:
    """How a data set is built, whatever the images are."""

    resolution: int
    channels: int = 3
    class_names: tuple[str, ...] = ()
    shuffle: bool = True
    seed: int = PUBLISHED_SEED
    max_images: int | None = None
    strict: bool = False  # the first bad image is an error
    workers: int | None = None  # processes, None: one per core
    overwrite: bool = False
    source: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildReport:
    """What became of it."""

    path: Path
    num_images: int
    skipped: tuple[tuple[str, str], ...]  # (name, reason)
    labels: np.ndarray  # int64 [num_images], classes


@dataclass(frozen=True)
class Failure:
    """Stands for the result of an item that could not be processed."""

    reason: str


def published_order(n: int, seed: int = PUBLISHED_SEED) -> np.ndarray:
    """The order in which the published tool writes n images: record i is image order[i]. int64 [n]."""
    order = np.arange(n)
    np.random.RandomState(seed).shuffle(order)
    return order


def _attempt(work: Callable[[T], R], items: Sequence[T]) -> list[R | Failure]:
    results: list[R | Failure] = []
    for item in items:
        try:
            results.append(work(item))
        except Exception as err:  # decoders raise anything on broken files; the reason is reported
            text = str(err) if isinstance(err, UserError) else f"{type(err).__name__}: {err}"
            results.append(Failure(text))
    return results


def ordered_map(work: Callable[[T], R], items: Sequence[T], workers: int | None = None) -> Iterator[R | Failure]:
    """`work(item)` of every item, in order, computed by several processes a bounded distance ahead.

    Args:
        work: function that can be pickled; an exception becomes a `Failure`.
        workers: processes, None: one per core.
    Raises:
        UserError: a process died.
    """
    workers = available_cores() if workers is None else workers
    chunks = (items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK))
    if workers <= 1 or len(items) <= _IN_PROCESS:
        for chunk in chunks:
            yield from _attempt(work, chunk)
        return
    # 'spawn': a forked child would inherit the threads of whatever library has been loaded.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)
    try:
        pending = deque(pool.submit(_attempt, work, chunk) for chunk in itertools.islice(chunks, 3 * workers))
        while pending:
            yield from pending.popleft().result()
            pending.extend(pool.submit(_attempt, work, chunk) for chunk in itertools.islice(chunks, 1))
    except BrokenProcessPool as err:
        raise UserError("a worker process died, perhaps for want of memory; try again with --workers 1") from err
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Ctrl-C is for the parent, which then stops its workers; a worker does not outlive a parent that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, name="leave with parent", daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build(
    path: os.PathLike | str,
    items: Sequence[Item],
    render: Callable[[Item], np.ndarray],
    options: BuildOptions,
    skipped: Sequence[tuple[str, str]] = (),
    say: Callable[[str], None] = print,
) -> BuildReport:
    """Converts `items` into a data set.

    Args:
        path: directory to make.
        items: candidates in sorted order; the order of the records is a permutation of it (`published_order`).
        render: item -> uint8 or float [C, H, W] in [0, 255]; can be pickled. An exception skips the item.
        skipped: (name, reason) of files left out before, for the report.
        say: where messages go.
    Raises:
        UserError: nothing to convert, no room on the disk, target not empty, or a bad image with `strict`.
    """
    check_resolution(options.resolution)
    check_target(Path(os.path.realpath(path)), options.overwrite)
    if options.max_images is not None and options.max_images < 1:
        raise UserError(f"max_images is {options.max_images}, expected at least 1")
    if options.workers is not None and options.workers < 1:
        raise UserError(f"workers is {options.workers}, expected at least 1")
    if not items:
        first = f" (the first: {': '.join(skipped[0])})" if skipped else ""
        raise UserError(f"no images to convert, {len(skipped)} skipped{first}")
    wanted = min(len(items), options.max_images or len(items))
    label_size = len(options.class_names)
    _check_room(path, expected_bytes(options.resolution, options.channels, wanted, label_size), wanted, say)

    order = published_order(len(items), options.seed) if options.shuffle else range(len(items))
    queue = [items[i] for i in order]
    one_hot = np.eye(label_size, dtype=np.float32)
    classes: list[int] = []
    source = {**options.source, "shuffle": options.shuffle, "seed": options.seed, "max_images": options.max_images}
    writer = DatasetWriter(
        path, options.resolution, options.channels, label_size, options.class_names, source, options.overwrite
    )
    bar = tqdm.tqdm(total=wanted, unit="img", desc=writer.path.name)
    with writer, bar, closing(ordered_map(render, queue, options.workers)) as images:
        for name, reason in skipped:
            writer.skip(name, reason)
        for item, image in zip(queue, images, strict=True):
            if not isinstance(image, Failure):
                writer.add(image, one_hot[item.label] if label_size else None)
                classes.append(item.label)
                bar.update()
            elif options.strict:
                raise UserError(f"{item.name}: {image.reason} (without --strict it would be skipped)")
            else:
                writer.skip(item.name, image.reason)
            if writer.num_images == wanted:
                break
    return BuildReport(writer.path, writer.num_images, tuple(writer.skipped), np.array(classes, np.int64))


def _check_room(path: os.PathLike | str, needed: int, wanted: int, say: Callable[[str], None]) -> None:
    folder = Path(os.path.realpath(path)).parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    say(f"Writing up to {wanted} images: {format_bytes(needed)} on disk ({format_bytes(free)} free).")
    if needed > free:
        raise UserError(f"{folder}: {format_bytes(needed)} needed, {format_bytes(free)} free; try --max-images")


def format_bytes(size: float) -> str:
    """Size in bytes as `812 B`, `3.4 MB` (powers of 1000, like disks)."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
