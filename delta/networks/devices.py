"""Devices, and bit-reproducible computation on them."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from delta.io.errors import UserError

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # constants of malloc.h


def pick_device(name: str) -> torch.device:
    """The device that a `device` parameter names: `auto` is CUDA if available, else the CPU.

    Raises:
        UserError: not a device name, or a CUDA device that this machine lacks.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UserError(f"device: {name!r} is none of auto, cpu, cuda and cuda:<number>")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device: {name} requested, but there are {torch.cuda.device_count()} CUDA devices: use auto")
    return device


def device_name(device: torch.device) -> str:
    """A device's name for reports: `cpu`, or the GPU's product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to a device; to a GPU asynchronously, through pinned memory."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def keep_freed_memory() -> None:
    """Make this process keep freed CPU memory instead of returning it to the system (glibc only).

    Training allocates and frees the same large tensors in every iteration. If their pages are returned to the system,
    it has to zero them again at each allocation: up to a fifth of an iteration. Results are unchanged, peak memory
    grows by 1 to 6 %.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)


@contextmanager
def deterministic() -> Iterator[None]:
    """Make PyTorch use deterministic algorithms only within the block, and restore the settings afterwards."""
    before, workspace = torch.are_deterministic_algorithms_enabled(), os.environ.get(CUBLAS_WORKSPACE)
    settings: Any = torch.utils.deterministic  # a module with properties that its type does not declare
    filled = settings.fill_uninitialized_memory
    # cuBLAS is deterministic only with a workspace of fixed size.
    os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Filling only helps to find reads of uninitialised memory: it changes no result and costs a tenth of the time.
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        settings.fill_uninitialized_memory = filled
        if workspace is None:
            del os.environ[CUBLAS_WORKSPACE]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's global generators (CPU and `device`) within the block, and restore their state afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
