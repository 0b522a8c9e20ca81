"""The command line of a stage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "the following arguments are required: --dataset, --backbone"),
        (["--dataset", "nope", "--backbone", "efficientnet_lite0"], "argument --dataset: invalid choice: 'nope'"),
    ],
)
def test_wrong_options_are_reported(options, message):
    command = [sys.executable, "-m", "stages.split", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_params_yaml_is_reported(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "stages.check_params"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: params.yaml: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("threads", "counted"), [(2, "2"), (3, "3"), (None, "1")])
def test_a_stage_uses_the_number_of_threads_of_params_yaml(tmp_path, threads, counted):
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params | {"threads": threads}), encoding="utf-8")
    script = (
        "import torch; from stages.common.command import run_stage;"
        "run_stage(lambda params: print(torch.get_num_threads()))"
    )
    command, env = [sys.executable, "-c", script], os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (counted, "")
