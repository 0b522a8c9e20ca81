"""Faults of the environment of a stage: it ends with one line and leaves no incomplete or wrong output."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.helpers.clone import ROOT, Clone
from tests.helpers.small_slice import ITEM, SMALL, outputs

ITEMS = ["--dataset", "mine", "--backbone", "lite0"]
OPTIONS = {"download": ITEMS[:2], "split": ITEMS, "pack_whole": ITEMS, "fetch_weights": ITEMS}
OPTIONS["train_l2_fe"] = [*ITEMS, "--seed", "0"]
OUTPUTS = {"download": "raw/mine", "split": "packed/mine/lite0", "pack_whole": "packed_whole/mine/lite0"}
OUTPUTS["fetch_weights"] = "weights/mine/lite0.safetensors"
UPSTREAM = {"split": ["download"], "pack_whole": ["download", "split"]}
BACKBONE = {"network": "efficientnet_lite0", "resize": 200, "crop": 180, "learning_rate": 0.01}


class Project:
    """A folder with a params.yaml, in which stages run on the data set `mine` of a few photographs."""

    def __init__(self, root: Path):
        self.root, noise = root, np.random.default_rng(0)
        for name in ("cat", "dog"):
            (root / "photographs" / name).mkdir(parents=True)
            for image in range(4):
                pixels = noise.integers(0, 256, (150, 150, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / "photographs" / name / f"{image}.png")
        chosen = {"format": "folder", "source": "photographs", "train_per_class": 2, "test_per_class": 2, "seed": 0}
        values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")) | SMALL
        self.write(values | {"datasets": {"mine": chosen}, "backbones": {"lite0": BACKBONE}})

    def write(self, values: dict) -> None:
        (self.root / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")

    def change(self, section: str, **values) -> None:
        everything = yaml.safe_load((self.root / "params.yaml").read_text(encoding="utf-8"))
        everything[section] |= values
        self.write(everything)

    def start(self, stage: str, *prefix: str) -> subprocess.Popen:
        command, env = [*prefix, sys.executable, "-m", f"stages.{stage}", *OPTIONS[stage]], os.environ
        env = env | {"PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.root, env=env, stdout=pipe, stderr=pipe, text=True)

    def run(self, *stages: str) -> None:
        for stage in stages:
            process = self.start(stage)
            _, errors = process.communicate()
            assert process.returncode == 0, errors

    def files(self, folder: str) -> list[Path]:
        return [path for path in (self.root / folder).rglob("*") if not path.is_dir()]


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path / "project")


def error_line(process: subprocess.Popen) -> str:
    """The only error line of a stage that must end with exit code 1."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert errors.splitlines()[-1:] == lines, errors
    return lines[0].removeprefix("error: ")


# ---- disks

NAMESPACE = ["unshare", "--map-root-user", "--mount"]  # a private mount namespace, which ends with the process


@pytest.fixture(scope="module")
def mounts() -> None:
    """Skip tests that mount a disk if this system does not allow it."""
    try:
        subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", "/tmp"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        warnings.warn("full and read-only disks are not tested: this system lets nobody mount one", stacklevel=2)
        pytest.skip("this system lets nobody mount a disk")


def mounted(project: Project, stage: str, folder: str, mount: str) -> subprocess.Popen:
    """Start a stage with another disk mounted at `folder`; at its end, the file `left` lists the files on that disk."""
    (project.root / folder).mkdir(parents=True, exist_ok=True)
    script = f'{mount} && "$@"; code=$?; find {folder} ! -type d > left; exit $code'
    return project.start(stage, *NAMESPACE, "sh", "-c", script, "sh")


slow = pytest.mark.slice


@pytest.mark.parametrize(
    ("stage", "disk"),
    [
        ("download", "full"),
        ("download", "read-only"),
        ("split", "full"),
        pytest.param("pack_whole", "full", marks=slow),
        pytest.param("fetch_weights", "full", marks=slow),
    ],
)
def test_a_full_or_a_read_only_disk(mounts, project, stage, disk):
    project.run(*UPSTREAM.get(stage, []))
    output = Path("data", OUTPUTS[stage])
    folder = Path("data", output.parts[1])
    mount = f"mount -t tmpfs -o size=400k none {folder}"
    if disk == "read-only":
        mount += f" && mount -o remount,ro {folder}"
    line = error_line(mounted(project, stage, str(folder), mount))
    why = {"full": "its disk is full: free disk space", "read-only": "(Read-only file system)"}[disk]
    assert line.startswith(f"{output}: cannot be written") and why in line
    assert (project.root / "left").read_text() == ""


def test_a_drawn_data_set_on_a_full_disk(mounts, project):
    """Pillow raises its own error on a full disk, which does not mention the disk."""
    drawn = {"format": "drawn", "source": "drawn", "train_per_class": 2, "test_per_class": 1, "seed": 0}
    project.change("datasets", mine=drawn)
    line = error_line(mounted(project, "download", "data/raw", "mount -t tmpfs -o size=60k none data/raw"))
    assert line == "data/raw/mine: cannot be written, its disk is full: free disk space and run again"
    assert (project.root / "left").read_text() == ""


