"""`dvc repro` on a Ray cluster: a stage becomes a Ray task as soon as its upstream stages are done."""

from __future__ import annotations

import fcntl
import logging
import math
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import quote, unquote

import ray
from tqdm import tqdm

from cluster import supervisor, task
from cluster.project import Command, Project
from delta.io.errors import UserError

RETRIES = 5  # how many times Ray retries a stage whose node died
CANCEL_TIMEOUT = 20.0  # seconds to wait for cancelled commands to end
# Environment variables that commands inherit from the caller; the others are those of the node.
INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class StageResources:
    """The resources of a node that a running stage reserves.

    Attributes:
        cpus: for every stage.
        gpus: for stages that use a GPU.
    """

    cpus: int
    gpus: float

    @classmethod
    def for_nodes(cls, nodes: Iterable[dict[str, float]], cpus: int | None, gpus: float | None) -> StageResources:
        """Choose the resources per stage.

        Args:
            nodes: the resources of each node, with Ray's names.
            cpus: None for the CPUs of a node divided by the number of stages that its GPUs admit at a time; without
                GPUs, these are all CPUs, as under `dvc repro`.
            gpus: None for one if there are any.

        Raises:
            UserError: no node has these resources.
        """
        nodes = [node for node in nodes if node.get("CPU", 0) >= 1]
        if gpus is None:
            gpus = 1 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0
        usable = [node for node in nodes if node.get("GPU", 0) >= gpus]
        if cpus is None and usable:
            parallel = (math.floor(node["GPU"] / gpus) if gpus else 1 for node in usable)
            cpus = min(max(1, math.floor(node["CPU"] / number)) for node, number in zip(usable, parallel, strict=True))
        if cpus is None or not any(node["CPU"] >= cpus for node in usable):
            raise UserError(
                f"no node of the cluster has the resources for a stage ({_counted(cpus or 1, 'CPU')}, "
                f"{_counted(gpus, 'GPU')}): start such a node, or lower --cpus-per-run or --gpus-per-run"
            )
        return cls(cpus, gpus)


