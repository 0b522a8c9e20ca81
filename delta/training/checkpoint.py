"""Saving a long computation, so that it can resume after it was killed."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import fields, is_dataclass
from hashlib import blake2b, file_digest
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from delta.data.packed.disk_array import DiskArray, JpegArray
from delta.io.errors import UserError
from delta.io.files import atomic_file
from delta.io.signals import say
from delta.networks.devices import device_name


class Checkpoint:
    """A file with the state of one computation.

    It belongs to everything that the result depends on: parameters, weights, data, code and the kind of machine. A
    checkpoint of another computation is ignored, and so is a damaged one; either is reported on standard error. It is
    written to a scratch file, synced and renamed, so that it is complete whenever the process ends.

    The digest of the images, which can be 100 GB, is made when it is first needed, from the files that were opened.

    The file holds a line of JSON, with a digest of each thing that it belongs to and one of the rest, and the state as
    `torch.save` writes it; it is read with `weights_only=True`.
    """

    def __init__(self, path: Path, minutes: float):
        """
        Args:
            path: the file; its folder is made when it is first needed.
            minutes: time between two checkpoints; 0 makes one due at any time.
        """
        self.path, self.minutes = path, minutes
        self._last_saved = time.monotonic()
        self._data_digest: Future[str] | None = None

    def load(self, device: torch.device, data: object, **parts: object) -> dict[str, Any] | None:
        """The state that `save` was given for this same computation, on a device; None if there is none.

        Args:
            device: what computes.
            data: the images.
            parts: what else the result depends on, by the name that is printed where it differs; see `digest`.

        Raises:
            OSError: the file exists and cannot be read.
        """
        processor = (torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()) if device.type == "cpu" else ()
        versions = [version(package) for package in ("torch", "timm", "pillow")]
        parts |= {"code": _loaded_code(), "machine or versions": (device_name(device), *processor, *versions)}
        self._digests = {name: digest(part) for name, part in parts.items()}
        self._data, self._data_digest = data, None
        self._last_saved = time.monotonic()
        try:
            header_line, _, state = self.path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        try:
            header = json.loads(header_line)
            belongs_to, is_complete = dict(header["belongs_to"]), header["digest"] == blake2b(state).hexdigest()
        except (ValueError, KeyError, TypeError):
            is_complete = False
        reason = None
        if not is_complete:
            reason = "it is damaged"
        elif other := [name for name, part in self._belongs_to().items() if belongs_to.get(name) != part]:
            reason = f"it belongs to other {', '.join(other)}"
        if reason:
            say(f"{self.path}: checkpoint ignored, as {reason}: starting from the beginning")
            return None
        return torch.load(io.BytesIO(state), map_location=device, weights_only=True)

    def due(self) -> bool:
        """Whether it is time for the next one. At half time, a thread begins to make the images' digest."""
        minutes = (time.monotonic() - self._last_saved) / 60
        if minutes >= self.minutes / 2:
            self._begin_data_digest()
        return minutes >= self.minutes

    def save(self, state: Mapping[str, Any]) -> bool:
        """Replace the file; to be called after `load`. If it cannot be written, that is reported and the old one stays.

        Args:
            state: tensors, numbers, texts and None, in dictionaries, lists and tuples.

        Returns:
            Whether it is written.
        """
        try:
            torch.save(state, pickled := io.BytesIO())
            header = {"belongs_to": self._belongs_to(), "digest": blake2b(pickled.getbuffer()).hexdigest()}
            with atomic_file(self.path) as scratch, scratch.open("wb") as file:
                file.write(json.dumps(header).encode() + b"\n")
                file.write(pickled.getbuffer())
                file.flush()
                os.fsync(file.fileno())
        except (OSError, UserError, MemoryError, RuntimeError) as error:
            # `torch.save` raises RuntimeError in place of the error that its file raised.
            reason = str(error.__context__ or error) or "out of memory"
            say(f"{self.path}: checkpoint not written ({reason}): going on, and trying again later")
            return False
        finally:
            self._last_saved = time.monotonic()
        return True

    def beside(self, name: str) -> Self:
        """The checkpoint of a part of this computation."""
        return type(self)(self.path.with_suffix(f".{name}{self.path.suffix}"), self.minutes)

    def remove(self) -> None:
        """Remove the file, when the computation has ended."""
        self.path.unlink(missing_ok=True)

    def _belongs_to(self) -> dict[str, str]:
        return self._digests | {"data": self._begin_data_digest().result()}

    def _begin_data_digest(self) -> Future[str]:
        if self._data_digest is None:
            self._data_digest = Future()
            # A daemon, as a process that has no more to do must not wait for it.
            Thread(target=_fulfil, args=(self._data_digest, self._data), daemon=True).start()
        return self._data_digest


def _fulfil(promise: Future[str], data: object) -> None:
    try:
        promise.set_result(digest(data))
    except BaseException as error:
        promise.set_exception(error)


def digest(part: object) -> str:
    """A digest of content: arrays, tensors, tables and files by their bytes, everything else by its `repr`.

    Args:
        part: dictionaries, lists, tuples and dataclasses are digested part by part; a path is a file, or a folder with
            all files in it.
    """
    total = blake2b(digest_size=32)
    _update(total, part)
    return total.hexdigest()


def _update(total: blake2b, part: object) -> None:
    content = _content(part)
    if isinstance(content, np.ndarray):
        header: object = (content.dtype.str, content.shape)
    else:
        header = len(content)
    # Type and length come first, so that no two contents give the same bytes.
    total.update(repr((type(part).__name__, header)).encode())
    if isinstance(content, bytes | np.ndarray):
        total.update(np.ascontiguousarray(content).data if isinstance(content, np.ndarray) else content)
    else:
        for each in content:
            _update(total, each)


def _content(part: object) -> bytes | np.ndarray[Any, Any] | Sequence[object]:
    """What is digested of a part: bytes, an array, or further parts."""
    if isinstance(part, Tensor):
        return part.detach().cpu().numpy()
    if isinstance(part, np.ndarray):
        return part
    if isinstance(part, pd.DataFrame):
        return part.to_csv().encode()
    if isinstance(part, nn.Module):
        return list(part.state_dict().items())
    if isinstance(part, Mapping):
        return list(part.items())
    if isinstance(part, Path):
        if part.is_dir():
            return [(path.relative_to(part).parts, path) for path in sorted(part.rglob("*")) if path.is_file()]
        with part.open("rb") as file:
            return file_digest(file, blake2b).digest()
    if isinstance(part, DiskArray):
        pixels = blake2b()
        for block in part.blocks():
            pixels.update(block.data)
        return (part.shape, pixels.digest())
    if isinstance(part, JpegArray):
        return (part.ends, part.stored)
    if isinstance(part, list | tuple):
        return part
    if is_dataclass(part) and not isinstance(part, type):
        return [(field.name, getattr(part, field.name)) for field in fields(part)]
    return repr(part).encode()


def _loaded_code() -> list[tuple[str, Path]]:
    """Every module of this package that the process has loaded, and its file."""
    package = __name__.partition(".")[0]
    loaded = [(name, module) for name, module in sys.modules.items() if name.partition(".")[0] == package]
    return sorted((name, Path(module.__file__)) for name, module in loaded if module.__file__)
