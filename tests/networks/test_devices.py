"""Devices: a GPU that cannot be used is an error, and settings are restored."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from delta.io import nvidia
from delta.io.errors import UserError
from delta.networks.devices import check_precision, deterministic, full_float32, pick_device, to_device
from tests.helpers.fake_cuda import CUDA, fake_card
from tests.helpers.tiny import CPU

ROOT = Path(__file__).parents[2]
TOO_OLD = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 12020). Please update your GPU "
    "driver by downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx "
    "Alternatively, go to: https://pytorch.org (Triggered internally at /pytorch/c10/cuda/CUDAFunctions.cpp:119.)"
)
DRIVER = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024
GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)
"""


@pytest.fixture
def no_gpu(monkeypatch, tmp_path) -> Path:
    """A machine on which PyTorch, made for CUDA 13.0, finds no GPU; the folder is its /dev, /proc and /bin."""
    for folder in ("dev", "bin"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(nvidia, "_DEVICES", tmp_path / "dev")
    monkeypatch.setattr(nvidia, "_DRIVER", tmp_path / "driver")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


@pytest.fixture
def old_driver(no_gpu, monkeypatch) -> Path:
    """The same machine with a GPU whose driver is of CUDA 12.2's time."""
    (no_gpu / "dev" / "nvidia0").touch()
    (no_gpu / "driver").write_text(DRIVER)

    def is_available() -> bool:
        warnings.warn(TOO_OLD, stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    return no_gpu


def nvidia_smi(machine: Path, script: str) -> None:
    (machine / "bin" / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (machine / "bin" / "nvidia-smi").chmod(0o755)


def test_devices(capsys):
    assert pick_device("cpu") == torch.device("cpu")
    assert capsys.readouterr().err == "device: cpu\n"
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UserError, match="cuda:99 requested"):
        pick_device("cuda:99")
    with pytest.raises(UserError, match="'gpu' is none of auto, cpu, cuda and cuda:<number>"):
        pick_device("gpu")
    assert torch.equal(to_device(torch.arange(3), pick_device("auto")).cpu(), torch.arange(3))


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_a_gpu_with_an_old_driver_is_an_error(name, old_driver):
    with warnings.catch_warnings(), pytest.raises(UserError) as error:
        warnings.simplefilter("error")
        pick_device(name)
    message = str(error.value)
    for said in ("its driver is 535.183.01,", "needs CUDA 13.0, hence driver 580:", "too old (found version 12020)"):
        assert said in message
    assert "http" not in message
    assert pick_device("cpu").type == "cpu"


def test_a_gpu_with_an_old_driver_is_one_line(old_driver):
    script = (
        "import torch, delta.io.nvidia as nvidia;"
        "from pathlib import Path;"
        "from delta.networks.devices import pick_device;"
        "from stages.common.command import run_stage;"
        f"nvidia._DEVICES = Path({str(old_driver / 'dev')!r});"
        "torch.cuda.is_available = lambda: False;"
        "run_stage(lambda params: pick_device(params.device))"
    )
    shutil.copy(ROOT / "params.yaml", old_driver)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], cwd=old_driver, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: device: PyTorch cannot use this machine's GPU")


def test_a_gpu_that_only_nvidia_smi_knows_is_an_error(no_gpu):
    """As under the Windows Subsystem for Linux."""
    nvidia_smi(no_gpu, 'case "$1" in *name) echo NVIDIA A100;; *driver_version) echo 535.183.01;; esac')
    with pytest.raises(UserError, match=r"its driver is 535\.183\.01,"):
        pick_device("auto")


def test_a_gpu_under_a_pytorch_for_cpus_is_an_error(old_driver, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="is made for CPUs, and this machine has a GPU: install requirements.txt"):
        pick_device("auto")


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_gpu_that_is_hidden_is_not_asked_for(hidden, old_driver, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert pick_device("auto").type == "cpu"


@pytest.mark.parametrize("script", [None, "echo NVIDIA-SMI has failed; exit 9", "exit 0"])
def test_without_a_gpu_auto_is_the_cpu(script, no_gpu):
    (no_gpu / "dev" / "nvidiactl").touch()  # may be there without a GPU
    if script:
        nvidia_smi(no_gpu, script)
    assert pick_device("auto").type == "cpu"
    with pytest.raises(UserError, match="cuda requested, but there are 0 CUDA devices: use auto"):
        pick_device("cuda")


def test_what_pytorch_warns_of_is_not_lost(no_gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: warnings.warn("odd", stacklevel=1) or False)
    with pytest.warns(UserWarning, match="odd"):
        assert pick_device("auto").type == "cpu"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (DRIVER, "535.183.01"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n", "580.95.05"),
        ("NVRM version: NVIDIA UNIX aarch64 Kernel Module  570.86  Thu\n", "570.86"),
        ("", None),
    ],
)
def test_the_drivers_version(text, version, no_gpu):
    (no_gpu / "driver").write_text(text)
    assert nvidia.driver_version() == version


def test_a_gpu_that_pytorch_finds_but_has_no_kernels_for_is_an_error(monkeypatch):
    def ones(*_, **__):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors …")

    monkeypatch.setattr(torch, "ones", ones)
    message = r"cuda, Fake GPU, cannot compute \(CUDA error: no kernel image is available for execution on the device\)"
    with fake_card(), pytest.raises(UserError, match=message):
        pick_device("auto")


def test_bf16_needs_a_gpu_that_computes_in_it():
    for device in (CPU, CUDA):
        with fake_card():
            check_precision("bf16", device)
    with fake_card(bf16=False):
        check_precision("fp32", CUDA)
        check_precision("bf16", CPU)
        with pytest.raises(UserError, match="training.precision: Fake GPU only emulates bf16, slowly: set it to fp32"):
            check_precision("bf16", CUDA)


@pytest.mark.parametrize(("before", "after"), [(None, ":4096:8"), (":16:8", ":16:8")])
def test_importing_fixes_cublas_workspace_for_good(before, after):
    script = (
        "import os; from delta.networks.devices import deterministic;"
        "exec('with deterministic(): pass'); print(os.environ['CUBLAS_WORKSPACE_CONFIG'])"
    )
    env = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    env |= {"CUBLAS_WORKSPACE_CONFIG": before} if before else {}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout == f"{after}\n"


def modes() -> tuple[bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )


@pytest.mark.parametrize("warn_only", [False, True])
def test_deterministic_restores_the_previous_settings(warn_only):
    before = modes()
    assert before == (False, False, True)
    with deterministic():
        assert modes() == (True, False, False)
        with deterministic(False):
            assert modes() == (False, False, False)
        assert modes() == (True, False, False)
    assert modes() == before
    try:
        torch.use_deterministic_algorithms(True, warn_only=warn_only)
        with pytest.raises(KeyError), deterministic(False):
            raise KeyError
        assert modes() == (True, warn_only, True)
    finally:
        torch.use_deterministic_algorithms(False)


def precisions() -> tuple[str, str, bool]:
    matmul = torch.backends.cuda.matmul.fp32_precision
    return torch.backends.cudnn.conv.fp32_precision, matmul, torch.backends.cudnn.allow_tf32


def test_full_float32_restores_the_previous_settings():
    before = precisions()
    assert before[0] == "tf32"  # PyTorch's default
    try:
        for matmul in ("highest", "high"):
            torch.set_float32_matmul_precision(matmul)
            chosen = precisions()
            with pytest.raises(KeyError), full_float32():
                assert torch.backends.cudnn.conv.fp32_precision == "ieee"
                assert torch.backends.cuda.matmul.fp32_precision == "ieee"
                raise KeyError
            assert precisions() == chosen
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cuda.matmul.fp32_precision = before[1]
    assert precisions() == before
