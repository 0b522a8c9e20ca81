"""Runs that are killed, interrupted or short of resources resume to the same bits, or end with one error line."""

from __future__ import annotations

import fcntl
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from torch.nn.functional import dropout

from delta.analysis import dissection, grid
from delta.analysis.concepts import Concepts
from delta.analysis.dissection import dissect
from delta.analysis.grid import cross_validate
from delta.methods.registry import method_class
from delta.networks.devices import deterministic
from delta.networks.network import Network, build_network
from delta.training import checkpoint as checkpoints
from delta.training import loop
from delta.training import run as runs
from delta.training.checkpoint import Checkpoint
from delta.training.loop import fine_tune
from delta.training.state import Step, TrainingState
from stages import train
from stages.common import command
from stages.common.command import run_stage
from tests.helpers import broden
from tests.helpers.clone import Clone
from tests.helpers.small_slice import SMALL, outputs
from tests.helpers.tiny import CPU, CROP, FILTERS, GRID, LEARNING_RATE, RESIZE, TRAINING, recipe, same_state

ROOT = Path(__file__).parents[2]
ITERATIONS = 7  # with two iterations per epoch
ITEM = "drawn_30/efficientnet_lite0"
OPTIONS = f"--dataset {ITEM.replace('/', ' --backbone ')} --method delta --seed 0 --setting default".split()
RUN, CHECKPOINT = f"runs/{ITEM}/delta/0", f".checkpoints/runs/{ITEM}/delta/0.pt"
LOCK = ".checkpoints/locks/train-drawn_30-efficientnet_lite0-delta-0-default"

pytestmark = pytest.mark.usefixtures("ctrl_c_interrupts")


