"""Time to reproduce the embedded slice without a cache, by stage: one stage at a time, and one stage per core.

    python -m benchmarks.slice > benchmarks/slice.md        (40 minutes on 2 cores)

The last commit is cloned, and reproduced in the clone without cached results: by `dvc repro` with all cores for each
stage (`threads: null`), and by `cluster repro` with one core per stage (`threads: 1`).
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import pandas as pd

ALONE = ("dvc", "repro")
TOGETHER = (sys.executable, "-m", "cluster", "repro", "--address", "local")


def resident(folder: Path) -> int:
    """Bytes of anonymous memory of all stages that are running in a folder (Linux)."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"stages." in (process / "cmdline").read_bytes() and (process / "cwd").readlink() == folder:
                lines = (process / "status").read_text().splitlines()
                total += 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
        except (OSError, StopIteration):
            continue  # the process has ended
    return total


def reproduced(command: Sequence[str], threads: int | None) -> tuple[float, int, pd.DataFrame]:
    """Total seconds, peak memory in bytes of all running stages together, and the seconds of each stage."""
    with TemporaryDirectory() as folder:
        clone = Path(folder).resolve() / "clone"
        subprocess.run(["git", "clone", "--quiet", ".", clone], check=True)
        shutil.rmtree(clone / "reports")
        params = clone / "params.yaml"
        text, count = re.subn("(?m)^threads: .*", f"threads: {threads or 'null'}", params.read_text(encoding="utf-8"))
        assert count == 1
        params.write_text(text, encoding="utf-8")
        over, peaks = Event(), [0]

        def watch() -> None:
            while not over.wait(0.1):
                peaks.append(resident(clone))

        watcher = Thread(target=watch)
        watcher.start()
        started = time.perf_counter()
        try:
            subprocess.run(command, cwd=clone, check=True, stdout=sys.stderr)
        finally:
            over.set()
            watcher.join()
        whole = time.perf_counter() - started
        times = [json.loads(file.read_text()) for file in (clone / "data/wall_times").glob("*.json")]
        return whole, max(peaks), pd.DataFrame(times)


def write(title: str, at_once: int, whole: float, peak: int, times: pd.DataFrame) -> None:
    """Print a table of the stages; shares are relative to the total time of `at_once` parallel stages."""
    had = at_once * whole
    print(f"\n## {title}\n\n{whole / 60:.1f} minutes; the stages that run at once take up to {peak / 1e9:.2f} GB.\n")
    print("| stage | items | seconds | share |\n| --- | ---: | ---: | ---: |")
    stages = times.groupby("stage")["seconds"].agg(["size", "sum"]).sort_values("sum", ascending=False)
    for stage, items, seconds in stages.itertuples():
        print(f"| {stage} | {items:.0f} | {seconds:.0f} | {100 * seconds / had:.0f} % |")
    rest = had - stages["sum"].sum()
    print(f"| no stage: DVC, starting Python, waiting for others | | {rest:.0f} | {100 * rest / had:.0f} % |")


def main() -> None:
    cores = os.cpu_count() or 1
    print("# The embedded slice, from an empty cache\n")
    print(f"`python -m benchmarks.slice`, {cores} cores, Python {platform.python_version()}.")
    write("`dvc repro`, every core to each stage in turn", 1, *reproduced(ALONE, None))
    write("`cluster repro`, one core to a stage", cores, *reproduced(TOGETHER, 1))


if __name__ == "__main__":
    main()
