"""Work done by several processes, a bounded distance ahead of who takes the results, in order."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

from dnnlib.util import UserError
from training.allocator import keep_freed_memory

_IN_PROCESS = 64  # so few items are not worth starting processes for
_CHUNK = 8  # items per hand-over to a process
_AHEAD = 3  # hand-overs per process that are under way
_MOST_DEATHS = 5  # items that may end a process before it is no longer their fault

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Failure:
    """Stands for the result of an item that could not be processed."""

    reason: str


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reason(err: Exception) -> str:
    if isinstance(err, UserError):
        return str(err)
    if isinstance(err, OSError) and err.filename is not None and err.strerror:
        return err.strerror  # the table names the file already
    return f"{type(err).__name__}: {err}"


def _attempt(work: Callable[[T], R], items: list[T]) -> list[R | Failure]:
    results: list[R | Failure] = []
    for item in items:
        try:
            results.append(work(item))
        except Exception as err:  # decoders raise anything on broken files; the reason is reported
            results.append(Failure(_reason(err)))
    return results


class Workers(Generic[T, R]):
    """`work`, done by processes. A context manager; leaving it ends the processes.

    Args:
        work: function that can be pickled; an exception becomes a `Failure`, and so does an item whose process dies.
        count: processes, None: one per core; 1: no processes, all is done by the caller.
        chunk: items per hand-over; fewer where a result is large, because what is under way is held in memory.
    """

    def __init__(self, work: Callable[[T], R], count: int | None = None, chunk: int = _CHUNK) -> None:
        self._work = work
        self._count = available_cores() if count is None else count
        self._chunk = chunk
        self._pool: ProcessPoolExecutor | None = None
        self._deaths = 0

    def start(self, total: int) -> None:
        """Starts the processes that `map` of so many items will want, so that they import while others work."""
        if not self._alone_is_enough(total):
            for _ in range(self._count):
                self._submit([])

    def _alone_is_enough(self, total: int) -> bool:
        return self._count <= 1 or total <= _IN_PROCESS

    def map(self, items: Iterable[T], total: int) -> Iterator[R | Failure]:
        """Results in the order of the items, which are taken as they are needed.

        Args:
            total: number of items; a few are done without processes.
        Raises:
            UserError: processes died again and again.
        """
        chunks = self._chunks(items, total)
        if self._pool is None and self._alone_is_enough(total):
            for chunk in chunks:
                yield from _attempt(self._work, chunk)
            return
        pending: deque[tuple[list[T], Future]] = deque()
        while True:
            while len(pending) < _AHEAD * self._count and (chunk := next(chunks, None)) is not None:
                pending.append((chunk, self._submit(chunk)))
            if not pending:
                return
            try:
                results = pending[0][1].result()
            except BrokenProcessPool:
                self._end()
                results = [self._alone(item) for item in pending[0][0]]
                pending.popleft()
                pending = deque((chunk, self._submit(chunk)) for chunk, _ in pending)
            else:
                pending.popleft()
            yield from results

    def _chunks(self, items: Iterable[T], total: int) -> Iterator[list[T]]:
        """Items per hand-over; fewer towards the end, so that no process is left with much while others are done."""
        source = iter(items)
        while chunk := list(itertools.islice(source, max(1, min(self._chunk, total // (2 * self._count))))):
            total -= len(chunk)
            yield chunk

    def _submit(self, chunk: list[T]) -> Future:
        if self._pool is None:
            # 'spawn': a forked child would inherit the threads of whatever library has been loaded.
            self._pool = ProcessPoolExecutor(self._count, multiprocessing.get_context("spawn"), _start_worker)
        try:
            with _interrupts_wait():
                return self._pool.submit(_attempt, self._work, chunk)
        except BrokenProcessPool as err:  # the result tells, as if it had broken a moment later
            broken: Future = Future()
            broken.set_exception(err)
            return broken

    def _alone(self, item: T) -> R | Failure:
        """The result of an item for which a process may have died, with no other under way."""
        try:
            (result,) = self._submit([item]).result()
        except BrokenProcessPool as err:
            self._end()
            self._deaths += 1
            if self._deaths > _MOST_DEATHS:
                text = f"{self._deaths} worker processes died, perhaps for want of memory; try again with --workers 1"
                raise UserError(text) from err
            return Failure("the process that read it died (a fault in a decoder, or want of memory)")
        return result

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def __enter__(self) -> Workers[T, R]:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._end()


def ordered_map(
    work: Callable[[T], R], items: Iterable[T] | Sized, workers: int | None = None
) -> Iterator[R | Failure]:
    """`work(item)` of every item, in order: see `Workers`. Close the iterator to stop early.

    Args:
        items: a sequence.
        workers: processes, None: one per core.
    Raises:
        UserError: processes died again and again.
    """
    with Workers(work, workers) as pool, closing(pool.map(items, len(items))) as results:
        yield from results


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C goes to all processes of a terminal. Those that are started meanwhile never see it, not even before
    `_start_worker`; the caller does, at the end."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    """Ctrl-C is for the parent, which then stops its workers; a worker does not outlive a parent that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    threading.Thread(target=_leave_with_parent, name="leave with parent", daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
