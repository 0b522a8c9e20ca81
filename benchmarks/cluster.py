"""Overhead and benefit of running the DAG on a cluster, in three parts.

    python -m benchmarks.cluster > benchmarks/cluster.md        (25 minutes on 2 cores)

    --part overhead            (2 minutes)
    --part busy                (20 minutes: 2,000 stages of 30 s on 64 simulated CPUs)
    --part paper               (2 minutes)

`overhead` is the time from the end of a stage's command to the start of the next one's, in a chain of stages with 20
dependencies each. `busy` is the utilisation of 64 CPUs by stages that only sleep, so that 64 of them fit on a machine:
their total sleep, divided by the time between the start of the first and the end of the last. `paper` simulates the
schedule of profiles/paper.yaml on GPUs: a stage takes its FLOPs divided by a rate (see benchmarks/cost.py), and stages
that do not compute take no time. For the speed of the embedded slice on a cluster, see benchmarks/slice.py.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.cost import SUSTAINED, Costs, spec_of
from cluster.project import open_project
from stages.common.params import load_params

ROOT = Path(__file__).parents[1]
PAPER = ROOT / "profiles/paper.yaml"
GPUS = (1, 8, 64)


def run(folder: Path, *command: str, **variables: str) -> float:
    """Run a command that must succeed, and return its seconds."""
    started = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"} | variables
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def cluster_repro(folder: Path, address: str, *options: str, **variables: str) -> float:
    command = (sys.executable, "-m", "cluster", "repro", "--address", address, *options)
    return run(folder, *command, **variables)


@contextlib.contextmanager
def ray_nodes(number: int, cpus: int) -> Iterator[str]:
    """The address of a Ray cluster on this machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus})
    for _ in range(number - 1):
        cluster.add_node(num_cpus=cpus)
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def make_project(folder: Path, stages: dict[str, dict], files: int) -> None:
    """Create a DVC project of stages that also depend on `files` files and log their start and end times."""
    folder.mkdir(parents=True)
    names = [f"file{number}" for number in range(files)]
    for name in names:
        (folder / name).write_text(name)
    (folder / "stamps").mkdir()
    stamp = "date +%s.%N >> stamps/{}"
    described = {
        name: {
            "cmd": f"{stamp.format(name)}; {stage['cmd']}; echo {name} > out.{name}; {stamp.format(name)}",
            "deps": [*names, *(f"out.{other}" for other in stage["upstream"])],
            "outs": [f"out.{name}"],
        }
        for name, stage in stages.items()
    }
    (folder / "dvc.yaml").write_text(json.dumps({"stages": described}))
    (folder / ".gitignore").write_text("/out.*\n/stamps/\n")
    for command in ("git init -q", "dvc init -q"):
        run(folder, *command.split())


def stamps(folder: Path) -> dict[str, list[float]]:
    """The start and end time of each command, in seconds."""
    return {file.name: [*map(float, file.read_text().split())] for file in (folder / "stamps").iterdir()}


def overhead(work: Path, length: int = 40) -> None:
    chain = {f"s{i}": {"cmd": "true", "upstream": [f"s{i - 1}"] if i else []} for i in range(length)}
    print(f"\n## Overhead\n\nA chain of {length} stages.\n\n| | median (s) | largest (s) |\n| --- | ---: | ---: |")
    for name in ("dvc repro", "cluster repro"):
        folder = work / name.split()[0]
        make_project(folder, chain, files=20)
        if name == "dvc repro":
            run(folder, "dvc", "repro")
        else:
            with ray_nodes(2, cpus=1) as address:
                cluster_repro(folder, address, "--cpus-per-run", "1")
        times = stamps(folder)
        gaps = [times[f"s{i}"][0] - times[f"s{i - 1}"][1] for i in range(1, length)]
        print(f"| `{name}` | {statistics.median(gaps):.2f} | {max(gaps):.2f} |", flush=True)


def busy(work: Path, groups: int = 100, nodes: int = 8, cpus: int = 8, seconds: int = 30) -> None:
    """Groups of 20 stages like this project's: two that prepare, 17 runs and one that collects their results."""
    stages: dict[str, list[str]] = {}
    for group in range(groups):
        stages[f"pack-{group}"] = []
        stages[f"attend-{group}"] = [f"pack-{group}"]
        stages |= {f"train-{group}-{i}": [f"pack-{group}", f"attend-{group}"] for i in range(17)}
        stages[f"gather-{group}"] = [f"train-{group}-{i}" for i in range(17)]
    make_project(work / "busy", {k: {"cmd": f"sleep {seconds}", "upstream": v} for k, v in stages.items()}, files=2)
    with ray_nodes(nodes, cpus) as address:
        whole = cluster_repro(work / "busy", address, "--cpus-per-run", "1")
    times, workers = stamps(work / "busy").values(), nodes * cpus
    spent = max(end for _, end in times) - min(start for start, _ in times)
    slept = len(stages) * seconds / workers
    print(f"\n## {len(stages):,} stages × {workers} workers\n\nCommands that sleep {seconds} s, {nodes} nodes.\n")
    print("| | seconds | workers busy |\n| --- | ---: | ---: |")
    print(f"| sleep, over {workers} workers | {slept:.0f} | |")
    print(f"| first command's start to last one's end | {spent:.0f} | {slept / spent:.1%} |")
    print(f"| the whole call | {whole:.0f} | {slept / whole:.1%} |")


