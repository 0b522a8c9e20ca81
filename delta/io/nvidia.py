"""Finding an NVIDIA GPU and its driver without PyTorch, for the case that PyTorch cannot use it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

_DEVICES = Path("/dev")
_DRIVER = Path("/proc/driver/nvidia/version")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_TIMEOUT = 20  # seconds for nvidia-smi, which may hang with a GPU that has failed


def has_gpu() -> bool:
    """Whether there is a GPU that is not hidden from this process.

    An empty `CUDA_VISIBLE_DEVICES`, which the cluster sets for stages without a GPU, hides all of them.
    """
    if os.environ.get(_VISIBLE, "0").strip() in ("", "-1"):
        return False
    # Under WSL, there is no /dev/nvidia0.
    return any(re.fullmatch(r"nvidia\d+", path.name) for path in _DEVICES.glob("nvidia*")) or bool(_ask("name"))


def driver_version() -> str | None:
    """The version of the installed driver, such as 535.183.01; None if it cannot be found out."""
    try:
        text = _DRIVER.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = _ask("driver_version")
    found = re.search(r"\b\d{2,}\.\d+(\.\d+)?\b", text)
    return found[0] if found else None


def _ask(question: str) -> str:
    """nvidia-smi's answer, one line a GPU; empty if it is not installed or fails."""
    command = ["nvidia-smi", f"--query-gpu={question}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
