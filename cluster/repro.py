"""`dvc repro` on a Ray cluster: every stage whose upstream is done is a Ray task, and Ray does the rest."""

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
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from urllib.parse import quote, unquote

import ray
from tqdm import tqdm

from cluster import supervisor, task
from cluster.project import Command, Project
from delta.io.errors import UserError

RETRIES = 5  # how often Ray runs a stage again whose node died
PATIENCE = 20.0  # seconds for which cancelled commands are waited for
# Which programs a command finds and on how many threads they compute are the caller's choice, the rest is the node's.
CARRIED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Share:
    """What a stage holds of a node while it runs: CPUs, and GPUs if it computes."""

    cpus: int
    gpus: float

    @classmethod
    def of_nodes(cls, nodes: Iterable[dict[str, float]], cpus: int | None, gpus: float | None) -> Share:
        """`cpus` and `gpus`, or where they are None: a GPU if there is any, and an equal share of its node's CPUs.

        Without GPUs that is all CPUs of a node, as a stage has them under `dvc repro`.

        Args:
            nodes: each node's resources as Ray names them.

        Raises:
            UserError: no node has as much.
        """
        nodes = [node for node in nodes if node.get("CPU", 0) >= 1]
        if gpus is None:
            gpus = 1 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0
        able = [node for node in nodes if node.get("GPU", 0) >= gpus]
        if cpus is None and able:
            at_once = (math.floor(node["GPU"] / gpus) if gpus else 1 for node in able)
            cpus = min(max(1, math.floor(node["CPU"] / number)) for node, number in zip(able, at_once, strict=True))
        if not any(node["CPU"] >= cpus for node in able):
            raise UserError(
                f"no node of the cluster has what a stage is to hold ({_counted(cpus or 1, 'CPU')}, "
                f"{_counted(gpus, 'GPU')}): start such a node, or lower --cpus-per-run or --gpus-per-run"
            )
        return cls(cpus, gpus)


