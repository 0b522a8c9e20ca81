"""The exception for errors that a user can fix, and how a program exits on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def printable(text: str) -> str:
    """The text with escapes for control characters and whatever else would move a terminal's cursor."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class UserError(Exception):
    """An error that a user can fix: one line that says what is wrong, where, and what to do."""

    def __init__(self, message: str):
        """Keep the message on one printable line, whatever file name or parser message it quotes."""
        line = " ".join(message.split())
        super().__init__(printable(line))


def abbreviate(names: Sequence[str], limit: int = 10) -> str:
    """The first names, and the number of further ones: `a, b and 3 more` with a limit of 2."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more:,} more" if more > 0 else "")


class Diverged(UserError):
    """A training run whose loss or weights are no longer finite (NaN or infinite)."""


# How a RuntimeError of PyTorch, or of a library that it uses, says that memory has run out.
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "bad_alloc",
    "can't start new thread",
    "could not create a primitive",
)


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Exit with code 1 and one line on standard error on an error that a user can fix; with code 130 on Ctrl-C.

    Such errors are UserError, OSError (a full disk, for instance) and running out of memory.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of standard output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (UserError, OSError) as error:
        advice = ": free disk space and run again" if "No space left" in str(error) else ""
        sys.exit(f"error: {error}{advice}")
    except (MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, RuntimeError) and not any(phrase in reason for phrase in _OUT_OF_MEMORY):
            raise
        sys.exit(f"error: out of memory ({reason}): lower training.batch_size, or free memory")
    except KeyboardInterrupt:
        sys.exit(130)
