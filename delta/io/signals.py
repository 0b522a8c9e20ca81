"""Deferring Ctrl-C and SIGTERM, and printing to standard error without breaking progress bars."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


def say(text: str) -> None:
    """Print a line to standard error without breaking progress bars."""
    tqdm.write(text, file=sys.stderr)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM to the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs signal handlers in the main thread only
        return
    arrived: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: arrived.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for received in arrived:
            # Call the handler rather than raise the signal again: a parent or a handler may count signals.
            handler = handlers[signal.Signals(received)]
            handler(received, None) if callable(handler) else signal.raise_signal(received)
