"""`cluster repro` compared with `dvc repro`: which stages run, where they run, and the state of the workspace."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.project import RESTORED, UNCHANGED, VERIFIED, Command, Project, open_project
from delta.io.errors import UserError
from tests.helpers.clone import ROOT, Clone
from tests.helpers.small_slice import SMALL, outputs

SUPERVISOR = (ROOT / "cluster/supervisor.py").read_text(encoding="utf-8")

# All kinds of stages and outputs that this project has, and other kinds that DVC supports.
DAG = """
stages:
  page:
    cmd: cat reports/tables/all.csv source > reports/page.html
    deps: [reports/tables/all.csv, source]
    outs: [reports/page.html: {cache: false}]
  tables:
    cmd:
      - mkdir -p reports/tables
      - cat runs/*/*/weights > reports/tables/all.csv
      - echo "{\\"lines\\":" $(wc -l < reports/tables/all.csv) "}" > reports/metrics.json
    deps: [runs]
    metrics: [reports/metrics.json: {cache: false}]
    plots: [reports/tables/all.csv]
  train:
    matrix: {method: "${methods}", seed: [0, 1]}
    cmd: >-
      mkdir -p runs/${item.method}/${item.seed} &&
      cat data/packed/${item.method} params.yaml > runs/${item.method}/${item.seed}/weights &&
      echo an argument that makes this command longer than a line of dvc.lock, which DVC wraps
    deps: ["data/packed/${item.method}"]
    params: ["${item.method}"]
    outs: ["runs/${item.method}/${item.seed}"]
  pack:
    foreach: ${methods}
    do:
      cmd: mkdir -p data/packed && cp source data/packed/${item}
      deps: [source]
      outs: ["data/packed/${item}"]
  counted:
    cmd: echo again >> counted
    deps: [source]
    outs: [counted: {persist: true}]
  kept:
    frozen: true
    cmd: exit 1
    deps: [source]
    outs: [kept]
