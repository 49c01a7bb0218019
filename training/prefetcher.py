"""Minibatches read ahead in background threads, within a bound of memory."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from training.sampling import Shard, shard_slice

if TYPE_CHECKING:
    from training.dataset import TFRecordDataset

Batch = tuple[np.ndarray, np.ndarray]
MAX_DEPTH = 64  # minibatches; of tiny images, more would fit into the memory but help nobody
_PIECE_BYTES = 1 << 18  # pixels that one thread reads at a time, at least
_SMALL_BYTES = 3 * 96 * 96  # images below: several threads are slower than one, they wait for the interpreter


def default_threads(encoding: str, image_bytes: int) -> int:
    """How many threads read: one per core for compact images, two for raw ones, one where images are small.

    image_bytes: pixels of one image, decoded.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = 1 if image_bytes < _SMALL_BYTES else 2 if encoding == "raw" else cores
    return min(wanted, cores)


@dataclass(frozen=True)
class _Reading:
    """A minibatch that is being read, in pieces."""

    images: np.ndarray
    labels: np.ndarray
    pieces: tuple[Future[None], ...]

    def result(self) -> Batch:
        for piece in self.pieces:
            piece.result()
        return self.images, self.labels

    def cancel(self) -> None:
        for piece in self.pieces:
            piece.cancel()


class Prefetcher:
    """Consecutive minibatches of a data set, equal to `dataset.get` of consecutive positions.

    Args:
        dataset: where the images come from.
        start: global position of the first image.
        batch: images per minibatch, over all shards.
        threads: how many read and decode at the same time; None: chosen by the encoding, see `default_threads`.
        bytes_limit: bound of the minibatches read ahead, in bytes; one is read ahead even if it is larger.
        lod: level of detail, see `TFRecordDataset.read`.
        shard: (index, count): give only this share of every minibatch, see `shard_slice`. All shards together give
            what one reader without shards gives.

    Attributes:
        position: of the first image of the next minibatch. Saved with the training state, it resumes the stream,
            with any number of shards.
    """

    def __init__(
        self,
        dataset: TFRecordDataset,
        start: int,
        batch: int,
        threads: int | None = None,
        bytes_limit: int = 64 << 20,
        lod: int = 0,
        shard: Shard = (0, 1),
    ) -> None:
        if start < 0 or batch < 1 or (threads is not None and threads < 1):
            raise ValueError(f"need start >= 0, batch >= 1, threads >= 1; found {start}, {batch}, {threads}")
        shard_slice(batch, *shard)
        self.position = start
        self._dataset = dataset
        self._batch = batch
        self._lod = lod
        self._shard = shard
        self._bytes_limit = bytes_limit
        self.threads = threads or default_threads(dataset.encoding, int(np.prod(dataset.shape)))
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="prefetch")
        self._pending: deque[_Reading] = deque()
        self._closed = False
        self._fill()

    @property
    def _share(self) -> slice:
        return shard_slice(self._batch, *self._shard)

    @property
    def depth(self) -> int:
        """Minibatches read ahead."""
        share = self._share.stop - self._share.start
        batch_bytes = share * (int(np.prod(self._dataset.lod_shape(self._lod))) + 4 * self._dataset.label_size)
        return min(max(1, self._bytes_limit // max(batch_bytes, 1)), MAX_DEPTH)

    def _fill(self) -> None:
        while len(self._pending) < self.depth:
            first = self.position + len(self._pending) * self._batch
            self._pending.append(self._start(np.arange(first, first + self._batch)[self._share]))

    def _start(self, positions: np.ndarray) -> _Reading:
        images = np.empty((len(positions), *self._dataset.lod_shape(self._lod)), np.uint8)
        labels = np.empty((len(positions), self._dataset.label_size), np.float32)
        image_bytes = int(np.prod(self._dataset.shape))  # what is decoded, not what is left of it
        step = max(-(-len(positions) // self.threads), -(-_PIECE_BYTES // image_bytes))
        pieces = []
        for begin in range(0, len(positions), step):
            part = slice(begin, begin + step)
            pieces.append(self._executor.submit(self._dataset.get_into, positions[part], images[part], labels[part]))
        return _Reading(images, labels, tuple(pieces))

    def _drop(self) -> None:
        for reading in self._pending:
            reading.cancel()
        self._pending.clear()

    def next(self, batch: int | None = None, lod: int | None = None) -> Batch:
        """The next minibatch, without gap or repetition whether or not its size changes.

        Args:
            batch, lod: new size or level of detail from here on; None: as before. What was read ahead is then
                read again, so a change costs a moment.
        Returns:
            images uint8 [n, C, H, W], labels float32 [n, label_size]; n is `batch`, or this shard's share of it.
        Raises:
            UserError: what the reading thread ran into; the position stays.
        """
        if self._closed:
            raise ValueError("the prefetcher is closed")
        batch = self._batch if batch is None else batch
        lod = self._lod if lod is None else lod
        if batch < 1:
            raise ValueError(f"batch must be at least 1, found {batch}")
        if (batch, lod) != (self._batch, self._lod):
            self._drop()
            self._batch, self._lod = batch, lod
        self._fill()
        try:
            result = self._pending.popleft().result()
        except BaseException:
            self._drop()
            raise
        self.position += batch
        self._fill()
        return result

    def close(self) -> None:
        """Stops the threads. What was read ahead is dropped."""
        self._closed = True
        self._drop()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Prefetcher:
        return self

    def __next__(self) -> Batch:
        return self.next()

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
