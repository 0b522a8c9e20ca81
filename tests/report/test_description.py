"""The report's description of what was run, with handwritten files and repositories."""

from __future__ import annotations

import json
import os
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest
import yaml

from delta.report.description import (
    commit,
    describe,
    deviations,
    read_recommendation_times,
    read_run_times,
    read_wall_times,
)
from tests.helpers.clone import ROOT, Clone

TABLE1 = pd.DataFrame(
    {"method_label": ["L2-FE", "L2", "DELTA", "DELTA"], "device": ["cpu", "NVIDIA A100", "cpu", "cpu"]}
)
OPTIONS = {"dataset": ["d"], "seed": [0, 1], "setting": ["default", "improved"], "concepts": ["broden1_224"]}


@pytest.fixture
def times(tmp_path) -> Path:
    entries = [
        {"stage": "split", "dataset": "d", "seconds": 2.5},
        {"stage": "train", "dataset": "d", "seed": 0, "setting": "default", "seconds": 10.0},
        {"stage": "train", "dataset": "d", "seed": 1, "setting": "default", "seconds": 20.0, "training": 9.0},
        {"stage": "train", "dataset": "d", "seed": 2, "setting": "default", "seconds": 40.0},
        {"stage": "train", "dataset": "gone", "seed": 0, "setting": "default", "seconds": 80.0},
        {"stage": "train", "dataset": "d", "seed": 0, "setting": "improved", "seconds": 5.0},
        {"stage": "download_concepts", "concepts": "broden1_224", "seconds": 7.0},
        {"stage": "download_concepts", "concepts": "gone", "seconds": 8.0},
    ]
    for number, entry in enumerate(entries):
        file = tmp_path / f"{9 - number}.json"
        file.write_text(json.dumps(entry))
        os.utime(file, (number, number))
    return tmp_path


def test_wall_times_are_summed_by_stage_for_the_current_parameters(times):
    assert read_wall_times(times, OPTIONS) == [
        ("split", 1, 2.5),
        ("train", 2, 30.0),
        ("train_improved", 1, 5.0),
        ("download_concepts", 1, 7.0),
    ]
    assert read_wall_times(times / "nowhere", OPTIONS) == []


def test_the_time_of_a_run_is_the_median_over_the_seeds(tmp_path):
    where, l2 = {"dataset": "d", "backbone": "b"}, {"dataset": "d", "backbone": "b", "method": "l2", "seconds": 900.0}
    entries = [
        *({"stage": "train", **l2, "seed": seed, "training": s} for seed, s in enumerate((9.0, 10.0, 50.0))),
        {"stage": "train", **l2, "seed": 0, "setting": "improved", "training": 900.0},
        {"stage": "train", **l2, "seed": 7, "training": 900.0},  # no seed of params.yaml
        {"stage": "train", **l2, "method": "gone", "seed": 0, "training": 900.0},
        {"stage": "train", **l2, "method": "delta", "seed": 0},  # an older version wrote this
        {"stage": "train_l2_fe", **where, "seed": 0, "seconds": 900.0, "training": 4.0},
        {"stage": "train_l2_fe", **where, "seed": 1, "seconds": 900.0, "training": 5.0},
        {"stage": "train_probe", **where, "seconds": 6.0},  # all three seeds
        {"stage": "split", **where, "seconds": 900.0},
    ]
    for number, entry in enumerate(entries):
        (tmp_path / f"{entry['stage']}-{number}.json").write_text(json.dumps(entry))
    options = {"dataset": ["d"], "backbone": ["b"], "method": ["probe", "l2_fe", "l2", "delta"], "seed": [0, 1, 2]}
    times = read_run_times(tmp_path, options)
    assert times == {("d", "b", "l2"): 10.0, ("d", "b", "l2_fe"): 4.5, ("d", "b", "probe"): 2.0}
    assert read_run_times(tmp_path / "nowhere", options) == {}


def test_the_time_of_each_recommendation(tmp_path):
    for stage, dataset, seconds in (("recommend", "a", 2.5), ("recommend", "b", 400.0), ("split", "a", 1.0)):
        entry = {"stage": stage, "dataset": dataset, "seconds": seconds}
        (tmp_path / f"{stage}-{dataset}.json").write_text(json.dumps(entry))
    assert read_recommendation_times(tmp_path) == {"a": 2.5, "b": 400}
    assert read_recommendation_times(tmp_path / "nowhere") == {}


def paper() -> dict:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["datasets"] = {
        "caltech256_30": {"format": "caltech256", "train_per_class": 30, "test_per_class": 20, "seed": 0},
        "food_101": {"format": "food_101"},
    }
    values["backbones"] = {
        "resnet101": {"network": "resnet101", "crop": 224},
        "inception_v3": {"network": "inception_v3", "crop": 299},
    }
    values["seeds"] = [0, 1, 2, 3, 4]
    values["training"] |= {"iterations": 9000, "batch_size": 64, "clip_norm": None, "class_weights": None}
    five = [0.0001, 0.001, 0.01, 0.1, 0.2]
    values["grid"] |= {"alpha": five, "beta": five, "folds": [0, 1, 2, 3, 4], "iterations": 9000}
    values["dissection"] |= {"datasets": ["caltech256_30"], "concepts": "data/concepts/broden1_224", "layer": None}
    return values