def make_workspace(root: Path, packed: Path, weights: Path) -> Path:
    """Write the inputs of a training stage, and parameters that save a checkpoint after every iteration."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    # OpenMP's threads do not survive a fork, see `started`.
    (root / "params.yaml").write_text(yaml.safe_dump(values | {"threads": 1}), encoding="utf-8")
    edit(root, "checkpoints", minutes=0)
    view = {"network": "efficientnet_lite0", "resize": RESIZE, "crop": CROP, "learning_rate": LEARNING_RATE}
    edit(root, "backbones", efficientnet_lite0=view)
    edit(root, "training", iterations=ITERATIONS, batch_size=5, decay_after=4, clip_norm=20)
    rows = [(layer, j, 0.5 + j % 2) for layer, filters in FILTERS.items() for j in range(filters)]
    table = pd.DataFrame(rows, columns=["layer", "filter", "channel_weight"]).to_csv(index=False)
    selection = '{"values": null, "test_every_epoch": true}'
    for name, text in ((f"channel_weights/{ITEM}/delta/0.csv", table), (f"selected/{ITEM}/delta/0.json", selection)):
        (root / "data" / name).parent.mkdir(parents=True)
        (root / "data" / name).write_text(text)
    for name, target in ((f"packed/{ITEM}", packed), (f"weights/{ITEM}.safetensors", weights)):
        (root / "data" / name).parent.mkdir(parents=True)
        (root / "data" / name).symlink_to(target)
    return root


def edit(root: Path, section: str, **changes) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    params[section] |= changes
    (root / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture
def workspace(packed, weights, tmp_path) -> Path:
    return make_workspace(tmp_path, packed, weights)


@pytest.fixture(scope="module")
def reference(packed, weights, tmp_path_factory) -> dict[str, bytes]:
    """The files of an uninterrupted run without checkpoints."""
    root = make_workspace(tmp_path_factory.mktemp("reference"), packed, weights)
    edit(root, "checkpoints", minutes=10)
    assert exit_code(started(root)) == 0
    assert not (root / CHECKPOINT).parent.exists()
    return contents(root)


def contents(root: Path) -> dict[str, bytes]:
    run = root / RUN
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def started(root: Path, *before: Callable[[], None]) -> BaseProcess:
    """Start the training stage in a forked process, which saves the imports of `python -m stages.train`."""

    def work() -> None:
        os.chdir(root)
        torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
        sys.argv = [train.__file__, *OPTIONS]
        for each in before:
            each()
        run_stage(train.main)

    process = get_context("fork").Process(target=work)
    process.start()
    return process


def exit_code(process: BaseProcess) -> int:
    """Wait for a process and return its exit code, which is the negative signal number if it was killed."""
    process.join(120)
    assert not process.is_alive()
    return process.exitcode


def at(owner, name: str, call: int, do: Callable[[], None]) -> Callable[[], None]:
    """A function for `started` that makes the given call of `owner.name` run `do` first."""

    def before() -> None:
        calls, original = count(1), getattr(owner, name)

        def watched(*arguments, **options):
            if next(calls) == call:
                do()
            return original(*arguments, **options)

        setattr(owner, name, watched)

    return before


def send_signal(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


KILLED, TERMINATED, INTERRUPTED = (send_signal(number) for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT))


def assert_resumes_to(reference: dict[str, bytes], root: Path) -> None:
    """Assert that running the stage again succeeds with the bits of an uninterrupted run and leaves no other files."""
    assert exit_code(started(root)) == 0
    assert contents(root) == reference
    assert not list((root / CHECKPOINT).parent.iterdir())
    assert [path.name for path in (root / RUN).parent.iterdir()] == ["0"]


def test_a_killed_run_resumes_after_its_last_checkpoint(workspace, reference, capfd):
    assert exit_code(started(workspace, at(loop, "clip_grad_norm_", 4, KILLED))) == -signal.SIGKILL
    assert exit_code(started(workspace, at(checkpoints.os, "fsync", 2, KILLED))) == -signal.SIGKILL
    assert "0.pt: resuming after iteration 3 of 7" in capfd.readouterr().err
    assert not (workspace / RUN).exists()
    assert_resumes_to(reference, workspace)
    assert "0.pt: resuming after iteration 4 of 7" in capfd.readouterr().err


@pytest.mark.slice
@pytest.mark.parametrize(
    ("owner", "name", "call", "after"),
    [
        (loop, "objective", 1, None),
        (checkpoints.os, "fsync", 1, None),
        (Path, "replace", 3, 2),
        (runs, "split_logits", 2, 4),
        (runs, "save_network", 1, 7),
        (Path, "rename", 1, 7),
        (Checkpoint, "remove", 1, 7),
    ],
    ids=[
        "first iteration",
        "first checkpoint",
        "before the checkpoint's renaming",
        "test after an epoch",
        "writing the network",
        "before the folder's renaming",
        "when it is written",
    ],
)
def test_a_run_killed_at_any_moment_resumes_to_the_same_bits(owner, name, call, after, workspace, reference, capfd):
    assert exit_code(started(workspace, at(owner, name, call, KILLED))) == -signal.SIGKILL
    capfd.readouterr()
    assert_resumes_to(reference, workspace)
    assert re.findall(r"resuming after iteration (\d)", capfd.readouterr().err) == ([str(after)] if after else [])


@pytest.mark.slice
def test_a_run_killed_at_random_moments_resumes(workspace, packed, weights, tmp_path_factory):
    """The run has 30 iterations and is killed ten times between its start and its end."""
    other, moments, kills = tmp_path_factory.mktemp("undisturbed"), random.Random(0), 0
    make_workspace(other, packed, weights)
    for root in (workspace, other):
        edit(root, "training", iterations=30, decay_after=20)
    began = time.monotonic()
    assert exit_code(started(other)) == 0
    took = time.monotonic() - began
    while kills < 10:
        process = started(workspace)
        process.join(moments.uniform(0, took / 2))
        process.kill()
        ended = exit_code(process)
        kills += ended != 0
        if ended == 0:
            assert contents(workspace) == contents(other)
            shutil.rmtree(workspace / "runs")
    assert_resumes_to(contents(other), workspace)


def test_ctrl_c_and_sigterm_save_a_checkpoint(workspace, reference, capfd):
    """The signals arrive during an iteration and during the test after an epoch."""
    edit(workspace, "checkpoints", minutes=10)
    assert exit_code(started(workspace, at(loop, "clip_grad_norm_", 3, TERMINATED))) == 128 + signal.SIGTERM
    assert "0.pt: saved after iteration 3 of 7" in capfd.readouterr().err
    assert exit_code(started(workspace, at(runs, "split_logits", 1, INTERRUPTED))) == 128 + signal.SIGINT
    said = capfd.readouterr().err
    assert "0.pt: resuming after iteration 3 of 7" in said
    assert "0.pt: saved after iteration 4 of 7" in said
    assert "Traceback" not in said
    assert_resumes_to(reference, workspace)


def test_a_finished_run_resumes_with_its_predictions(workspace, reference, capfd):
    """Its checkpoint holds the last test's accuracy in the curve, but not the logits that predictions.csv needs."""

    def before() -> None:
        original = TrainingState.end_epoch

        def end_epoch(state, *arguments):
            original(state, *arguments)
            if state.iteration == ITERATIONS:
                INTERRUPTED()

        TrainingState.end_epoch = end_epoch

    assert exit_code(started(workspace, before)) == 128 + signal.SIGINT
    assert not (workspace / RUN).exists()
    assert "predictions.csv" in reference
    assert_resumes_to(reference, workspace)
    assert "0.pt: resuming after iteration 7 of 7" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("signals", "seconds", "code"), [([signal.SIGTERM], 0.1, 143), ([signal.SIGINT, signal.SIGINT], 1000, 130)]
)
def test_a_hanging_iteration_is_stopped(signals, seconds, code, workspace, monkeypatch):
    """It stops after a timeout, and immediately on a second signal. Earlier checkpoints are kept."""
    monkeypatch.setattr(command, "_SECONDS_TO_END", seconds)

    def hang() -> None:
        for number in signals:
            os.kill(os.getpid(), number)
        time.sleep(1000)

    assert exit_code(started(workspace, at(loop, "objective", 2, hang))) == code
    assert (workspace / CHECKPOINT).is_file()
    assert not (workspace / RUN).exists()


