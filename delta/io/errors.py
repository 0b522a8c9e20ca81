"""The one kind of error that is meant for a person, and how a program ends with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something a user can mend: the message says in one line what is wrong, where, and what to do."""

    def __init__(self, message: str):
        """Whatever the message quotes, such as a file's name or a parser's complaint, it stays one line."""
        line = " ".join(message.split())
        super().__init__("".join(char if char.isprintable() else repr(char)[1:-1] for char in line))


class Diverged(UserError):
    """A training run whose loss or weights are no longer finite."""


# How PyTorch and what it is made of say in a RuntimeError that there is no memory left.
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "bad_alloc",
    "can't start new thread",
    "could not create a primitive",
)


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """What a user can mend ends the program in one line on standard error and exit code 1; Ctrl-C ends it with 130.

    Among it are a full disk and too little memory.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read standard output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (UserError, OSError) as error:
        room = ": make room and start again" if "No space left" in str(error) else ""
        sys.exit(f"error: {error}{room}")
    except (MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, RuntimeError) and not any(sign in reason for sign in _OUT_OF_MEMORY):
            raise
        sys.exit(f"error: out of memory ({reason}): training takes less with a lower training.batch_size")
    except KeyboardInterrupt:
        sys.exit(130)
