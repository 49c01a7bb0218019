"""Minibatches read ahead in background threads, within a bound of memory."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from training.dataset import TFRecordDataset

Batch = tuple[np.ndarray, np.ndarray]
MAX_DEPTH = 64  # minibatches; of tiny images, more would fit into the memory but help nobody


class Prefetcher:
    """Consecutive minibatches of a data set, equal to `dataset.get` of consecutive positions.

    Args:
        dataset: where the images come from.
        start: global position of the first image.
        batch: images per minibatch.
        threads: how many read at the same time.
        bytes_limit: bound of the minibatches read ahead, in bytes; one is read ahead even if it is larger.
        lod: level of detail, see `TFRecordDataset.read`.

    Attributes:
        position: of the first image of the next minibatch. Saved with the training state, it resumes the stream.
    """

    def __init__(
        self,
        dataset: TFRecordDataset,
        start: int,
        batch: int,
        threads: int = 2,
        bytes_limit: int = 64 << 20,
        lod: int = 0,
    ) -> None:
        if start < 0 or batch < 1 or threads < 1:
            raise ValueError(f"need start >= 0, batch >= 1, threads >= 1; found {start}, {batch}, {threads}")
        self.position = start
        self._dataset = dataset
        self._batch = batch
        self._lod = lod
        self._bytes_limit = bytes_limit
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
        self._pending: deque[Future[Batch]] = deque()
        self._closed = False
        self._fill()

    @property
    def depth(self) -> int:
        """Minibatches read ahead."""
        channels, height, width = self._dataset.shape
        image_bytes = channels * (height >> self._lod) * (width >> self._lod)
        batch_bytes = self._batch * (image_bytes + 4 * self._dataset.label_size)
        return min(max(1, self._bytes_limit // batch_bytes), MAX_DEPTH)

    def _fill(self) -> None:
        while len(self._pending) < self.depth:
            first = self.position + len(self._pending) * self._batch
            positions = np.arange(first, first + self._batch)
            self._pending.append(self._executor.submit(self._dataset.get, positions, self._lod))

    def _drop(self) -> None:
        for future in self._pending:
            future.cancel()
        self._pending.clear()

    def next(self, batch: int | None = None, lod: int | None = None) -> Batch:
        """The next minibatch, without gap or repetition whether or not its size changes.

        Args:
            batch, lod: new size or level of detail from here on; None: as before. What was read ahead is then
                read again, so a change costs a moment.
        Returns:
            images uint8 [batch, C, H, W], labels float32 [batch, label_size].
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
