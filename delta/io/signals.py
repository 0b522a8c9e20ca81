"""Ctrl-C and SIGTERM, and lines on standard error beside progress bars."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


def say(text: str) -> None:
    """A line on standard error, beside the progress bars."""
    tqdm.write(text, file=sys.stderr)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM that arrive while the block lasts take effect at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python's signal handlers run in the main thread alone
        return
    arrived = []
    handlers = {
        number: signal.signal(number, lambda number, _: arrived.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in arrived:
            # A handler is called, not told by a new signal: who counts signals would count two.
            handler = handlers[number]
            handler(number, None) if callable(handler) else signal.raise_signal(number)