def test_a_stage_stops_when_dvc_is_killed(workspace, monkeypatch):
    """If only DVC is killed, its stage still runs. The stage then saves a checkpoint and stops."""
    monkeypatch.setenv("DVC_STAGE", "train")
    edit(workspace, "checkpoints", minutes=10)
    edit(workspace, "training", iterations=10**6)
    dvc = get_context("fork").Process(target=lambda: started(workspace).join())
    dvc.start()
    lock = workspace / LOCK
    wait_until(lambda: lock.exists() and not is_free(lock))
    dvc.kill()
    dvc.join()
    wait_until(lambda: is_free(lock))
    assert (workspace / CHECKPOINT).is_file()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_free(lock: Path) -> bool:
    """Whether no process holds the lock, whose file is removed when it is released."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def test_a_second_process_waits_for_the_first(workspace, reference, capfd):
    first = started(workspace, at(loop, "objective", 3, lambda: time.sleep(1000)))
    wait_until((workspace / CHECKPOINT).exists)
    second, said = started(workspace), ""

    def waits() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return "delta-0-default: another process runs this stage: waiting for it to end" in said

    wait_until(waits)
    first.kill()
    assert exit_code(second) == 0
    assert contents(workspace) == reference


def test_a_damaged_checkpoint_starts_the_run_from_the_beginning(workspace, reference, capfd):
    assert exit_code(started(workspace, at(loop, "objective", 4, KILLED))) == -signal.SIGKILL
    with (workspace / CHECKPOINT).open("r+b") as file:
        file.truncate(10**7)
    assert_resumes_to(reference, workspace)
    assert "0.pt: checkpoint ignored, as it is damaged: starting from the beginning" in capfd.readouterr().err


@pytest.mark.slice
def test_another_alpha_starts_the_run_from_the_beginning(workspace, reference, capfd):
    alpha = yaml.safe_load((workspace / "params.yaml").read_text())["delta"]["alpha"]
    edit(workspace, "delta", alpha=10 * alpha)
    assert exit_code(started(workspace, at(loop, "objective", 4, KILLED))) == -signal.SIGKILL
    edit(workspace, "delta", alpha=alpha)
    assert_resumes_to(reference, workspace)
    said = capfd.readouterr().err
    assert "0.pt: checkpoint ignored, as it belongs to other parameters: starting from the beginning" in said


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, str], None]]:
    """A function that mounts a file system of a given size at a folder."""
    mounted = []

    def mount(folder: Path, size: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
        if done.returncode:
            pytest.skip(f"no full disk is tested, as this process may not mount a tmpfs: {done.stderr.decode()}")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


def test_a_disk_too_small_for_a_checkpoint_does_not_stop_the_run(workspace, reference, small_disk, capfd):
    small_disk(workspace / ".checkpoints", "1m")
    assert_resumes_to(reference, workspace)
    said = capfd.readouterr().err
    assert said.count("0.pt: checkpoint not written ([Errno 28] No space left on device): going on") == ITERATIONS


def test_a_disk_too_small_for_a_second_checkpoint_keeps_the_first(workspace, reference, small_disk, capfd):
    """The disk has room for one checkpoint, but a new one is written before the old one is replaced."""
    small_disk(workspace / ".checkpoints", "40m")
    assert exit_code(started(workspace, at(loop, "objective", 4, KILLED))) == -signal.SIGKILL
    assert_resumes_to(reference, workspace)
    assert "0.pt: resuming after iteration 1 of 7" in capfd.readouterr().err


@pytest.mark.parametrize("size", ["16k", "5m"], ids=["curves", "network"])
def test_a_disk_too_small_for_the_run_is_an_error(size, workspace, reference, small_disk, capfd):
    small_disk((workspace / RUN).parent, size)
    assert exit_code(started(workspace)) == 1
    (error,) = errors(capfd.readouterr().err)
    assert error == f"error: {RUN}: cannot be written, its disk is full: free disk space and run again"
    assert not list((workspace / RUN).parent.iterdir())
    subprocess.run(["mount", "-o", "remount,size=50m", (workspace / RUN).parent], check=True)
    assert_resumes_to(reference, workspace)


def lines(text: str) -> list[str]:
    """The lines of a text, with each state of a progress bar as a line of its own."""
    return [line.strip() for line in re.split(r"[\r\n]+", text)]


def errors(text: str) -> list[str]:
    assert "Traceback" not in text
    return [line for line in lines(text) if line.startswith("error: ")]


def limit_memory(megabytes: int) -> Callable[[], None]:
    def before() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    return before


@pytest.mark.parametrize("megabytes", [8, 64])
def test_too_little_memory_is_one_error_line(megabytes, workspace, reference, capfd):
    """The run succeeds, or ends with a line that says what helps. With 8 MB it must end with this line."""
    code, said = exit_code(started(workspace, limit_memory(megabytes))), capfd.readouterr().err
    if code:
        (error,) = errors(said)
        assert re.match(r"error: out of memory \(.*\): lower training.batch_size, or free memory$", error)
        assert not (workspace / RUN).exists()
    else:
        assert contents(workspace) == reference
        assert megabytes > 8


def test_a_gpu_memory_error_is_one_line(workspace, capfd):
    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 1 GiB free.")

    assert exit_code(started(workspace, at(loop, "objective", 2, full))) == 1
    (error,) = errors(capfd.readouterr().err)
    assert error.startswith("error: out of memory (CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
    assert error.endswith("): lower training.batch_size, or free memory")


def test_a_nan_loss_keeps_the_last_good_checkpoint(workspace, reference, capfd):
    def before() -> None:
        calls, original = count(1), loop.objective

        def objective(*arguments):
            terms = original(*arguments)
            return terms._replace(loss=terms.loss * float("nan")) if next(calls) == 5 else terms

        loop.objective = objective

    assert exit_code(started(workspace, before)) == 1
    alpha = yaml.safe_load((workspace / "params.yaml").read_text())["delta"]["alpha"]
    line = (
        f"error: DELTA, seed 0: diverged at iteration 5 with loss nan (learning rate 0.001, alpha {alpha:g}): lower the"
    )
    assert line in capfd.readouterr().err
    assert_resumes_to(reference, workspace)
    assert "0.pt: resuming after iteration 4 of 7" in capfd.readouterr().err


@pytest.fixture(scope="module", params=["cpu", "cuda"])
def device(request) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU: its path is not tested here")
    return torch.device(request.param)


def with_dropout(network: Network) -> Network:
    """Add dropout before the head, which uses PyTorch's global generators."""
    network.head.register_forward_pre_hook(lambda head, features: dropout(features[0], 0.5, head.training))
    return network


