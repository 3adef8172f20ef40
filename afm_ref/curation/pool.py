"""Chunks of the source, and the processes that work on them; in order, and never more at a time than stated."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from . import shards
from .decontamination import Decontamination
from .settings import Settings
from .sources import Position, Raw, Unreadable
from .steps import Dropped
from .work import Batch, Worker

AHEAD = 2  # chunks that are waiting or worked on, for each process
MOST_ITEMS = 10_000  # of a chunk, however small


class Chunk(NamedTuple):
    """Documents that are worked on together, and the place of the last one."""

    position: Position
    items: list[Raw | Unreadable]
    size_bytes: int


def chunks(stream: Iterable[tuple[Position, Raw | Unreadable]], chunk_bytes: int) -> Iterator[Chunk]:
    """Yield a stream in chunks that end with the item that reaches chunk_bytes.

    Source: none [ours].
    Test: tests/curation/test_pipeline.py::test_chunks_hold_everything_once
    """
    items, size = [], 0
    for position, item in stream:
        items.append(item)
        size += len(item.data) if isinstance(item, Raw) else 0
        if size >= chunk_bytes or len(items) >= MOST_ITEMS:
            yield Chunk(position, items, size)
            items, size = [], 0
    if items:
        yield Chunk(position, items, size)


class Work:
    """What any process can do, this one or others; each(function, items) is a map that keeps the order."""

    def __init__(self, each: Callable[[Callable, Iterable], Iterator]):
        self.each = each

    def batches(self, some: Iterable[Chunk]) -> Iterator[tuple[Chunk, Batch]]:
        """Yield each chunk, without its items, and what became of them."""
        waiting = deque()

        def items():
            for chunk in some:
                waiting.append(chunk._replace(items=[]))
                yield chunk.items

        for batch in self.each(_curated, items()):
            yield waiting.popleft(), batch

    def decisions(self, paths: Iterable, counts: dict[int, int], common_usage: int) -> Iterator[list[str | None]]:
        """Yield, for each staged shard, the reason of dropping each of its documents, or None; [] for no shard."""
        common = {run: count for run, count in counts.items() if count >= common_usage}  # of the others none counts
        return self.each(_decided, ((path, common) for path in paths))


@contextlib.contextmanager
def workers(settings: Settings, processes: int) -> Iterator[Work]:
    """Give a Work of so many processes: this one, or others that are started anew and import no JAX.

    Ctrl-C reaches this process alone; the others end with it, even if it is killed. Raises OSError if one of them dies.

    Source: none [ours].
    Test: tests/curation/test_pipeline.py::test_one_and_two_processes_give_the_same_bytes,
        tests/curation/test_pipeline.py::test_workers_end_with_their_parent
    """
    if processes == 1:
        _start(settings)
        yield Work(map)
        return
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(processes, context, initializer=_enter, initargs=(settings,))
    try:
        yield Work(lambda function, items: _in_turn(executor, function, items, AHEAD * processes))
    except BrokenProcessPool as error:
        raise OSError(f"a worker process died, perhaps for want of memory ({error}); the same call goes on") from None
    finally:
        executor.shutdown(cancel_futures=True)


def _in_turn(executor, function, items, ahead):
    """Yield function(item) in the order of the items, at most so many of them in work."""
    waiting = deque()
    for item in items:
        waiting.append(executor.submit(function, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _enter(settings):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    _start(settings)


_WORKER: list[Worker] = []  # this process's, made by _start


def _start(settings):
    _WORKER[:] = [Worker(settings)]


def _curated(items):
    return _WORKER[0](items)


def _decided(task):
    path, counts = task
    if path is None:
        return []
    worker = _WORKER[0]
    step = Decontamination(worker.benchmarks, counts, worker.settings.common_usage)
    done = [step(document) for document in shards.read_shard(path)]
    return [one.reason if isinstance(one, Dropped) else None for one in done]