def stage_hours(costs: Costs, names: list[str], rate: float) -> dict[str, float]:
    """GPU-hours of each stage at a rate in TFLOP/s; 0 for stages that compute little or nothing."""
    flops = dict.fromkeys(names, 0.0)
    for name in names:
        stage, _, item = name.partition("@")
        match stage, item.split("-"):
            case "train" | "train_exponential", [dataset, backbone, method, seed]:
                flops[name] = costs.training(dataset, backbone, method, int(seed))
            case "train_improved", [dataset, backbone, method, seed]:
                flops[name] = costs.training(dataset, backbone, method, int(seed), "improved")
            case "train_l2_fe", [dataset, backbone, seed]:
                flops[name] = costs.training(dataset, backbone, "l2_fe", int(seed))
            case "estimate_attention", [dataset, backbone, seed]:
                flops[name] = costs.attention(dataset, backbone, int(seed))
            case "cross_validate", [dataset, backbone, method, _]:
                flops[name] = costs.fold(dataset, backbone, method)
    return {name: number / rate / 1e12 / 3600 for name, number in flops.items()}


def schedule(plan: dict[str, list[str]], hours: dict[str, float], gpus: float) -> dict[str, float]:
    """The hour at which each stage ends, if stages that take time occupy a GPU and run first come, first served."""
    waiting = {name: set(upstream) for name, upstream in plan.items()}
    downstream = {name: [other for other in plan if name in waiting[other]] for name in plan}
    queue: deque[str] = deque()
    running: list[tuple[float, str]] = []
    ends: dict[str, float] = {}

    def may_run(name: str, now: float) -> None:
        if hours[name]:
            queue.append(name)
        else:
            end(name, now)

    def end(name: str, now: float) -> None:
        ends[name] = now
        for other in downstream[name]:
            waiting[other].discard(name)
            if not waiting[other]:
                may_run(other, now)

    for name in [name for name in plan if not plan[name]]:
        may_run(name, 0.0)
    now = 0.0
    while queue or running:
        while queue and len(running) < gpus:
            name = queue.popleft()
            heapq.heappush(running, (now + hours[name], name))
        now, name = heapq.heappop(running)
        end(name, now)
    return ends


def longest_chain(plan: dict[str, list[str]], hours: dict[str, float], ends: dict[str, float]) -> list[str]:
    """The critical path: the stages with a duration that the last stage waits for, directly or indirectly."""
    name, chain = max(ends, key=ends.__getitem__), []
    while True:
        if hours[name]:
            chain.append(f"{name} ({hours[name]:.1f} h)")
        if not plan[name]:
            return chain[::-1]
        name = max(plan[name], key=ends.__getitem__)


def paper(work: Path) -> None:
    folder = work / "paper"
    folder.mkdir()
    shutil.copy(ROOT / "dvc.yaml", folder)
    shutil.copy(PAPER, folder / "params.yaml")
    for command in ("git init -q", "dvc init -q"):
        run(folder, *command.split())
    with contextlib.chdir(folder), open_project(folder) as project:
        plan = project.plan([])
    params = load_params(PAPER)
    costs = Costs(params, {name: spec_of(view) for name, view in params.backbones.items()})
    print("\n## The paper's profile\n\nHours of wall time by GPUs, and the longest chain of stages.\n")
    print(f"| | {' | '.join(f'{gpus} GPU{chr(115) * (gpus > 1)}' for gpus in GPUS)} | any number |")
    print(f"| --- |{' ---: |' * (len(GPUS) + 1)}")
    for precision, rate in SUSTAINED.items():
        hours = stage_hours(costs, list(plan), rate)
        cells = [f"{max(schedule(plan, hours, gpus).values()):,.1f}" for gpus in (*GPUS, float("inf"))]
        print(f"| {precision} at {rate} TFLOP/s | {' | '.join(cells)} |")
    chain = longest_chain(plan, hours, schedule(plan, hours, float("inf")))
    print(f"\nThe longest chain, in {precision}: {', '.join(chain)}.")


def main() -> None:
    parts: dict[str, Callable[[Path], None]] = {"overhead": overhead, "busy": busy, "paper": paper}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=parts, action="append", help="may be repeated (default: all)")
    chosen = parser.parse_args().part or [*parts]
    options = "" if chosen == [*parts] else "".join(f" --part {part}" for part in chosen)
    print(f"# The DAG on a cluster\n\n`python -m benchmarks.cluster{options}`, {os.cpu_count()} cores.")
    for part in chosen:
        with TemporaryDirectory() as work:
            parts[part](Path(work))


if __name__ == "__main__":
    main()
