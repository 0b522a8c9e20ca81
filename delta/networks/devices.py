"""Devices, and bit-reproducible computation on them."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from delta.io.errors import UserError
from delta.io.nvidia import driver_version, has_gpu
from delta.io.signals import say

# cuBLAS is deterministic only with a workspace of fixed size, and reads its size once, at the first matrix product.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

_OLDEST_DRIVERS = {"12": "525", "13": "580"}  # by version of CUDA, from NVIDIA's "CUDA Compatibility"
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # constants of malloc.h


def pick_device(name: str) -> torch.device:
    """The device that a `device` parameter names: `auto` is CUDA if there is a GPU, else the CPU. It is also printed.

    Raises:
        UserError: not a device name, a CUDA device that this machine lacks, or a GPU that PyTorch cannot use.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UserError(f"device: {name!r} is none of auto, cpu, cuda and cuda:<number>")
    finds_gpu = name != "cpu" and _finds_gpu()
    if name == "auto":
        name = "cuda" if finds_gpu else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        if (device.index or 0) >= (count := torch.cuda.device_count()):
            raise UserError(f"device: {name} requested, but there are {count} CUDA devices: use auto")
        _check_computes(device)
    say(f"device: {device}" if device.type == "cpu" else f"device: {device}, {device_name(device)}")
    return device


def _finds_gpu() -> bool:
    """Whether PyTorch finds a GPU.

    Raises:
        UserError: it does not, although there is one: training would take days on the CPU.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = torch.cuda.is_available()
    if found or not has_gpu():
        for warning in caught:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        return found
    if torch.version.cuda is None:
        raise UserError(
            f"device: PyTorch {torch.__version__} is made for CPUs, and this machine has a GPU: install "
            "requirements.txt, or set `device: cpu`"
        )
    reason = f" ({str(caught[0].message).partition('. ')[0]})" if caught else ""
    oldest = _OLDEST_DRIVERS.get(torch.version.cuda.partition(".")[0])
    raise UserError(
        f"device: PyTorch cannot use this machine's GPU{reason}: its driver is {driver_version() or 'unknown'}, and "
        f"PyTorch {torch.__version__} needs CUDA {torch.version.cuda}{f', hence driver {oldest}' if oldest else ''}: "
        "update the driver, see that CUDA_VISIBLE_DEVICES names a GPU, or set `device: cpu`"
    )


def _check_computes(device: torch.device) -> None:
    """Compute something: PyTorch also finds GPUs that are older than its kernels, or that another process owns."""
    try:
        torch.ones(1, device=device).item()
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        which = f"{device}, {device_name(device)},"
        raise UserError(f"device: {which} cannot compute ({reason}): set `device` to another one") from None


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a `precision` that a GPU only emulates, which is slower than float32.

    Raises:
        UserError: bf16 on a GPU without bfloat16 arithmetic, which came with compute capability 8.0.
    """
    if precision != "bf16" or device.type != "cuda":
        return
    with torch.cuda.device(device):
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    if not supported:
        raise UserError(f"training.precision: {device_name(device)} only emulates bf16, slowly: set it to fp32")


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
def deterministic(only: bool = True) -> Iterator[None]:
    """Make PyTorch use deterministic algorithms only within the block, and restore the settings afterwards.

    Args:
        only: False allows all algorithms instead, for an operation that is deterministic anyway.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic  # a module with properties that its type does not declare
    filled = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(only)
    # Filling only helps to find reads of uninitialised memory: it changes no result and costs a tenth of the time.
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        settings.fill_uninitialized_memory = filled


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute convolutions and matrix products of float32 in float32 within the block, and restore the settings.

    By default, a GPU's convolutions round float32 to TF32, with 10 bits of mantissa instead of 23.
    """
    backends: Any = torch.backends  # whose types do not declare all of their properties
    settings = (backends.cudnn.conv, backends.cuda.matmul)
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's global generators (CPU and `device`) within the block, and restore their state afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
