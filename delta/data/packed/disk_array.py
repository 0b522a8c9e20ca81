"""DefaultViewData pixels on disk, read when they are asked for."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Self

import numpy as np

from delta.io.errors import UserError


class DiskArray:
    """A uint8 array in a file, of which any rows can be had: `stored[3]`, `stored[2:9]`, `stored[np.array([7, 0])]`.

    The file is read and not memory-mapped: where somebody cuts a mapped file, the system kills the process without a
    word (SIGBUS). What somebody changes under the run is an error here.

    Attributes:
        path: the file.
        shape: of the array.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], offset: int = 0):
        """Open `path`, in which the array begins `offset` bytes after the start and ends where the file does.

        Raises:
            OSError, ValueError: the file cannot be read, or has another size.
        """
        self.path, self.shape = path, shape
        self._offset, self._row = offset, math.prod(shape[1:])
        self._file = path.open("rb", buffering=0)
        self._opened = self._state()
        if (held := self._opened[0]) != (meant := offset + math.prod(shape)):
            raise ValueError(f"{path.name} has {held:,} bytes instead of {meant:,}")

    @classmethod
    def npy(cls, path: Path) -> Self:
        """An array of images, uint8 [n, height, width, 3], in a .npy file; some error where it holds none."""
        mapped = np.lib.format.open_memmap(path, mode="r")
        if mapped.dtype != np.uint8 or mapped.ndim != 4 or mapped.shape[3] != 3 or not mapped.flags.c_contiguous:
            raise ValueError(f"{path.name} holds {mapped.dtype} {list(mapped.shape)} instead of images")
        return cls(path, mapped.shape, mapped.offset)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """Rows from 0 on, or a slice without a step.

        Raises:
            UserError: the file has changed since it was opened.
        """
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            found = np.empty((max(0, stop - start), *self.shape[1:]), np.uint8)
            self._read(start, found)
        elif isinstance(rows, np.ndarray):
            found = np.empty((len(rows), *self.shape[1:]), np.uint8)
            for row, place in zip(rows.tolist(), found, strict=True):
                self._read(row, place)
        elif rows < len(self):
            found = np.empty(self.shape[1:], np.uint8)
            self._read(rows, found)
        else:
            raise IndexError(rows)
        if self._state() != self._opened:
            raise self._changed()
        return found

    def _read(self, row: int, out: np.ndarray) -> None:
        """Fill a contiguous array with the file's bytes from a row on."""
        left, at = out.reshape(-1), self._offset + row * self._row
        while len(left):
            count = os.preadv(self._file.fileno(), [left], at)
            if not count:
                raise self._changed()
            left, at = left[count:], at + count

    def _state(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _changed(self) -> UserError:
        return UserError(f"{self.path}: was changed while this run was reading it: run `dvc repro`")
