"""Where tensors live, and arithmetic that gives the same bits twice."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from delta.io.errors import UserError

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def pick_device(name: str) -> torch.device:
    """The device of a `device` parameter: `auto` is CUDA where there is one, else the CPU.

    Raises:
        UserError: no such device, or a CUDA device that this machine lacks.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UserError(f"device: {name!r} is none of auto, cpu, cuda and cuda:<number>")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device: {name} asked for, but there are {torch.cuda.device_count()} CUDA devices: use auto")
    return device


def device_name(device: torch.device) -> str:
    """What a device is called, for a report: `cpu`, or the GPU's product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on a device; to a GPU it goes from pinned memory, without the CPU waiting for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def keep_freed_memory() -> None:
    """From here on this process keeps the memory that its CPU tensors free, where the C library is glibc.

    Training takes the same large tensors and frees them again in every iteration. Given back to the system each time,
    their pages have to be zeroed each time: up to a fifth of an iteration. Results stay the same, peak memory grows by
    1 to 6 %.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)


@contextmanager
def deterministic() -> Iterator[None]:
    """While the block lasts, PyTorch uses deterministic algorithms only; what was set before is restored."""
    before, workspace = torch.are_deterministic_algorithms_enabled(), os.environ.get(CUBLAS_WORKSPACE)
    filled = torch.utils.deterministic.fill_uninitialized_memory
    # cuBLAS is deterministic only with a workspace of fixed size.
    os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True)
    # A help in finding reads of uninitialised memory; it changes no result and takes a tenth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled
        if workspace is None:
            del os.environ[CUBLAS_WORKSPACE]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """While the block lasts, PyTorch's own generators start from `seed`; then they are as they were before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
