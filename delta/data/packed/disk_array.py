"""Arrays of images on disk, whose images are read on access: as pixels, or as JPEGs."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

from delta.io.errors import UserError

_BLOCK = 1 << 24  # bytes


class DiskArray:
    """A uint8 array in a file, indexed along its first axis: `array[3]`, `array[2:9]`, `array[np.array([7, 0])]`.

    The file is read rather than memory-mapped: truncating a mapped file kills the process that reads it (SIGBUS).
    Here, a file that changes while it is open raises a UserError. Threads may read at the same time.

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
        self._check_unchanged()
        return found

    def blocks(self) -> Iterator[np.ndarray]:
        """All bytes of the array, block by block: uint8 [≤ 16 Mi] each, of the file that was opened.

        Raises:
            UserError: the file has changed since it was opened.
        """
        size = math.prod(self.shape)
        block = np.empty(min(size, _BLOCK), np.uint8)
        for start in range(0, size, _BLOCK):
            part = block[: size - start]
            self._read_bytes(self._offset + start, part)
            yield part
        self._check_unchanged()

    def _read(self, row: int, out: np.ndarray) -> None:
        """Fill a contiguous array with the file's bytes, starting at a row."""
        self._read_bytes(self._offset + row * self._row_bytes, out.reshape(-1))

    def _read_bytes(self, position: int, out: np.ndarray) -> None:
        """Fill a contiguous array [n] with the file's bytes, starting at a position in the file."""
        while len(out):
            count = os.preadv(self._file.fileno(), [out.data], position)
            if not count:
                raise self._changed()
            out, position = out[count:], position + count

    def _state(self) -> tuple[int, int]:
        """The file's size and modification time."""
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _check_unchanged(self) -> None:
        if self._state() != self._opened:
            raise self._changed()

    def _changed(self) -> UserError:
        return UserError(f"{self.path}: was changed while this run was reading it: run `dvc repro`")


class JpegArray:
    """Images in a file of JPEGs (Motion JPEG: one after the other), decoded on access: `array[3]` is uint8 [h, w, 3].

    Images of one size are also read several at a time, like a `DiskArray`'s: `array[2:9]`, `array[np.array([7, 0])]`.
    Threads may read at the same time.

    Attributes:
        path: the file.
        stored: its bytes.
        ends: where in them each image ends, int64 [n].
    """

    def __init__(self, path: Path):
        """Open `path`, `<name>.mjpeg`, beside which `<name>.ends.npy` has `ends`.

        Raises:
            Exception: of many types, if the files are anything else.
        """
        ends_file, self.path = path.with_suffix(".ends.npy"), path
        self.ends = np.load(ends_file, allow_pickle=False)
        if self.ends.dtype != np.int64 or self.ends.ndim != 1 or not (np.diff(self.ends, prepend=0) > 0).all():
            raise ValueError(f"{ends_file.name} has no places in a file")
        self.stored = DiskArray(path, (int(self.ends[-1]) if len(self.ends) else 0,))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """Decode an image, or several of one size, as [n, h, w, 3]; negative rows are not supported.

        Raises:
            UserError: the file has changed since it was opened, or an image is damaged.
        """
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        if isinstance(rows, np.ndarray):
            images = [self._image(row) for row in rows.tolist()]
            if len({image.shape for image in images}) > 1:
                raise UserError(f"{self.path}: has images of different sizes: run `dvc repro`")
            return np.stack(images) if images else np.empty((0, 0, 0, 3), np.uint8)
        return self._image(rows)

    def _image(self, row: int) -> np.ndarray:
        encoded = self.stored[int(self.ends[row - 1]) if row else 0 : int(self.ends[row])]
        try:
            image = JpegImageFile(io.BytesIO(encoded.data))
            if image.mode != "RGB":
                raise ValueError(f"mode {image.mode}")
            return np.asarray(image)
        except Exception as error:  # Pillow raises nearly any exception
            raise UserError(f"{self.path}: image {row} is damaged ({error}): run `dvc repro`") from None


ImageArray = DiskArray | JpegArray


def open_images(folder: Path, name: str) -> ImageArray:
    """Open the images of one size that are packed under a name: `<name>.npy` or `<name>.mjpeg`.

    Raises:
        Exception: of many types, if there are none, or they are damaged.
    """
    jpegs = folder / f"{name}.mjpeg"
    return JpegArray(jpegs) if jpegs.exists() else DiskArray.npy(folder / f"{name}.npy")
