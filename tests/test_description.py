"""What the page says was run, against files and repositories written by hand."""

from __future__ import annotations

import json
import os
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from clone import ROOT, Clone

from delta.report.description import commit, describe, deviations, read_wall_times

LISTED = {"dataset": ["d"], "seed": [0, 1], "setting": ["default", "improved"]}


@pytest.fixture
def times(tmp_path) -> Path:
    entries = [
        {"stage": "split", "dataset": "d", "seconds": 2.5},
        {"stage": "train", "dataset": "d", "seed": 0, "setting": "default", "seconds": 10.0},
        {"stage": "train", "dataset": "d", "seed": 1, "setting": "default", "seconds": 20.0},
        {"stage": "train", "dataset": "d", "seed": 2, "setting": "default", "seconds": 40.0},
        {"stage": "train", "dataset": "gone", "seed": 0, "setting": "default", "seconds": 80.0},
        {"stage": "train", "dataset": "d", "seed": 0, "setting": "improved", "seconds": 5.0},
    ]
    for number, entry in enumerate(entries):
        file = tmp_path / f"{9 - number}.json"
        file.write_text(json.dumps(entry))
        os.utime(file, (number, number))
    return tmp_path


def test_wall_times_are_summed_by_stage_without_items_of_other_parameters(times):
    assert read_wall_times(times, LISTED) == [("split", 1, 2.5), ("train", 2, 30.0), ("train_improved", 1, 5.0)]
    assert read_wall_times(times / "nowhere", LISTED) == []


def paper() -> dict:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["backbones"] = {"resnet101": {"crop": 224}, "inception_v3": {"crop": 299}}
    values["seeds"] = [0, 1, 2, 3, 4]
    values["training"] |= {"iterations": 9000, "batch_size": 64, "clip_norm": None}
    five = [0.0001, 0.001, 0.01, 0.1, 0.2]
    values["grid"] |= {"alpha": five, "beta": five, "folds": [0, 1, 2, 3, 4], "iterations": 9000}
    return values


def test_the_paper_s_own_protocol_has_no_deviations():
    assert deviations(paper()) == []


def test_every_deviation_is_said():
    values = paper()
    values["backbones"] = {"resnet101": {"crop": 80}}
    values["seeds"] = [0, 1]
    values["training"] |= {"iterations": 40, "batch_size": 32, "clip_norm": 20}
    values["grid"] |= {"alpha": [0.1, 1], "beta": [0.2], "folds": [0, 1], "iterations": 20}
    assert deviations(values) == [
        "40 iterations of training instead of the paper's 9,000.",
        "Batches of 32 images instead of 64.",
        "Crops of 80 pixels instead of 224 (Inception-V3: 299).",
        "2 seeds a method instead of five.",
        "The gradient of the shared weights is clipped to a norm of 20.",
        "A grid of 2 × 1 values of α and β instead of 5 × 5.",
        "2 folds instead of five.",
        "20 iterations of training a cell of the grid.",
    ]


def test_a_run_is_described_by_its_parameters_and_this_machine(times):
    text = (ROOT / "params.yaml").read_text()
    run = describe(text, (0.01, 0.02), "abc", times, LISTED)
    assert run.profile == "embedded slice"
    assert run.methods == ["l2_fe", "l2", "l2_sp", "l2_sp_att", "delta_wo_att", "delta"]
    assert (run.parameters, run.fixed, run.commit) == (text, (0.01, 0.02), "abc")
    assert run.versions["torch"] == metadata.version("torch")
    assert run.machine["Cores"] == str(os.cpu_count())


def test_the_commit_and_whether_code_has_changed(tmp_path):
    clone = Clone(tmp_path / "clone")
    (clone.root / "reports").mkdir(parents=True)
    assert commit(clone.root) == "not in a git repository"
    clone.run("git", "init", "-q")
    for name in ("dvc.lock", "code.py", "reports/metrics.json"):
        (clone.root / name).write_text("1")
    clone.commit()
    head = clone.run("git", "rev-parse", "HEAD")[:12]
    for name in ("dvc.lock", "reports/metrics.json"):
        (clone.root / name).write_text("2")
    assert commit(clone.root) == head
    (clone.root / "code.py").write_text("2")
    assert commit(clone.root) == f"{head}, with changes that are not committed"