FIVE = TRAINING.model_copy(update={"iterations": 5})
DELTA = method_class("delta")(alpha=0.01, beta=0.01)
ONES = {layer: torch.ones(filters) for layer, filters in FILTERS.items()}


def fine_tuned(
    data, weights, device, checkpoint=None, log=lambda step: None, channel_weights=ONES, method=DELTA, **of_recipe
) -> dict[str, torch.Tensor]:
    network, source = (with_dropout(build_network(weights, 3)).to(device) for _ in range(2))
    chosen = recipe(method, **{"training": FIVE} | of_recipe)
    with deterministic():
        fine_tune(network, source, data, chosen, channel_weights, log, checkpoint=checkpoint)
    return {name: tensor.cpu() for name, tensor in network.state_dict().items()}


def interrupt_at_4(step: Step) -> None:
    if step.iteration == 4:
        os.kill(os.getpid(), signal.SIGINT)


def test_dropout_resumes_to_the_same_bits(data, weights, device, tmp_path):
    checkpoint = Checkpoint(tmp_path / "run.pt", 10)
    with pytest.raises(KeyboardInterrupt):
        fine_tuned(data, weights, device, checkpoint, interrupt_at_4)
    torch.rand(1)  # random numbers drawn in between do not matter
    steps, others = [], []
    resumed = fine_tuned(data, weights, device, checkpoint, steps.append)
    undisturbed = fine_tuned(data, weights, device, log=others.append)
    assert same_state(resumed, undisturbed)
    assert steps == others
    assert len(steps) == 5