def connect(address: str) -> None:
    """Connect to the Ray cluster at an address; `local` starts one on this machine until the program ends.

    Raises:
        UserError: there is no cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    host, _, port = address.rpartition(":")
    try:
        if host:  # fail early, as Ray would retry for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, RuntimeError, ValueError) as error:
        cause = "" if isinstance(error, ConnectionError) else f" ({error})"
        raise UserError(
            f"no Ray cluster at --address {address}{cause}: start one with `ray start --head`, or use --address local"
        ) from None


class ClusterRun:
    """A run of the DAG on the connected cluster.

    Attributes:
        failed: the names of the stages that failed.
        skipped: of those that were not run because they depend on failed ones.
        ran: of those that ran successfully.
    """

    def __init__(self, project: Project, plan: dict[str, list[str]], resources: StageResources):
        """Prepare a run of the stages of `plan`, see `Project.plan`."""
        self._project = project
        self._resources = resources
        self._waiting = {name: {other for other in upstream if other in plan} for name, upstream in plan.items()}
        self._downstream: dict[str, list[str]] = {name: [] for name in plan}
        for name, upstream in self._waiting.items():
            for other in upstream:
                self._downstream[other].append(name)
        self._ready = deque(name for name, upstream in self._waiting.items() if not upstream)
        self._running: dict[str, ray.ObjectRef[dict[str, Any]]] = {}
        self._results: SimpleQueue[tuple[str, Future[dict[str, Any]]]] = SimpleQueue()
        self._nodes = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        self._nodes_checked = time.monotonic()
        ray.cloudpickle.register_pickle_by_value(task)  # so that nodes need not import this package
        self._task = ray.remote(task.run_command)
        self._supervisor = Path(supervisor.__file__).read_text(encoding="utf-8")
        self._bar = tqdm(total=len(plan), unit="stage", disable=None, leave=False)
        self._finished = 0
        self.failed: list[str] = []
        self.skipped: list[str] = []
        self.ran: list[str] = []

    def finish(self) -> None:
        """Run everything that is out of date; after an exception, kill the commands that are still running."""
        try:
            while self._ready or self._running:
                if self._ready:
                    self._start(self._ready.popleft())
                if self._running:
                    with suppress(Empty):
                        self._handle_result(*self._results.get(timeout=0 if self._ready else 1))
                if time.monotonic() > self._nodes_checked + 5:
                    self._report_node_changes()
            self._report_node_changes()
        finally:
            self._bar.close()
            self._cancel()

    def _start(self, name: str) -> None:
        try:
            command = self._project.prepare(name)
        except (UserError, OSError) as error:
            self._fail(name, str(error))
            return
        if isinstance(command, Command):
            self._submit(name, command)
        else:
            self._done(name, command)

    def _submit(self, name: str, command: Command) -> None:
        lock, log = self._file(name, ".lock"), self._file(name, ".log")
        lock.touch()
        log.write_bytes(b"")
        gpus = self._resources.gpus if command.uses_gpu else 0
        environment = {"OMP_NUM_THREADS": str(self._resources.cpus)}
        environment |= {key: os.environ[key] for key in INHERITED if key in os.environ} | command.environment
        if not gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        job = {
            "folder": command.folder,
            "commands": command.commands,
            "remove": command.outputs,
            "lock": str(lock),
            "log": str(log),
            "environment": environment,
        }
        options = {"num_cpus": self._resources.cpus, "num_gpus": gpus, "max_retries": RETRIES, "name": name}
        ref = self._task.options(**options).remote(job, self._supervisor)
        self._running[name] = ref
        ref.future().add_done_callback(lambda future: self._results.put((name, future)))

    def _handle_result(self, name: str, future: Future[dict[str, Any]]) -> None:
        """Record a stage whose task has ended."""
        try:
            result = future.result()
            where = f"{result['seconds']:.1f} s on {result['node']}" if "seconds" in result else f"on {result['node']}"
            if (attempts := self._attempts(name)) > 1:
                where += f" ({attempts} attempts, as a node died)"
            if "error" in result:
                raise UserError(f"{where}: {result['error']}")
            if code := result["exit_code"]:
                how = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
                raise UserError(f"{how}, {where}: {self._last_log_line(name)}")
            self._project.record(name)
        except (UserError, OSError) as error:
            self._fail(name, str(error))
        except ray.exceptions.RayError as error:
            self._fail(name, f"Ray gave up on it: {' '.join(str(error).split())[:300]}")
        else:
            self.ran.append(name)
            self._done(name, where)
        finally:
            del self._running[name]
            self._file(name, ".lock").unlink()

    def _done(self, name: str, how: str) -> None:
        """Report a finished stage, and queue the stages that it was the last to hold up."""
        self._report(f"{name}: {how}", stages=1)
        for other in self._downstream[name]:
            self._waiting[other].discard(name)
            if not self._waiting[other]:
                self._ready.append(other)

    def _fail(self, name: str, why: str) -> None:
        """Report a failed stage, and skip all stages that depend on it."""
        self.failed.append(name)
        queue, dependents = deque(self._downstream[name]), set()
        while queue:
            other = queue.popleft()
            if other not in dependents:
                dependents.add(other)
                queue.extend(self._downstream[other])
        skipped = dependents.difference(self.skipped)
        self.skipped.extend(skipped)
        self._report(f"{name}: failed, {why}", stages=1 + len(skipped))

    def _report_node_changes(self) -> None:
        """Report the nodes that have joined or left the cluster since the last call."""
        self._nodes_checked = time.monotonic()
        nodes = {node["NodeID"]: node for node in ray.nodes()}
        alive = {key for key, node in nodes.items() if node["Alive"]}
        for key in self._nodes ^ alive:
            what = "has joined the cluster" if key in alive else "is dead: Ray retries its stages on other nodes"
            self._report(f"node {nodes[key]['NodeManagerAddress']} {what}")
        self._nodes = alive

    def _report(self, text: str, stages: int = 0) -> None:
        """Print a line, after which this many more stages are finished."""
        self._finished += stages
        self._bar.update(stages)
        self._bar.set_postfix({"with Ray": len(self._running)}, refresh=False)
        self._bar.write(f"[{self._finished:{len(str(self._bar.total))}}/{self._bar.total}] {text}")
        sys.stdout.flush()

    def _attempts(self, name: str) -> int:
        """How many times Ray has started a stage, from its log."""
        return self._file(name, ".log").read_text(encoding="utf-8", errors="replace").count(f", {task.NODE} ")

    def _last_log_line(self, name: str) -> str:
        """The last line that a command printed, and the path of its log."""
        log = self._file(name, ".log")
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        printed = [line.strip() for line in lines if line.strip() and not line.startswith("# ")]
        return f"{printed[-1] if printed else 'no output'} (log: {os.path.relpath(log)})"

    def _file(self, name: str, suffix: str) -> Path:
        return self._project.scratch / f"{quote(name, safe='@')}{suffix}"

    def _cancel(self) -> None:
        """Cancel the running tasks, and wait for their commands to end."""
        for ref in self._running.values():
            ray.cancel(ref, force=True)
        deadline = time.monotonic() + CANCEL_TIMEOUT
        for name in self._running:
            lock = self._file(name, ".lock")
            while not _is_free(lock) and time.monotonic() < deadline:
                time.sleep(0.1)


def _is_free(lock: Path) -> bool:
    """Whether no running command holds a lock."""
    with lock.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def wait_for_leftover_commands(scratch: Path) -> None:
    """Wait for commands on any node that are left over from an earlier run whose program was killed."""
    scratch.mkdir(exist_ok=True)
    for lock in scratch.glob("*.lock"):
        if not _is_free(lock):
            print(f"{unquote(lock.stem)}: waiting for its command of an earlier run to end", flush=True)
            while not _is_free(lock):
                time.sleep(0.2)
        lock.unlink()


def _counted(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"


def repro(project: Project, plan: dict[str, list[str]], address: str, cpus: int | None, gpus: float | None) -> None:
    """Bring the stages of a plan up to date on the cluster, and report progress on standard output.

    Args:
        project: a locked project.
        plan: see `Project.plan`.
        address: see `connect`.
        cpus, gpus: see `StageResources.for_nodes`; without `cpus`, it is the parameter `threads`, if set.

    Raises:
        UserError: there is no cluster, or stages failed; all stages that do not depend on those are done.
    """
    cpus = cpus or project.threads
    wait_for_leftover_commands(project.scratch)
    connect(address)
    # Ray's own handler for SIGTERM exits without cancelling tasks.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        resources = StageResources.for_nodes(nodes, cpus, gpus)
        total = [_counted(sum(node.get(kind, 0) for node in nodes), kind) for kind in ("CPU", "GPU")]
        reserved = _counted(resources.cpus, "CPU")
        if resources.gpus:
            reserved += f", and {_counted(resources.gpus, 'GPU')} if dvc.yaml says that it uses one"
        print(f"{_counted(len(nodes), 'node')}, {', '.join(total)}; a stage reserves {reserved}", flush=True)
        run = ClusterRun(project, plan, resources)
        run.finish()
    finally:
        ray.shutdown()
    if run.failed:
        skipped = f"; not run, as they depend on these: {len(run.skipped)}" if run.skipped else ""
        raise UserError(f"{len(run.failed)} of {_counted(len(plan), 'stage')} failed: {', '.join(run.failed)}{skipped}")
    print(f"{_counted(len(plan), 'stage')} up to date, {len(run.ran)} of them run")
