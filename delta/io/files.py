"""Atomic outputs: files and folders that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from delta.io.errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_ALMOST_FULL = 1 << 20  # bytes


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty scratch folder that becomes `path` when the block succeeds and is removed when it fails.

    The scratch folder is created beside `path`, so the final rename stays within one file system. An existing `path`
    is replaced.

    Raises:
        UserError: the disk is full, or `path` cannot be written.
    """
    scratch = path.with_name(f".{path.name}.partial")
    try:
        with _write_errors(path, scratch):
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
    """Yield a scratch path whose file replaces `path` when the block succeeds and is removed when it fails.

    Raises:
        UserError: the disk is full, or `path` cannot be written.
    """
    scratch = path.with_name(f".{path.name}.partial")
    with _write_errors(path, scratch):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


def is_file(path: Path) -> bool:
    """Like `Path.is_file`, but False for names that no file can have (too long, say), where that raises OSError."""
    try:
        return path.is_file()
    except OSError:
        return False


@contextmanager
def _write_errors(path: Path, scratch: Path) -> Iterator[None]:
    """Turn write errors into a UserError that names `path` rather than the scratch file, or no file at all."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if _is_disk_full(error, scratch):
            raise UserError(f"{path}: cannot be written, its disk is full: free disk space and run again") from None
        if isinstance(error, OSError) and _is_about(error, path, scratch):
            raise UserError(f"{path}: cannot be written ({error.strerror}): fix that and run again") from None
        raise


def _is_disk_full(error: Exception, scratch: Path) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in DISK_FULL
    # Some libraries keep only the system's message; Pillow does not keep even that.
    if os.strerror(errno.ENOSPC) in str(error):
        return True
    folder = next(folder for folder in scratch.parents if folder.exists())
    return isinstance(error, OSError) and shutil.disk_usage(folder).free < _ALMOST_FULL


def _is_about(error: OSError, path: Path, scratch: Path) -> bool:
    """Whether an error concerns the output, a file in it, or a folder that contains it."""
    if error.errno == errno.EROFS:
        return True
    files = [Path(name) for name in (error.filename, error.filename2) if isinstance(name, str)]
    return any(
        file.is_relative_to(output) or output.is_relative_to(file) for file in files for output in (path, scratch)
    )