def test_a_folder_that_cannot_be_created(project):
    (project.root / "data").mkdir()
    (project.root / "data/raw").touch()
    assert error_line(project.start("download")).startswith("data/raw/mine: cannot be written (")
    assert [path.name for path in project.files("data")] == ["raw"]


@slow
def test_a_full_disk_of_the_dvc_cache(mounts, tmp_path):
    """DVC reports it and continues. The output is complete, and the next run makes it again and caches it."""
    clone = Clone.of_project(tmp_path / "clone")
    clone.edit_params(**SMALL)
    (clone.root / ".dvc/cache").mkdir(parents=True)
    mount = 'mount -t tmpfs -o size=100k none .dvc/cache && "$@"'
    done = clone.call(*NAMESPACE, "sh", "-c", mount, "sh", "dvc", "repro", "download")
    assert "ERROR: failed to transfer" in done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    made = outputs(clone)
    assert "not in cache" in clone.run("dvc", "status", "download")
    assert "download@drawn_30" in clone.stages_run("repro", "download")
    assert outputs(clone) == made
    assert clone.run("dvc", "status", "download").startswith("Data and pipelines are up to date.")


# ---- inputs that change during a run


@slow
@pytest.mark.parametrize("change", ["cut", "rewritten", "touched"])
def test_packed_images_that_change_during_a_stage_are_an_error(project, packed, weights, change):
    """Truncating a memory-mapped file would otherwise kill the process without a message (SIGBUS)."""
    shutil.copytree(packed, project.root / "data/packed/mine/lite0")
    (project.root / "data/weights/mine").mkdir(parents=True)
    shutil.copy(weights, project.root / "data/weights/mine/lite0.safetensors")
    project.change("backbones", lite0=BACKBONE | {"resize": 40, "crop": 32})
    project.change("training", iterations=10**6)
    view, process = project.root / "data/packed/mine/lite0/train_view.npy", project.start("train_l2_fe")
    try:
        while not project.files("runs"):  # the curves' first files: training has begun
            assert process.poll() is None
            time.sleep(0.1)
        if change == "cut":
            os.truncate(view, 1000)
        elif change == "rewritten":
            view.write_bytes(view.read_bytes()[::-1])
        else:
            os.utime(view)
        line = error_line(process)
    finally:
        process.kill()
    assert line.endswith("train_view.npy: was changed while this run was reading it: run `dvc repro`")
    assert not (project.root / "runs/mine/lite0/l2_fe/0").exists()


# ---- weights


@slow
@pytest.mark.parametrize("network", ["efficientnet_lite0", "resnet101", "timm:resnet18"])
def test_a_malicious_weight_file_is_not_executed(project, network):
    class Evil:
        def __reduce__(self):
            return os.system, ("touch evil",)

    (project.root / "mine.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    project.change("backbones", lite0=BACKBONE | {"network": network, "checkpoint": "mine.pth"})
    line = error_line(project.start("fetch_weights"))
    assert line.startswith("mine.pth: not a plain PyTorch weight file (")
    assert not (project.root / "evil").exists()
    assert not project.files("data")


# ---- DVC


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Clone:
    """A clone with the stages up to L2-FE, reproduced from an empty cache."""
    clone = Clone.of_project(tmp_path_factory.mktemp("faults") / "clone")
    clone.edit_params(**SMALL)
    clone.run("dvc", "repro", f"train_l2_fe@{ITEM}-0")
    return clone


@slow
@pytest.mark.parametrize(
    "file", [f"data/packed/{ITEM.replace('-', '/')}/train_view.npy", "data/weights/*/*lite0.safetensors"]
)
def test_dvc_restores_an_output_with_a_changed_byte(reference, file):
    """A stage cannot detect a wrong pixel or weight, but DVC detects the changed checksum."""
    file, script = next(reference.root.glob(file)), reference.root / "stages/train_l2_fe.py"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 64
    file.chmod(0o644)
    file.write_bytes(content)
    script.write_text(script.read_text() + "# run this again\n")
    before = outputs(reference)
    assert f"train_l2_fe@{ITEM}-0" in reference.stages_run("repro", f"train_l2_fe@{ITEM}-0")
    assert file.read_bytes() != content
    assert outputs(reference) == before


@slow
def test_two_concurrent_repros(reference, tmp_path):
    """Each succeeds or reports a conflict with the other. Afterwards the outputs equal those of a single run."""
    clone, target = Clone.of_project(tmp_path / "clone"), f"split@{ITEM}"
    clone.edit_params(**SMALL)
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(["dvc", "repro", target], cwd=clone.root, env=clone.env, **pipe) for _ in range(2)]
    ends = [(*process.communicate(timeout=600), process.returncode) for process in both]
    for _, errors, code in ends:
        assert "Traceback" not in errors
        if code:
            reasons = [line for line in errors.splitlines() if line.startswith(("ERROR", "error: "))]
            assert reasons, errors
            assert "lock" in errors or "busy" in errors or "does not exist" in errors or "missing" in errors, errors
    assert 0 in [code for *_, code in ends]
    clone.run("dvc", "repro", target)
    ours, theirs = outputs(clone), outputs(reference)
    for stage in ("download@drawn_30", target):
        assert ours[stage] == theirs[stage]
    assert clone.run("dvc", "status", target).startswith("Data and pipelines are up to date.")
