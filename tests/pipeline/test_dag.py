"""Tests of the DAG with DVC in a temporary clone, on a very small slice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.clone import Clone
from tests.helpers.small_slice import FIGURES, ITEM, SMALL, STAGES, TABLES, reproduce


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory) -> Clone:
    """A small slice, reproduced from an empty cache and committed."""
    return reproduce(tmp_path_factory.mktemp("pipeline") / "clone", SMALL, STAGES)


def test_repro_writes_the_report_and_the_runs(clone):
    nested = json.loads(clone.read("reports/metrics.json"))
    assert list(nested["drawn_30"]["efficientnet_lite0"]) == ["probe", "l2_fe", "l2_sp", "delta"]
    assert "| drawn_30 |" in clone.read("reports/tables/table1.md")
    tables = {f"{name}.{suffix}" for name in TABLES for suffix in ("md", "csv", "tex")}
    assert {file.name for file in (clone.root / "reports/tables").iterdir()} == tables
    assert {file.stem for file in (clone.root / "reports/figures").iterdir()} == FIGURES
    shown = json.loads(clone.run("dvc", "metrics", "show", "--json"))[""]["data"]
    assert shown["reports/metrics.json"]["data"] == nested
    assert "<h1" in clone.read("reports/index.html")
    run = clone.root / "runs/drawn_30/efficientnet_lite0/delta/0"
    assert {file.name for file in run.iterdir()} == {"weights.safetensors", "curves", "predictions.csv", "result.json"}
    result = json.loads((run / "result.json").read_text())
    assert result["top1"] == nested["drawn_30"]["efficientnet_lite0"]["delta"]["per_seed"]["0"]
    assert result["classes"][:2] == ["airplane", "bicycle"]


def test_a_second_repro_runs_nothing(clone):
    assert clone.stages_run("repro") == set()
    assert clone.run("git", "status", "--porcelain") == ""


@pytest.mark.slice
def test_a_comment_in_a_script_runs_only_that_stage(clone):
    script = clone.root / "stages/fetch_weights.py"
    script.write_text(script.read_text() + "# a comment\n")
    assert clone.stages_run("repro") == {f"fetch_weights@{ITEM}"}


@pytest.mark.slice
def test_a_fresh_clone_pulls_everything(clone, tmp_path):
    clone.run("dvc", "remote", "add", "-d", "storage", str(tmp_path / "storage"))
    clone.run("git", "commit", "-q", "-a", "-m", "remote")
    clone.run("dvc", "push", "-q")
    fresh = Clone(tmp_path / "fresh")
    clone.run("git", "clone", "-q", str(clone.root), str(fresh.root))
    assert fresh.stages_run("repro", "--pull") == set()
    assert fresh.run("dvc", "status").startswith("Data and pipelines are up to date.")
    run = "runs/drawn_30/efficientnet_lite0/delta/0/weights.safetensors"
    assert (fresh.root / run).read_bytes() == (clone.root / run).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["l2", "foo"]}, "error: params.yaml: methods: 'foo' is no method"),
        ({"seeds": [0, 0]}, "error: params.yaml: seeds: listed more than once: 0"),
        ({"grid": SMALL["grid"] | {"datasets": ["cub"]}}, "error: params.yaml: grid.datasets: 'cub' is none of"),
        ({"detla": {"alpha": 1}}, "error: params.yaml: detla: unknown parameter"),
    ],
)
def test_bad_parameters_stop_the_pipeline_in_one_line(clone, changes, message):
    """This tries lists that define the DAG, and an unknown key; tests/stages/test_params.py tests all messages."""
    lock, cached = clone.read("dvc.lock"), set((clone.root / ".dvc/cache").rglob("*"))
    clone.edit_params(**changes)
    done = clone.call("dvc", "repro")
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert clone.read("dvc.lock") == lock
    assert set((clone.root / ".dvc/cache").rglob("*")) == cached


def photographs(root: Path) -> dict:
    for number, label in enumerate(("cat", "dog")):
        (root / label).mkdir(parents=True)
        for image in range(5):
            Image.new("RGB", (50, 40), (90 * number, 40 * image, 0)).save(root / label / f"{image}.jpg")
    section = {"format": "folder", "source": str(root), "train_per_class": 3, "test_per_class": 2, "seed": 0}
    return {"mine": section}


@pytest.mark.slice
def test_new_photographs_run_the_download_again(clone, tmp_path):
    clone.edit_params(datasets=photographs(tmp_path / "photographs"))
    split = "split@mine-efficientnet_lite0"
    assert clone.stages_run("repro", split) == {"check_params", "download@mine", split}
    assert clone.stages_run("repro", split) == set()
    Image.new("RGB", (60, 60)).save(tmp_path / "photographs/cat/new.png")
    assert clone.stages_run("repro", split) == {"download@mine", split}


@pytest.mark.slice
def test_bad_photographs_stop_the_pipeline_and_leave_nothing(clone, tmp_path):
    clone.edit_params(datasets=photographs(tmp_path / "photographs"))
    for name in ("cat/bad.jpg", "dog/worse.jpg"):
        (tmp_path / "photographs" / name).write_text("no image")
    done = clone.call("dvc", "repro")
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "cat/bad.jpg" in errors[0]
    assert "dog/worse.jpg" in errors[0]
    assert "Traceback" not in done.stderr
    assert not list((clone.root / "data/raw").glob("*mine*"))
    assert "download@mine" not in clone.read("dvc.lock")


PER_PAIR = ("split", "pack_whole", "fetch_weights", "extract_features", "train_probe", "grid_settings")


def test_the_number_of_stages_in_the_papers_dag(tmp_path):
    """The paper has six data sets, two networks and five seeds; Figures 3 to 5 have one data set and one network.

    Table 3 has five rows on one data set, Table 4 has two rows on four, and Figures 6 and 7 have one data set each.
    """
    clone = Clone.of_project(tmp_path / "clone")
    (clone.root / "params.yaml").write_text(clone.read("profiles/paper.yaml"))
    names = clone.run("dvc", "stage", "list", "--name-only").split()
    counts = Counter(name.partition("@")[0] for name in names)
    of_pairs = dict.fromkeys(PER_PAIR, 6 * 2)
    runs = {
        "train_l2_fe": 6 * 2 * 5,
        "estimate_attention": 6 * 2 * 5,
        "train": 6 * 2 * 5 * 5,
        "train_improved": 6 * 2 * 4 * 5,
        "train_exponential": 2 * 5,
    }
    analyses = {"measure_filter_distances": 1, "measure_parts": 5, "dissect": 4 * 2 * 5, "measure_activation_maps": 2}
    once = dict.fromkeys(["check_params", "download_concepts", "tables", "figures", "page"], 1)
    rest = {"download": 6, "normalize_attention": 6 * 2 * 5, "select": 6 * 2 * 5, "cross_validate": 5}
    assert counts == of_pairs | runs | analyses | once | rest
    assert "train@caltech256_30-resnet101-delta-0" in names
