"""The command line of a stage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "the following arguments are required: --dataset, --backbone"),
        (["--dataset", "nope", "--backbone", "efficientnet_lite0"], "argument --dataset: invalid choice: 'nope'"),
    ],
)
def test_wrong_options_are_named(options, message):
    command = [sys.executable, "-m", "stages.split", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stage_without_parameters_says_so(tmp_path):
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
