"""Waiting for other processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from delta.io.signals import say


@contextmanager
def locked(file: Path, waiting: str = "") -> Iterator[None]:
    """Hold an inter-process lock during the block.

    Args:
        file: the lock, which is there only while a process holds it or waits for it.
        waiting: what to say on standard error if another process holds the lock and this one has to wait.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if waiting:
            say(waiting)
        lock.acquire()
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # waiting processes notice and create a new one
        lock.release()
