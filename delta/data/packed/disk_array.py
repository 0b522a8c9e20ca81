"""An array on disk whose rows are read on access."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Self

import numpy as np

from delta.io.errors import UserError


class DiskArray:
    """A uint8 array in a file, indexed along its first axis: `array[3]`, `array[2:9]`, `array[np.array([7, 0])]`.

    The file is read rather than memory-mapped: truncating a mapped file kills the process that reads it (SIGBUS).
    Here, a file that changes while it is open raises a UserError.

    Attributes:
        path: the file.
        shape: the array's shape.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], offset: int = 0):
        """Open `path`, where the array starts at byte `offset` and extends to the end of the file.

        Raises:
            OSError, ValueError: the file cannot be read, or has another size.
        """
        self.path, self.shape = path, shape
        self._offset, self._row_bytes = offset, math.prod(shape[1:])
        self._file = path.open("rb", buffering=0)
        self._opened = self._state()
        if (size := self._opened[0]) != (expected := offset + math.prod(shape)):
            raise ValueError(f"{path.name} has {size:,} bytes instead of {expected:,}")

    @classmethod
    def npy(cls, path: Path) -> Self:
        """Open a .npy file of images, uint8 [n, height, width, 3].

        Raises:
            Exception: of many types, if the file is anything else.
        """
        mapped = np.lib.format.open_memmap(path, mode="r")
        if mapped.dtype != np.uint8 or mapped.ndim != 4 or mapped.shape[3] != 3 or not mapped.flags.c_contiguous:
            raise ValueError(f"{path.name} has {mapped.dtype} {list(mapped.shape)} instead of images")
        return cls(path, mapped.shape, mapped.offset)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """Read a row, a slice without a step, or an array of rows; negative rows are not supported.

        Raises:
            UserError: the file has changed since it was opened.
        """
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            found = np.empty((max(0, stop - start), *self.shape[1:]), np.uint8)
            self._read(start, found)
        elif isinstance(rows, np.ndarray):
            found = np.empty((len(rows), *self.shape[1:]), np.uint8)
            for row, out in zip(rows.tolist(), found, strict=True):
                self._read(row, out)
        elif rows < len(self):
            found = np.empty(self.shape[1:], np.uint8)
            self._read(rows, found)
        else:
            raise IndexError(rows)
        if self._state() != self._opened:
            raise self._changed()
        return found

    def _read(self, row: int, out: np.ndarray) -> None:
        """Fill a contiguous array with the file's bytes, starting at a row."""
        left, position = out.reshape(-1), self._offset + row * self._row_bytes
        while len(left):
            count = os.preadv(self._file.fileno(), [left.data], position)
            if not count:
                raise self._changed()
            left, position = left[count:], position + count

    def _state(self) -> tuple[int, int]:
        """The file's size and modification time."""
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _changed(self) -> UserError:
        return UserError(f"{self.path}: was changed while this run was reading it: run `dvc repro`")