def connect(address: str) -> None:
    """Join the Ray cluster at this address; `local` starts one on this machine until the program ends.

    Raises:
        UserError: there is none.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options = {"include_dashboard": False} if address == "local" else {}
    host, _, port = address.rpartition(":")
    try:
        if host:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, RuntimeError, ValueError) as error:
        cause = "" if isinstance(error, ConnectionError) else f" ({' '.join(str(error).split())})"
        raise UserError(
            f"no Ray cluster to join at --address {address}{cause}: start one with `ray start --head`, "
            "or use --address local"
        ) from None


class Run:
    """One run of the DAG over the cluster that this program has joined."""

    def __init__(self, project: Project, plan: dict[str, list[str]], share: Share):
        self._project = project
        self._share = share
        self._waiting = {name: {other for other in upstream if other in plan} for name, upstream in plan.items()}
        self._downstream: dict[str, list[str]] = {name: [] for name in plan}
        for name, upstream in self._waiting.items():
            for other in upstream:
                self._downstream[other].append(name)
        self._ready = deque(name for name, upstream in self._waiting.items() if not upstream)
        self._running: dict[str, ray.ObjectRef] = {}
        self._answers: SimpleQueue = SimpleQueue()
        self._nodes = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        self._looked = time.monotonic()
        ray.cloudpickle.register_pickle_by_value(task)  # nodes need not find this package
        self._task = ray.remote(task.run_command)
        self._supervisor = Path(supervisor.__file__).read_text(encoding="utf-8")
        self._bar = tqdm(total=len(plan), unit="stage", disable=None, leave=False)
        self._said = 0
        self.failed: list[str] = []
        self.skipped: list[str] = []
        self.ran: list[str] = []

    def finish(self) -> None:
        """Run all that is out of date; what is left running when an exception ends this is killed."""
        try:
            while self._ready or self._running:
                if self._ready:
                    self._start(self._ready.popleft())
                if self._running:
                    with suppress(Empty):
                        self._take(*self._answers.get(timeout=0 if self._ready else 1))
                if time.monotonic() > self._looked + 5:
                    self._watch_nodes()
            self._watch_nodes()
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
        gpus = self._share.gpus if command.computes else 0
        environment = {"OMP_NUM_THREADS": str(self._share.cpus)}
        environment |= {key: os.environ[key] for key in CARRIED if key in os.environ} | command.environment
        if not gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        job = {
            "folder": command.folder,
            "commands": command.commands,
            "remove": command.removed,
            "lock": str(lock),
            "log": str(log),
            "environment": environment,
        }
        options = {"num_cpus": self._share.cpus, "num_gpus": gpus, "max_retries": RETRIES, "name": name}
        ref = self._task.options(**options).remote(job, self._supervisor)
        self._running[name] = ref
        ref.future().add_done_callback(lambda future: self._answers.put((name, future)))

    def _take(self, name: str, future) -> None:
        """Record a stage whose task has ended."""
        try:
            answer = future.result()
            where = f"{answer['seconds']:.1f} s on {answer['node']}" if "seconds" in answer else f"on {answer['node']}"
            if (times := self._times_begun(name)) > 1:
                where += f" (begun {times} times, as a node has died)"
            if "error" in answer:
                raise UserError(f"{where}: {answer['error']}")
            if code := answer["exit_code"]:
                how = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
                raise UserError(f"{how}, {where}: {self._last_words(name)}")
            self._project.record(name)
        except (UserError, OSError) as error:
            self._fail(name, str(error))
        except ray.exceptions.RayError as error:
            self._fail(name, f"Ray has given it up: {' '.join(str(error).split())[:300]}")
        else:
            self.ran.append(name)
            self._done(name, where)
        finally:
            del self._running[name]
            self._file(name, ".lock").unlink()

    def _done(self, name: str, how: str) -> None:
        self._say(f"{name}: {how}", stages=1)
        for other in self._downstream[name]:
            self._waiting[other].discard(name)
            if not self._waiting[other]:
                self._ready.append(other)

    def _fail(self, name: str, why: str) -> None:
        self.failed.append(name)
        below, found = deque(self._downstream[name]), set()
        while below:
            other = below.popleft()
            if other not in found:
                found.add(other)
                below.extend(self._downstream[other])
        skipped = found.difference(self.skipped)
        self.skipped.extend(skipped)
        self._say(f"{name}: failed, {why}", stages=1 + len(skipped))

    def _watch_nodes(self) -> None:
        """Say which nodes have come or gone since it was last called."""
        self._looked = time.monotonic()
        nodes = {node["NodeID"]: node for node in ray.nodes()}
        alive = {key for key, node in nodes.items() if node["Alive"]}
        for key in self._nodes ^ alive:
            what = "joins the cluster" if key in alive else "has gone: Ray runs its stages again on another"
            self._say(f"node {nodes[key]['NodeManagerAddress']} {what}")
        self._nodes = alive

    def _say(self, what: str, stages: int = 0) -> None:
        self._said += stages
        self._bar.update(stages)
        self._bar.set_postfix({"with Ray": len(self._running)}, refresh=False)
        self._bar.write(f"[{self._said:{len(str(self._bar.total))}}/{self._bar.total}] {what}")
        sys.stdout.flush()

    def _times_begun(self, name: str) -> int:
        return self._file(name, ".log").read_text(encoding="utf-8", errors="replace").count(f", {task.NODE} ")

    def _last_words(self, name: str) -> str:
        log = self._file(name, ".log")
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip() and not line.startswith("# ")]
        return f"{said[-1] if said else 'it said nothing'} (log: {os.path.relpath(log)})"

    def _file(self, name: str, suffix: str) -> Path:
        return self._project.scratch / f"{quote(name, safe='@')}{suffix}"

    def _cancel(self) -> None:
        for ref in self._running.values():
            ray.cancel(ref, force=True)
        deadline = time.monotonic() + PATIENCE
        for name in self._running:
            lock = self._file(name, ".lock")
            while not _is_free(lock) and time.monotonic() < deadline:
                time.sleep(0.1)


def _is_free(lock: Path) -> bool:
    """Whether no command runs that holds this lock."""
    with lock.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def settle(scratch: Path) -> None:
    """Wait until no command of an earlier run, whose program was killed, is left running on any node."""
    scratch.mkdir(exist_ok=True)
    for lock in scratch.glob("*.lock"):
        if not _is_free(lock):
            print(
                f"{unquote(lock.stem)}: waiting for the end of its command, left running by an earlier call", flush=True
            )
            while not _is_free(lock):
                time.sleep(0.2)
        lock.unlink()


def _counted(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"


def repro(project: Project, targets: Sequence[str], address: str, cpus: int | None, gpus: float | None) -> None:
    """Bring the targets up to date on the cluster; what is done is said on standard output.

    Raises:
        UserError: there is no cluster, or stages have failed; whatever does not depend on those has been done.
    """
    plan = project.plan(targets)
    cpus = cpus or project.threads
    settle(project.scratch)
    connect(address)
    # Ray's own handler for SIGTERM leaves the program without cancelling anything.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        share = Share.of_nodes(nodes, cpus, gpus)
        total = [_counted(sum(node.get(kind, 0) for node in nodes), kind) for kind in ("CPU", "GPU")]
        holds = _counted(share.cpus, "CPU")
        if share.gpus:
            holds += f", and {_counted(share.gpus, 'GPU')} if dvc.yaml says that it uses one"
        print(f"{_counted(len(nodes), 'node')}, {', '.join(total)}; a stage holds {holds}", flush=True)
        run = Run(project, plan, share)
        run.finish()
    finally:
        ray.shutdown()
    if run.failed:
        skipped = f"; not run, as they depend on these: {len(run.skipped)}" if run.skipped else ""
        raise UserError(f"{len(run.failed)} of {_counted(len(plan), 'stage')} failed: {', '.join(run.failed)}{skipped}")
    print(f"{_counted(len(plan), 'stage')} up to date, {len(run.ran)} of them run")
