"""Files: outputs that appear whole or not at all, and what is there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from delta.io.errors import UserError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_LITTLE = 1 << 20  # bytes


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty scratch folder that becomes `path` when the block succeeds and vanishes when it fails.

    The scratch folder lies beside `path`, so that the final rename never crosses a file system. An older `path` is
    replaced.

    Raises:
        UserError: the disk is full, or `path` cannot be written.
    """
    scratch = path.with_name(f".{path.name}.partial")
    try:
        with _written(path, scratch):
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            yield scratch
            if path.exists():
                shutil.rmtree(path)
            scratch.rename(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a scratch path whose file replaces `path` when the block succeeds and vanishes when it fails.

    Raises:
        UserError: the disk is full, or `path` cannot be written.
    """
    scratch = path.with_name(f".{path.name}.partial")
    with _written(path, scratch):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


def is_file(path: Path) -> bool:
    """Whether there is such a file; there is none of a name that no file can have, where `Path.is_file` raises."""
    try:
        return path.is_file()
    except OSError:
        return False


@contextmanager
def _written(path: Path, scratch: Path) -> Iterator[None]:
    """Name the output that could not be written: a full disk is no file's error, and nobody knows the scratch file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if _is_for_want_of_room(error, scratch):
            raise UserError(f"{path}: cannot be written, its disk is full: make room there and run again") from None
        if isinstance(error, OSError) and _concerns(error, path, scratch):
            raise UserError(f"{path}: cannot be written ({error.strerror}): mend that and run again") from None
        raise


def _is_for_want_of_room(error: Exception, scratch: Path) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in NO_ROOM
    # Some libraries pass the system's words on alone, and Pillow not even these.
    if os.strerror(errno.ENOSPC) in str(error):
        return True
    folder = next(folder for folder in scratch.parents if folder.exists())
    return isinstance(error, OSError) and shutil.disk_usage(folder).free < _LITTLE


def _concerns(error: OSError, path: Path, scratch: Path) -> bool:
    """Whether it is about an output's file, one in it, or a folder that it lies in."""
    if error.errno == errno.EROFS:
        return True
    files = [Path(name) for name in (error.filename, error.filename2) if isinstance(name, str)]
    return any(
        file.is_relative_to(output) or output.is_relative_to(file) for file in files for output in (path, scratch)
    )