@pytest.fixture(scope="module")
def interrupted(data, weights, tmp_path_factory) -> Checkpoint:
    checkpoint = Checkpoint(tmp_path_factory.mktemp("interrupted") / "run.pt", 10)
    with pytest.raises(KeyboardInterrupt):
        fine_tuned(data, weights, CPU, checkpoint, interrupt_at_4)
    return checkpoint


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"method": method_class("delta")(alpha=0.01, beta=0.02)}, "parameters"),
        ({"method": method_class("delta_wo_att")(alpha=0.01, beta=0.01)}, "parameters"),
        ({"training": TRAINING}, "parameters"),
        ({"learning_rate": 0.02}, "parameters"),
        ({"seed": 1}, "parameters"),
        ({"decay_per_epoch": 0.5}, "parameters"),
        ({"channel_weights": {layer: torch.full([filters], 0.9) for layer, filters in FILTERS.items()}}, "weights"),
        ({}, None),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else value,
)
def test_a_checkpoint_of_a_different_run_is_ignored(changed, part, data, weights, interrupted, capfd):
    class Begun(Exception):
        pass

    def stop(*_) -> None:
        raise Begun

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Begun):
        patch.setattr(loop, "objective", stop)
        fine_tuned(data, weights, CPU, interrupted, **changed)
    said = capfd.readouterr().err
    assert (f"checkpoint ignored, as it belongs to other {part}: starting from the beginning" in said) == bool(part)
    assert ("resuming after iteration 4 of 5" in said) == (not part)


def grid_search(data, weights, checkpoint=None, grid=GRID) -> pd.DataFrame:
    return cross_validate(
        data,
        0,
        recipe(method_class("delta")(alpha=7.0, beta=7.0)),
        weights=weights,
        l2_fe=method_class("l2_fe")(weight_decay=1e-4),
        grid=grid,
        normalization="standardized",
        device=CPU,
        checkpoint=checkpoint,
    )


