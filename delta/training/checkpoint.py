"""The state of a long computation in a file, from which a computation that was killed goes on."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from hashlib import blake2b, file_digest
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from delta.data.packed.disk_array import DiskArray
from delta.io.errors import UserError
from delta.io.files import atomic_file
from delta.io.signals import say
from delta.networks.devices import device_name


class Checkpoint:
    """A file that holds how far one computation has come.

    It belongs to all that shapes the result: parameters, weights, data, code and the kind of machine. One that belongs
    to another computation is ignored, and so is a damaged one; either says so on standard error. It is written beside
    itself, brought to the disk and renamed, so that it is whole whenever the process ends.

    In the file are a line of JSON, with a digest of each thing that it belongs to and one of the rest, and the state
    as `torch.save` writes it; it is read without running code.
    """

    def __init__(self, path: Path, minutes: float):
        """
        Args:
            path: the file; its folder is made when it is first needed.
            minutes: time between two checkpoints; 0 makes one due at any time.
        """
        self.path, self.minutes = path, minutes
        self._last = time.monotonic()

    def load(self, device: torch.device, data: object, **parts: object) -> dict[str, Any] | None:
        """What `save` was given for this computation, on a device; None where there is nothing to go on from.

        Args:
            device: what computes.
            data: the images; their digest is made in a thread, for it can take longer than some iterations.
            parts: what else shapes the result, by the name that is said where it has changed; see `digest`.

        Raises:
            OSError: the file is there and cannot be read.
        """
        processor = (torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()) if device.type == "cpu" else ()
        versions = [version(package) for package in ("torch", "timm")]
        parts |= {"code": _loaded_code(), "machine or versions": (device_name(device), *processor, *versions)}
        self._parts = {name: digest(part) for name, part in parts.items()}
        self._data = ThreadPoolExecutor(1).submit(digest, data)
        self._last = time.monotonic()
        try:
            header, _, pickled = self.path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        try:
            header = json.loads(header)
            belonged_to, whole = dict(header["belongs_to"]), header["digest"] == blake2b(pickled).hexdigest()
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            return self._ignored("it is damaged")
        if other := [name for name, part in self._belongs_to().items() if belonged_to.get(name) != part]:
            return self._ignored(f"it belongs to other {', '.join(other)}")
        return torch.load(io.BytesIO(pickled), map_location=device, weights_only=True)

    def due(self) -> bool:
        """Whether the time for the next one has come."""
        return time.monotonic() - self._last >= 60 * self.minutes

    def save(self, state: Mapping[str, Any]) -> bool:
        """Replace the file; after `load`. One that cannot be written says so and leaves the last one as it is.

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
            # `torch.save` raises RuntimeError in place of what its file raised.
            reason = str(error.__context__ or error) or "out of memory"
            say(f"{self.path}: checkpoint not written ({reason}): going on, and trying again later")
            return False
        finally:
            self._last = time.monotonic()
        return True

    def beside(self, name: str) -> Self:
        """The checkpoint of a part of this computation."""
        return type(self)(self.path.with_suffix(f".{name}{self.path.suffix}"), self.minutes)

    def remove(self) -> None:
        """Remove the file, as the computation has ended."""
        self.path.unlink(missing_ok=True)

    def _belongs_to(self) -> dict[str, str]:
        return self._parts | {"data": self._data.result()}

    def _ignored(self, reason: str) -> None:
        say(f"{self.path}: checkpoint ignored, as {reason}: starting anew")


def digest(part: object) -> str:
    """A digest of content: arrays, tensors, tables and files by their bytes, all else as `repr` has it.

    Args:
        part: dictionaries, lists, tuples and dataclasses are looked into; a path is a file, or a folder and all in it.
    """
    total = blake2b(digest_size=32)
    _add(total, part)
    return total.hexdigest()


def _add(total: blake2b, part: object) -> None:
    match part:
        case Tensor():
            content = np.ascontiguousarray(part.detach().cpu().numpy())
        case np.ndarray():
            content = np.ascontiguousarray(part)
        case pd.DataFrame():
            content = part.to_csv().encode()
        case Mapping():
            content = list(part.items())
        case Path() if part.is_dir():
            content = [(path.relative_to(part).parts, path) for path in sorted(part.rglob("*")) if path.is_file()]
        case Path():
            with part.open("rb") as file:
                content = file_digest(file, blake2b).digest()
        case DiskArray():
            content = (part.shape, part.path)
        case list() | tuple():
            content = part
        case _ if is_dataclass(part):
            content = [(field.name, getattr(part, field.name)) for field in fields(part)]
        case _:
            content = repr(part).encode()
    # Kind and length come first, so that no two contents run together into the same bytes.
    kind = (content.dtype.str, content.shape) if isinstance(content, np.ndarray) else len(content)
    total.update(repr((type(part).__name__, kind)).encode())
    if isinstance(content, list | tuple):
        for each in content:
            _add(total, each)
    else:
        total.update(content)


def _loaded_code() -> list[tuple[str, Path]]:
    """Every module of this package that the process has loaded, and its file."""
    package = __name__.partition(".")[0]
    loaded = [(name, module) for name, module in sys.modules.items() if name.partition(".")[0] == package]
    return sorted((name, Path(module.__file__)) for name, module in loaded)
