"""How many CPU cores this process may use."""

from __future__ import annotations

import os

OMP_NUM_THREADS = "OMP_NUM_THREADS"


def available_cores() -> int:
    """The CPU cores that this process may run on, but no more than `OMP_NUM_THREADS`, if that is set.

    `OMP_NUM_THREADS` is how a process is told its share of a machine: the cluster sets it to a stage's CPUs.
    """
    # Not on macOS and Windows, which do not restrict a process to some cores.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = os.environ.get(OMP_NUM_THREADS, "").partition(",")[0].strip()  # a list is for nested parallel regions
    return min(cores, int(share)) if share.isdecimal() and int(share) else cores
