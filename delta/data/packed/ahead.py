"""Reading ahead: threads read what comes next while this one computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from delta.io.cores import available_cores

# One thread keeps up with a GPU where pixels are stored as they are. Where JPEGs are, it decodes about 1,000 a second.
_THREADS = 4

A = TypeVar("A")
B = TypeVar("B")


def read_ahead(read: Callable[[A], B], items: Iterable[A]) -> Generator[tuple[A, B], None, None]:
    """Yield each item with what `read` returns for it, in order; threads are reading the next few meanwhile.

    The items are taken in this thread, so whatever they draw at random is drawn in order. Close the generator to end
    its threads.

    Raises:
        Exception: `read` has raised it, for the item whose turn it is.
    """
    coming, threads = iter(items), min(_THREADS, available_cores())
    pool = ThreadPoolExecutor(threads, "read_ahead")
    try:
        reading = deque((item, pool.submit(read, item)) for item in islice(coming, threads + 1))
        while reading:
            item, result = reading.popleft()
            found = result.result()
            reading.extend((item, pool.submit(read, item)) for item in islice(coming, 1))
            yield item, found
    finally:
        pool.shutdown(cancel_futures=True)
