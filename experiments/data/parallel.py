"""Work on many images by threads, with results in order.

Threads, not processes: Pillow's decoding and resizing and hashlib's hashing release the GIL, so
photos use all cores, and small images are fast enough on one (measured: CIFAR-10's JPEGs 15,000 a
second on one core; JPEGs of 500×400 pixels 290 a second on one core, 490 on two).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from experiments.data.messages import changed
from search.executors.processes import cores

T = TypeVar("T")
R = TypeVar("R")

#: Called with what is being done, how many images are done, and how many there are.
Progress = Callable[[str, int, int], None]
#: Images between two reports of progress.
_REPORTED = 100

#: Images handed to a thread at a time: enough to outweigh the handing over (assumed).
_BATCH = 16
#: Bytes that all images which wait may have together, where items hold their bytes (assumed).
_WAITING_BYTES = 256_000_000
#: Threads beyond which the GIL's share of an image limits the gain (assumed).
_MOST_THREADS = 16


def threads() -> int:
    """How many threads decode: the cores that this process may use, 16 at most.

    OMP_NUM_THREADS gives workers that share the cores their part.
    """
    part = os.environ.get("OMP_NUM_THREADS", "")
    most = int(part) if part.isdecimal() and int(part) else _MOST_THREADS
    return min(cores(), _MOST_THREADS, most)


def in_order(
    function: Callable[[T], R], items: Iterable[T], size: Callable[[T], int] = lambda _: 0
) -> Iterator[R]:
    """`function` of each item, in the items' order, computed by threads a little ahead.

    Items are drawn as they are needed, so neither they nor the results are ever all in memory;
    `size` says how many bytes an item holds. An exception of `function` is raised here, and work
    that has not started is dropped.
    """
    pool = ThreadPoolExecutor(threads(), "images")
    running: deque[tuple[Future[list[R]], int]] = deque()
    held = 0
    try:
        for batch, weight in _batches(items, size):
            running.append((pool.submit(list, map(function, batch)), weight))
            held += weight
            while running and (len(running) > 2 * threads() or held > _WAITING_BYTES):
                done, weight = running.popleft()
                yield from done.result()
                held -= weight
        while running:
            yield from running.popleft()[0].result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(items: Iterable[T], size: Callable[[T], int]) -> Iterator[tuple[list[T], int]]:
    """Items in lists, a new one where the last is long or heavy enough, with their bytes."""
    batch: list[T] = []
    weight = 0
    for item in items:
        batch.append(item)
        weight += size(item)
        if len(batch) == _BATCH or weight > _WAITING_BYTES // 4:
            yield batch, weight
            batch, weight = [], 0
    if batch:
        yield batch, weight


def counted(what: str, results: Iterable[R], total: int, progress: Progress) -> Iterator[R]:
    """Passes `results` on unchanged and reports them to `progress`.

    Raises `InvalidInput` if there are more or fewer than `total`.
    """
    done = 0
    for done, result in enumerate(results, 1):
        yield result
        if done % _REPORTED == 0 or done == total:
            progress(what, done, total)
    if done != total:
        raise changed(f"{total:,} images became {done:,}")