"""
PARAMS = "methods: [l2, delta]\nl2: {alpha: 1}\ndelta: {alpha: 1, scale: [1, 2]}\n"
TRAINED = {f"train@{method}-{seed}" for method in ("l2", "delta") for seed in (0, 1)}
ALL = {"page", "tables", "counted", "pack@l2", "pack@delta"} | TRAINED


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    """A DVC project without stages, committed."""
    clone = Clone(tmp_path_factory.mktemp("empty") / "project")
    clone.root.mkdir()
    (clone.root / "params.yaml").write_text(PARAMS)
    (clone.root / "source").write_text("abc\n")
    # As in this project. Otherwise DVC lists outputs there in the order in which they are recorded.
    (clone.root / ".gitignore").write_text("/data/\n/runs/\n/out/\n/reports/tables/\n")
    clone.run("git", "init", "-q")
    clone.run("dvc", "init", "-q")
    clone.run("dvc", "config", "core.analytics", "false")
    clone.run("dvc", "add", "-q", "source")
    clone.commit()
    (clone.root / "kept").write_text("by hand\n")
    return clone.root


@pytest.fixture
def make(empty, tmp_path, monkeypatch) -> Callable[..., Clone]:
    """A function that makes a DVC project with a DAG of which no stage has run."""

    def make(name: str, dag: str) -> Clone:
        clone = Clone(tmp_path / name)
        clone.env |= {"PYTHONPATH": str(ROOT)}
        monkeypatch.setenv("DVC_SITE_CACHE_DIR", clone.env["DVC_SITE_CACHE_DIR"])
        shutil.copytree(empty, clone.root)
        (clone.root / "dvc.yaml").write_text(dag)
        return clone

    return make


@pytest.fixture
def project(make, monkeypatch) -> Clone:
    clone = make("project", DAG)
    monkeypatch.chdir(clone.root)
    return clone


def run_backwards(project: Project, *targets: str) -> dict[str, str]:
    """Run what is out of date, always the last stage that is ready; return the outcome of each stage."""
    left, outcomes = project.plan(targets), {}
    while left:
        name = [name for name, upstream in left.items() if not set(upstream) & set(left)][-1]
        outcome = project.prepare(name)
        if isinstance(outcome, Command):
            for arguments in outcome.commands:
                subprocess.run(arguments, cwd=outcome.folder, env=os.environ | outcome.environment, check=True)
            project.record(name)
            outcome = "run"
        outcomes[name] = outcome
        del left[name]
    return outcomes


def stages_with_outcome(outcomes: dict[str, str], outcome: str) -> set[str]:
    return {name for name, what in outcomes.items() if what == outcome}


def is_up_to_date_for_dvc(clone: Clone) -> bool:
    clean = clone.run("dvc", "status").startswith("Data and pipelines are up to date.")
    return clean and clone.stages_run("repro") == set()


def test_stages_are_recorded_as_dvc_records_them(project, make):
    serial = make("serial", DAG)
    assert serial.stages_run("repro") == ALL
    with open_project(project.root) as stages:
        outcomes = run_backwards(stages)
    assert outcomes == dict.fromkeys(ALL, "run") | {"kept": VERIFIED, "source.dvc": UNCHANGED}
    assert project.read("dvc.lock") == serial.read("dvc.lock")
    assert is_up_to_date_for_dvc(project)
    assert project.run("git", "status", "--porcelain") == serial.run("git", "status", "--porcelain")


def test_only_what_is_out_of_date_is_run(project, make):
    serial = make("serial", DAG)
    serial.run("dvc", "repro", "-q")
    project.run("dvc", "repro", "-q")
    changed = PARAMS.replace("l2: {alpha: 1}", "l2: {alpha: 2}")
    downstream = {"train@l2-0", "train@l2-1", "tables", "page"}
    for clone in (serial, project):
        (clone.root / "params.yaml").write_text(changed)
    assert serial.stages_run("repro") == downstream
    with open_project(project.root) as stages:
        assert stages_with_outcome(run_backwards(stages), "run") == downstream
    assert project.read("dvc.lock") == serial.read("dvc.lock")
    (project.root / "params.yaml").write_text(PARAMS)
    with open_project(project.root) as stages:
        outcomes = run_backwards(stages)
    assert stages_with_outcome(outcomes, RESTORED) == {"train@l2-0", "train@l2-1", "tables"}
    assert is_up_to_date_for_dvc(project)


def test_unchanged_outputs_do_not_run_dependent_stages(project):
    project.run("dvc", "repro", "-q")
    dag = (project.root / "dvc.yaml").read_text().replace("mkdir -p data/packed", "mkdir -p ./data/packed")
    (project.root / "dvc.yaml").write_text(dag)
    with open_project(project.root) as stages:
        assert stages_with_outcome(run_backwards(stages), "run") == {"pack@l2", "pack@delta"}


def test_targets_mean_the_same_as_in_dvc(project):
    with open_project(project.root) as stages:
        assert set(stages.plan(["train@l2-0"])) == {"source.dvc", "pack@l2", "train@l2-0"}
        assert set(stages.plan(["train"])) == TRAINED | {"source.dvc", "pack@l2", "pack@delta"}
        with pytest.raises(UserError, match="nowhere"):
            stages.plan(["nowhere"])


def test_targets_can_be_patterns(project):
    deltas = {"train@delta-0", "train@delta-1"}
    with open_project(project.root) as stages:
        assert set(stages.plan(["train@l2-*"], glob=True)) == {"source.dvc", "pack@l2", "train@l2-0", "train@l2-1"}
        assert set(stages.plan(["*@delta*"], glob=True)) == {"source.dvc", "pack@delta"} | deltas


def test_a_pattern_of_no_stage_runs_nothing(project):
    with (
        open_project(project.root) as stages,
        pytest.raises(UserError, match=r"no stage is called \*@fish\*: `dvc stage"),
    ):
        stages.plan(["*@fish*"], glob=True)


@pytest.mark.parametrize("methods", ["3", "null", "[{a: 1}]"])
def test_parameters_that_dvc_cannot_resolve_are_one_line(project, methods):
    (project.root / "params.yaml").write_text(f"methods: {methods}\n")
    message = r"^params.yaml or dvc.yaml cannot be resolved \(.+\): run `python -m stages.check_params`, which names"
    with open_project(project.root) as stages, pytest.raises(UserError, match=message):
        stages.plan([])


def test_the_threads_are_those_of_the_stages(project):
    with open_project(project.root) as stages:
        assert stages.threads is None
        for text, threads in (("3", 3), ("0o17", 15), ("null", None), ("-1", None)):
            (project.root / "params.yaml").write_text(f"{PARAMS}threads: {text}\n")
            assert stages.threads == threads


def test_a_missing_output_is_an_error(project):
    with open_project(project.root) as stages:
        stages.plan(["pack@l2"])
        assert stages.prepare("source.dvc") == UNCHANGED
        assert isinstance(stages.prepare("pack@l2"), Command)
        with pytest.raises(UserError, match="data/packed/l2"):
            stages.record("pack@l2")


def test_dvc_is_locked_during_a_run(project):
    with open_project(project.root):
        assert "Unable to acquire lock" in project.call("dvc", "repro").stderr


def test_a_running_repro_is_an_error_that_names_it(make, monkeypatch):
    dag = {"stages": {"slow": {"cmd": "touch started && sleep 30", "deps": ["source"], "outs": ["out"]}}}
    clone = make("slow", json.dumps(dag))
    monkeypatch.chdir(clone.root)
    with subprocess.Popen(["dvc", "repro", "-q"], cwd=clone.root, env=clone.env, start_new_session=True) as dvc:
        wait_until((clone.root / "started").exists)
        message = rf"^another DVC .*PID {dvc.pid}.*: wait until it has finished$"
        with pytest.raises(UserError, match=message), open_project(clone.root):
            pass
        os.killpg(dvc.pid, signal.SIGKILL)


def call(clone: Clone, *options: str) -> subprocess.CompletedProcess:
    return clone.call(sys.executable, "-m", "cluster", "repro", *options)


def error_line(done: subprocess.CompletedProcess) -> str:
    """The message of a call that must fail with exactly one line."""
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (1, 1), done.stderr
    return lines[0]


def test_a_missing_ray_is_an_error(project, tmp_path):
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError('No module named ray', name='ray')")
    project.env["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
    assert error_line(call(project)) == "error: Ray is not installed: pip install -r requirements.txt"


@pytest.mark.parametrize("options", [["--cpus-per-run", "0"], ["--gpus-per-run", "-1"], ["--address"]])
def test_wrong_options_are_reported(make, options):
    done = call(make("project", "{}"), *options)
    assert done.returncode == 2
    assert f"argument {options[0]}" in done.stderr
    assert "Traceback" not in done.stderr


# The supervisor process of a command


@pytest.fixture
def job(tmp_path) -> dict:
    for name in ("lock", "log"):
        (tmp_path / name).touch()
    return {"folder": str(tmp_path), "lock": str(tmp_path / "lock"), "log": str(tmp_path / "log"), "remove": []}


class Supervised:
    """A command under a supervisor. `close` cancels it, as the death of a worker does."""

    def __init__(self, job: dict, *commands: str):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        job = job | {"commands": [["/bin/sh", "-c", command] for command in commands]}
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.stdin.close()

    def answer(self) -> dict:
        with self.process:
            return json.loads(self.process.stdout.readline() or "{}")


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_commands_run_until_one_fails(job, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old/file").touch()
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "target").touch()
    job["remove"] = [str(tmp_path / name) for name in ("old", "link", "never")]
    assert Supervised(job, "ls", "echo no >&2; exit 3", "echo never").answer() == {"exit_code": 3}
    assert (tmp_path / "log").read_text().split() == ["lock", "log", "target", "no"]
    assert Supervised(job, "kill -9 $$").answer() == {"exit_code": -9}
    assert Supervised(job, "true", "true").answer() == {"exit_code": 0}
    job["folder"] = str(tmp_path / "nowhere")
    assert "nowhere" in Supervised(job, "true").answer()["error"]


def test_a_cancelled_command_is_killed_with_all_its_processes(job, tmp_path):
    supervised = Supervised(job, "(trap '' TERM; echo $$ > child; sleep 100) & sleep 100")
    wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip() != "")
    supervised.close()
    assert supervised.answer() == {}
    wait_until(lambda: not is_alive(int((tmp_path / "child").read_text())))


def test_a_second_run_waits_until_the_first_is_dead(job, tmp_path):
    beat = "while true; do echo $$ >> beats; sleep 0.05; done"
    first = Supervised(job, beat)
    wait_until((tmp_path / "beats").exists)
    second = Supervised(job, beat)
    time.sleep(0.5)
    assert len(set((tmp_path / "beats").read_text().split())) == 1
    first.close()
    wait_until(lambda: len(set((tmp_path / "beats").read_text().split())) == 2)
    second.close()
    assert second.answer() == {}
    assert_one_at_a_time(tmp_path / "beats")


def assert_one_at_a_time(beats: Path, runs: int | None = None) -> None:
    """Assert that the lines of different processes are not interleaved."""
    pids = beats.read_text().split()
    turns = [pid for number, pid in enumerate(pids) if number == 0 or pids[number - 1] != pid]
    assert len(turns) == len(set(turns)), turns
    assert runs in (None, len(turns))


# Tests with Ray


@pytest.fixture
def share_of_nodes():
    require_ray()
    from cluster.repro import StageResources

    return StageResources.for_nodes


def require_ray() -> None:
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError:
        pytest.skip("Ray is not installed: pip install -r requirements.txt to test the DAG on a cluster")


SIXTEEN_CPUS, EIGHT_GPUS = {"CPU": 16.0, "memory": 1e9}, {"CPU": 60.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("nodes", "asked", "held"),
    [
        ([SIXTEEN_CPUS], (None, None), (16, 0)),
        ([SIXTEEN_CPUS, {"CPU": 4.0}, {}], (None, None), (4, 0)),
        ([SIXTEEN_CPUS], (3, None), (3, 0)),
        ([EIGHT_GPUS], (None, None), (7, 1)),
        ([EIGHT_GPUS, {"CPU": 2.0}], (None, 0.5), (3, 0.5)),
        ([EIGHT_GPUS], (None, 0), (60, 0)),
        ([{"CPU": 2.0, "GPU": 4.0}], (None, None), (1, 1)),
    ],
)
def test_cpus_and_gpus_of_a_stage(share_of_nodes, nodes, asked, held):
    share = share_of_nodes(nodes, *asked)
    assert (share.cpus, share.gpus) == held


@pytest.mark.parametrize("asked", [(17, None), (None, 1), (1, 0.5)])
def test_asking_for_more_than_any_node_has_is_an_error(share_of_nodes, asked):
    with pytest.raises(UserError, match="no node of the cluster has the resources for a stage"):
        share_of_nodes([SIXTEEN_CPUS], *asked)


@pytest.fixture(scope="module")
def cluster():
    """Two Ray nodes on this machine, each with one CPU and one simulated GPU."""
    require_ray()
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1})
        cluster.add_node(num_cpus=1, num_gpus=1)
        yield cluster
        cluster.shutdown()


def dag(**stages: dict) -> str:
    """A DAG whose stages write `out/<name>` and by default depend on `source`."""
    described = {
        name: {"deps": ["source"], "outs": [f"out/{name}"]} | stage | {"cmd": f"mkdir -p out && {stage['cmd']}"}
        for name, stage in stages.items()
    }
    return json.dumps({"stages": described})


HEARTBEATS = "for i in $(seq 40); do echo $$ >> beats.{0}; sleep 0.1; done; echo done > out/{0}"


def nodes_of(clone: Clone, stage: str) -> list[str]:
    """The Ray nodes that ran a stage, in order."""
    return re.findall("Ray's node (\\w+)", clone.read(f".dvc/tmp/cluster/{stage}.log"))


def test_an_unreachable_cluster_is_an_error(project):
    require_ray()
    assert "error: no Ray cluster at --address 127.0.0.1:1" in error_line(call(project, "--address", "127.0.0.1:1"))


@pytest.mark.slice
def test_independent_stages_run_in_parallel_on_both_nodes(cluster, make):
    waits = "touch here.{0}; while [ ! -e here.{1} ]; do sleep 0.1; done; echo {0} > out/{0}"
    text = dag(
        a={"cmd": waits.format("a", "b")},
        b={"cmd": waits.format("b", "a")},
        c={"cmd": "cat out/a out/b > out/c", "deps": ["out/a", "out/b"]},
    )
    clone, serial = make("project", text), make("serial", text)
    for name in "ab":
        (serial.root / f"here.{name}").touch()
    serial.run("dvc", "repro", "-q")
    done = call(clone, "--address", cluster.address)
    assert done.returncode == 0, done.stderr
    assert "4 stages up to date, 3 of them run" in done.stdout
    assert {*nodes_of(clone, "a"), *nodes_of(clone, "b")} == {node["NodeID"] for node in alive(cluster)}
    assert clone.read("dvc.lock") == serial.read("dvc.lock")
    assert clone.read("out/c") == "a\nb\n"
    assert is_up_to_date_for_dvc(clone)
    assert "4 stages up to date, 0 of them run" in call(clone, "--address", cluster.address).stdout


def alive(cluster) -> list[dict]:
    return [node for node in cluster.global_state.node_table() if node["Alive"]]


@pytest.mark.slice
def test_a_failure_stops_only_dependent_stages(cluster, make):
    clone = make(
        "project",
        dag(
            bad={"cmd": "echo 'error: no such luck'; exit 4"},
            below={"cmd": "echo below > out/below", "deps": ["out/bad"]},
            further={"cmd": "echo further > out/further", "deps": ["out/below", "out/good"]},
            good={"cmd": "echo good > out/good"},
            after={"cmd": "echo after > out/after", "deps": ["out/good"]},
        ),
    )
    done = call(clone, "--address", cluster.address)
    assert error_line(done) == "error: 1 of 6 stages failed: bad; not run, as they depend on these: 2"
    assert re.search(
        r"bad: failed, exit code 4, .*: error: no such luck \(log: \.dvc/tmp/cluster/bad\.log\)", done.stdout
    )
    assert {path.name for path in (clone.root / "out").iterdir()} == {"good", "after"}
    assert "Traceback" not in done.stdout
    clone.run("dvc", "status", "good", "after")
    assert clone.stages_run("repro", "after") == set()


@pytest.mark.slice
def test_commands_see_only_their_cpus_and_gpus(cluster, make):
    tell = 'echo "$OMP_NUM_THREADS [$CUDA_VISIBLE_DEVICES] $DVC_STAGE $SOME_NUMBER" > out/{0}'
    text = dag(
        computes={"cmd": tell.format("computes"), "meta": {"uses_gpu": True}},
        counts={"cmd": tell.format("counts")},
    )
    clone = make("project", text)
    assert call(clone, "--address", cluster.address).returncode == 0
    assert re.fullmatch(r"1 \[\d\] computes \n", clone.read("out/computes"))
    assert clone.read("out/counts") == "1 [] counts \n"
    clone.env["OMP_NUM_THREADS"] = "2"
    (clone.root / "source").write_text("changed\n")
    assert call(clone, "--address", cluster.address, "--gpus-per-run", "0").returncode == 0
    assert clone.read("out/computes") == "2 [] computes \n"


@pytest.mark.slice
def test_a_stage_whose_node_dies_is_run_again(cluster, make):
    node = cluster.add_node(num_cpus=1)
    clone = make("project", dag(**{name: {"cmd": HEARTBEATS.format(name)} for name in "abc"}))
    with started(clone, cluster) as driver:
        wait_until(lambda: all((clone.root / f"beats.{name}").exists() for name in "abc"))
        (struck,) = (name for name in "abc" if nodes_of(clone, name) == [node.node_id])
        cluster.remove_node(node, allow_graceful=False)
        said, _ = driver.communicate()
    assert driver.returncode == 0, said
    assert re.search(rf"{struck}: .* \(2 attempts, as a node died\)", said)
    assert len(nodes_of(clone, struck)) == 2
    for name in "abc":
        assert_one_at_a_time(clone.root / f"beats.{name}", runs=2 if name == struck else 1)
    assert is_up_to_date_for_dvc(clone)


def started(clone: Clone, cluster) -> subprocess.Popen:
    command = [sys.executable, "-m", "cluster", "repro", "--address", cluster.address]
    return subprocess.Popen(
        command, cwd=clone.root, env=clone.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


TWO = {"quick": {"cmd": "echo $$ >> ran; echo quick > out/quick"}, "slow": {"cmd": HEARTBEATS.format("slow")}}


@pytest.fixture
def half_done(cluster, make):
    """A run whose first stage is recorded and whose second stage is running."""
    clone = make("project", dag(**TWO))
    with started(clone, cluster) as driver:
        wait_until(lambda: (clone.root / "dvc.lock").exists() and (clone.root / "beats.slow").exists())
        yield clone, driver


def assert_resumes(clone: Clone, cluster) -> None:
    done = call(clone, "--address", cluster.address)
    assert done.returncode == 0, done.stderr
    assert "3 stages up to date, 1 of them run" in done.stdout
    assert len(clone.read("ran").split()) == 1
    assert_one_at_a_time(clone.root / "beats.slow", runs=2)
    assert is_up_to_date_for_dvc(clone)


@pytest.mark.slice
def test_a_second_call_resumes_a_killed_one(cluster, half_done):
    clone, driver = half_done
    driver.kill()
    driver.wait()
    assert_resumes(clone, cluster)


@pytest.mark.slice
def test_a_stopped_call_leaves_nothing_running(cluster, half_done):
    clone, driver = half_done
    driver.terminate()
    said, _ = driver.communicate()
    assert driver.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in said
    assert not any(map(is_alive, map(int, set(clone.read("beats.slow").split()))))
    assert_resumes(clone, cluster)


@pytest.mark.slice
def test_a_second_concurrent_call_is_refused(cluster, half_done):
    clone, driver = half_done
    assert error_line(call(clone, "--address", cluster.address)).startswith("error: another DVC command")
    assert driver.wait() == 0


@pytest.mark.slice
def test_a_small_slice_is_bit_equal_to_a_serial_run(cluster, tmp_path):
    clone = Clone.of_project(tmp_path / "clone")
    clone.edit_params(**SMALL)
    done = call(clone, "--address", cluster.address, "--gpus-per-run", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    trained = [f"train@drawn_30-efficientnet_lite0-{method}-0" for method in ("l2_sp", "delta")]
    assert len({node for stage in trained for node in nodes_of(clone, stage)}) == 2
    assert is_up_to_date_for_dvc(clone)
    clustered = outputs(clone)
    clone.run("dvc", "repro", "-q", "--force", "--single-item", *trained)
    assert outputs(clone) == clustered