def test_the_papers_protocol_has_no_deviations():
    assert deviations(paper()) == []


def test_every_deviation_is_listed():
    values = paper()
    values["datasets"]["food_101"]["classes"] = ["ramen", "sushi"]
    values["datasets"]["mit_indoors_67"] = {
        "format": "mit_indoors",
        "networks": {"resnet101": {"network": "resnet50_places365"}},
    }
    values["datasets"]["caltech256_30"]["networks"] = {"resnet101": {"network": "resnet101", "checkpoint": "/a/b.pth"}}
    values["backbones"]["resnet101"]["crop"] = 80
    values["seeds"] = [0, 1]
    values["training"] |= {"iterations": 40, "batch_size": 32, "clip_norm": 20}
    values["training"] |= {"class_weights": "balanced", "precision": "bf16"}
    values["grid"] |= {"alpha": [0.1, 1], "beta": [0.2], "folds": [0, 1], "iterations": 20}
    values["dissection"] |= {"concepts": "/my/concepts", "layer": "layer3.22"}
    assert deviations(values) == [
        "Caltech 256-30 starts from ResNet-101 with the checkpoint b.pth in place of ResNet-101.",
        "2 classes of Food-101 instead of all.",
        "MIT Indoors 67 starts from ResNet-50 (Places365) in place of ResNet-101.",
        "MIT Indoors 67 starts from Inception-V3 without the paper's Places365 weights.",
        "40 iterations of training instead of the paper's 9,000.",
        "Batches of 32 images instead of 64.",
        "Crops of 80 pixels instead of the paper's (ResNet-101: 224, Inception-V3: 299).",
        "2 seeds per method instead of 5.",
        "The gradient of the shared weights is clipped to a norm of 20.",
        "All classes count alike in training, however many images they have (class_weights: balanced).",
        "Training computes the networks in bfloat16, by autocast, instead of float32.",
        "A grid of 2 × 1 values of α and β instead of 5 × 5.",
        "2 folds instead of 5.",
        "20 iterations of training for each cell of the grid.",
        "Networks are dissected on the annotated images in /my/concepts instead of Broden's.",
        "The units of layer layer3.22 are dissected instead of the last stage's.",
    ]
    values["dissection"]["datasets"] = []
    assert not any("dissected" in note for note in deviations(values))


def test_a_run_is_described_by_its_parameters_and_this_machine(times):
    text = (ROOT / "params.yaml").read_text()
    run = describe(paper(), text, {"delta": (0.01, 0.02)}, "abc", times, OPTIONS, TABLE1)
    assert run.profile == "embedded slice"
    assert run.methods == ["L2-FE", "L2", "DELTA"]
    assert (run.parameters, run.fixed, run.commit) == (text, {"delta": (0.01, 0.02)}, "abc")
    assert run.versions["torch"] == metadata.version("torch")
    assert run.machine["Cores"] == str(os.cpu_count())
    assert run.machine["Runs computed on"] == "cpu, NVIDIA A100"


def test_parameters_are_formatted_for_the_page(times):
    values = paper()
    values["datasets"] = {
        "stanford_dogs_120": {
            "format": "stanford_dogs",
            "source": "dogs.py",
            "classes": ["n1-Beagle", "n2-Pug", "n3-Toy"],
        },
        "mit_indoors_67": {
            "format": "mit_indoors",
            "networks": {
                "resnet101": {"network": "resnet50_places365"},
                "tiny": {"network": "timm:resnet10t", "checkpoint": "/a/b.pth"},
            },
        },
    }
    values["backbones"]["tiny"] = {"network": "timm:resnet18", "crop": 64, "mean": [0.5, 0.5, 0.4], "checkpoint": None}
    run = describe(values, "", {}, "abc", times, OPTIONS, TABLE1)
    assert run.datasets == {
        "stanford_dogs_120": {"format": "stanford_dogs", "source": "dogs.py", "classes": 3},
        "mit_indoors_67": {
            "format": "mit_indoors",
            "with ResNet-101:": "network ResNet-50 (Places365)",
            "with tiny:": "network timm:resnet10t, checkpoint /a/b.pth",
        },
    }
    assert run.backbones == {
        "resnet101": {"crop": 224},
        "inception_v3": {"crop": 299},
        "tiny": {"network": "timm:resnet18", "crop": 64, "mean": "0.5 0.5 0.4"},
    }


def test_the_commit_and_uncommitted_changes(tmp_path):
    clone = Clone(tmp_path / "clone")
    (clone.root / "reports").mkdir(parents=True)
    assert commit(clone.root) == "not in a git repository"
    clone.run("git", "init", "-q")
    for name in ("dvc.lock", "code.py", "params.yaml", "reports/metrics.json"):
        (clone.root / name).write_text("1")
    clone.commit()
    head = clone.run("git", "rev-parse", "HEAD")[:12]
    for name in ("dvc.lock", "params.yaml", "reports/metrics.json"):
        (clone.root / name).write_text("2")
    assert commit(clone.root) == head
    (clone.root / "code.py").write_text("2")
    assert commit(clone.root) == f"{head}, with changes that are not committed"
