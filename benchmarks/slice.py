"""How long the embedded slice takes from an empty cache, stage by stage.

    python -m benchmarks.slice > benchmarks/slice.md        (as long as that)

The last commit is cloned and reproduced there, with no cache and nothing else in the way.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd


def main() -> None:
    with TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ".", clone], check=True)
        started = time.perf_counter()
        subprocess.run(["dvc", "repro"], cwd=clone, check=True, stdout=sys.stderr)
        whole = time.perf_counter() - started
        times = pd.DataFrame([json.loads(file.read_text()) for file in (clone / "data/wall_times").glob("*.json")])
    # Of all processes that have ended the largest one's peak.
    peak = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print("# The embedded slice, from an empty cache\n")
    print(f"`python -m benchmarks.slice`, {os.cpu_count()} cores, Python {platform.python_version()}.\n")
    print(f"{whole / 60:.1f} minutes; the largest process takes {peak / 1e9:.2f} GB.\n")
    print("| stage | items | seconds | share |\n| --- | ---: | ---: | ---: |")
    stages = times.groupby("stage")["seconds"].agg(["size", "sum"]).sort_values("sum", ascending=False)
    for stage, items, seconds in stages.itertuples():
        print(f"| {stage} | {items:.0f} | {seconds:.0f} | {100 * seconds / whole:.0f} % |")
    rest = whole - stages["sum"].sum()
    print(f"| between the stages: DVC and starting Python | | {rest:.0f} | {100 * rest / whole:.0f} % |")


if __name__ == "__main__":
    main()