def test_a_grid_search_resumes_at_the_interrupted_cell(data, weights, tmp_path, monkeypatch):
    undisturbed = grid_search(data, weights)
    calls, objective = count(1), loop.objective

    def counted(*arguments):
        if next(calls) == 5:  # two iterations of L2-FE, two of the first cell, the first of the second
            os.kill(os.getpid(), signal.SIGINT)
        return objective(*arguments)

    monkeypatch.setattr(loop, "objective", counted)
    checkpoint = Checkpoint(tmp_path / "0.pt", 10)
    with pytest.raises(KeyboardInterrupt):
        grid_search(data, weights, checkpoint)
    monkeypatch.setattr(grid, "learn_channel_weights", None)
    pd.testing.assert_frame_equal(grid_search(data, weights, checkpoint), undisturbed, check_exact=True)
    assert next(calls) == 5 + 1 + 1
    checkpoint.remove()
    assert not list(tmp_path.iterdir())


def test_a_dissection_resumes_with_its_thresholds(weights, tmp_path, monkeypatch, capfd):
    concepts = Concepts.open(broden.write(tmp_path / "concepts", broden.random_images(9)))
    network, checkpoint = build_network(weights, 3), Checkpoint(tmp_path / "0.pt", 10)
    undisturbed = dissect(network, concepts, CROP)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dissection.IoUCounts, "add", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        dissect(network, concepts, CROP, checkpoint=checkpoint)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dissection, "StreamingTopK", None)
        resumed = dissect(network, concepts, CROP, checkpoint=checkpoint)
    pd.testing.assert_frame_equal(resumed.units, undisturbed.units, check_exact=True)
    assert np.array_equal(resumed.top_images, undisturbed.top_images)
    with Image.open(tmp_path / "concepts/images/set/003.png") as image:
        image.transpose(Image.Transpose.ROTATE_180).save(tmp_path / "concepts/images/set/003.png")
    dissect(network, concepts, CROP, checkpoint=checkpoint)
    assert "0.pt: checkpoint ignored, as it belongs to other data" in capfd.readouterr().err


TRAIN = f"train@{ITEM.replace('/', '-')}-delta-0"


@pytest.mark.slice
def test_dvc_repro_resumes_a_killed_stage(tmp_path):
    """Interrupt it with Ctrl-C, then kill only DVC, then kill DVC and its stage."""
    clone = Clone.of_project(tmp_path / "clone")
    clone.edit_params(**SMALL, checkpoints={"minutes": 0})
    edit(clone.root, "training", iterations=60)
    clone.env |= {"SHELL": "/bin/sh"}  # Debian's sh stays alive between DVC and its stage; bash does not
    item = ITEM.replace("/", "-")
    clone.run("dvc", "repro", f"normalize_attention@{item}-delta", f"select@{item}-delta")
    clone.commit()
    checkpoint, after = clone.root / CHECKPOINT, []

    def disturbed(how: str, disturb: Callable[[int], None]) -> int:
        said = tmp_path / how
        with said.open("w") as file:
            command = {"args": ["dvc", "repro", TRAIN], "cwd": clone.root, "env": clone.env}
            dvc = subprocess.Popen(**command, start_new_session=True, stdout=file, stderr=file)
        if checkpoint.exists():
            wait_until(lambda: "resuming after" in said.read_text())
            after.append(int(re.search(r"resuming after iteration (\d+) of 60", said.read_text())[1]))
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        wait_until(lambda: checkpoint.exists() and checkpoint.stat().st_mtime_ns > before)
        disturb(dvc.pid)
        return dvc.wait()

    assert disturbed("Ctrl-C", lambda pid: os.killpg(pid, signal.SIGINT)) == 255
    assert not (clone.root / RUN).exists()
    assert clone.run("git", "status", "--porcelain") == ""
    assert disturbed("DVC alone", lambda pid: os.kill(pid, signal.SIGKILL)) == -signal.SIGKILL
    assert disturbed("with its stage", lambda pid: os.killpg(pid, signal.SIGKILL)) == -signal.SIGKILL
    assert 0 < after[0] < after[1]
    assert clone.stages_run("repro", TRAIN) == {TRAIN}
    resumed = outputs(clone)[TRAIN]
    assert clone.stages_run("repro", "-f", "-s", TRAIN) == {TRAIN}
    assert outputs(clone)[TRAIN] == resumed
    assert not checkpoint.exists()
