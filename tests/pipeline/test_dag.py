"""The DAG's contracts, each tried with DVC itself in a throw-away clone on a very small slice."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from tests.helpers.clone import ROOT, Clone
from PIL import Image

SMALL = {
    "datasets": {
        "drawn_30": {
            "format": "drawn",
            "source": "delta/datasets/drawn.py",
            "train_per_class": 3,
            "test_per_class": 2,
            "seed": 0,
        }
    },
    "backbones": {
        "efficientnet_lite0": {"network": "efficientnet_lite0", "resize": 40, "crop": 32, "learning_rate": 0.01}
    },
    "methods": ["l2_sp", "delta"],
    "seeds": [0],
    "training": {
        "iterations": 4,
        "batch_size": 8,
        "momentum": 0.9,
        "decay_after": 3,
        "decay_factor": 0.1,
        "clip_norm": 20,
        "precision": "fp32",
    },
    # Table 1 alone; tests/test_protocol.py has the rest.
    "improved_view": {"datasets": [], "backbones": [], "methods": ["l2"]},
    "learning_curves": {"datasets": [], "backbones": [], "methods": ["delta"], "decay_per_epoch": 0.5},
    "filter_distances": {"datasets": [], "backbones": []},
    "part_activation": {"datasets": [], "backbones": [], "methods": ["l2_fe", "delta"]},
    "dissection": {
        "datasets": [],
        "backbones": [],
        "methods": ["l2_sp", "delta"],
        "concepts": "data/raw/drawn_30/broden",
        "published": [],
        "layer": None,
    },
    "activation_maps": {"datasets": [], "backbones": [], "seed": 0, "images": 2, "filters": 1},
    "grid": {
        "datasets": [],
        "backbones": [],
        "alpha": [0.001, 0.1],
        "beta": [0.1],
        "folds": [0, 1],
        "iterations": 2,
        "estimator": "fisher",
        "seed": 0,
    },
}
ITEM = "drawn_30-efficientnet_lite0"
STAGES = {
    "check_params",
    "download@drawn_30",
    f"split@{ITEM}",
    f"fetch_weights@{ITEM}",
    f"train_l2_fe@{ITEM}-0",
    f"estimate_attention@{ITEM}",
    f"normalize_attention@{ITEM}",
    f"select@{ITEM}",
    f"train@{ITEM}-l2_sp-0",
    f"train@{ITEM}-delta-0",
    "tables",
    "figures",
    "page",
}
REPORT = {"tables", "figures", "page"}
OF_DELTA = {f"train@{ITEM}-delta-0", *REPORT}

DELTA = {"select": "fixed", "alpha": 0.01, "beta": 0.01, "weight_decay": 0, "scale": "source", "rectify": True}


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory) -> Clone:
    """A small slice, reproduced from an empty cache and committed."""
    clone = Clone.of_project(tmp_path_factory.mktemp("pipeline") / "clone")
    clone.edit_params(**SMALL)
    assert clone.stages_run("repro") == STAGES
    clone.commit()
    return clone


@pytest.fixture
def clone(reproduced) -> Clone:
    yield reproduced
    reproduced.restore()


def outputs(clone: Clone) -> dict[str, dict[str, str]]:
    """By stage, the checksum of each output, from dvc.lock; without the page, which says how long everything took."""
    stages = yaml.safe_load(clone.read("dvc.lock"))["stages"]
    return {
        name: {out["path"]: out["md5"] for out in stage["outs"]} for name, stage in stages.items() if name != "page"
    }


def test_results_are_where_they_belong(clone):
    nested = json.loads(clone.read("reports/metrics.json"))
    assert list(nested["drawn_30"]["efficientnet_lite0"]) == ["l2_fe", "l2_sp", "delta"]
    assert "| drawn_30 |" in clone.read("reports/tables/table1.md")
    tables = {"table1.md", "table1.csv", "table1.tex"}
    assert {file.name for file in (clone.root / "reports/tables").iterdir()} == tables
    assert {file.stem for file in (clone.root / "reports/figures").iterdir()} == {"accuracy"}
    shown = json.loads(clone.run("dvc", "metrics", "show", "--json"))[""]["data"]
    assert shown["reports/metrics.json"]["data"] == nested
    assert "<h1" in clone.read("reports/index.html")
    run = clone.root / "runs/drawn_30/efficientnet_lite0/delta/0"
    assert {file.name for file in run.iterdir()} == {"weights.safetensors", "curves", "result.json"}
    result = json.loads((run / "result.json").read_text())
    assert result["top1"] == nested["drawn_30"]["efficientnet_lite0"]["delta"]["per_seed"]["0"]
    assert result["classes"][:2] == ["airplane", "bicycle"]


def test_a_second_repro_runs_nothing(clone):
    assert clone.stages_run("repro") == set()
    assert clone.run("git", "status", "--porcelain") == ""


def test_an_experiment_runs_what_depends_on_its_parameter(clone):
    before, before_metrics = outputs(clone), json.loads(clone.read("reports/metrics.json"))
    assert clone.stages_run("exp", "run", "-S", "delta.alpha=0.1") == OF_DELTA
    after, after_metrics = outputs(clone), json.loads(clone.read("reports/metrics.json"))
    changed = {name for name in before if before[name] != after[name]}
    assert f"train@{ITEM}-delta-0" in changed
    assert changed <= OF_DELTA
    for method in ("l2_fe", "l2_sp"):
        old, new = (m["drawn_30"]["efficientnet_lite0"][method] for m in (before_metrics, after_metrics))
        assert old == new
    diff = json.loads(clone.run("dvc", "metrics", "diff", "--json")).get("diff", {}).get("reports/metrics.json", {})
    assert all(name.startswith("drawn_30.efficientnet_lite0.delta.") for name in diff)


def test_a_comment_in_a_script_runs_that_stage_alone(clone):
    script = clone.root / "stages/fetch_weights.py"
    script.write_text(script.read_text() + "# a comment\n")
    assert clone.stages_run("repro") == {f"fetch_weights@{ITEM}"}


def test_everything_is_pulled_into_a_fresh_clone(clone, tmp_path):
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
        (
            {"backbones": {"vgg": SMALL["backbones"]["efficientnet_lite0"] | {"network": "vgg"}}},
            "backbones.vgg.network: 'vgg' is none of resnet101",
        ),
        ({"seeds": [0, 0]}, "error: params.yaml: seeds: 0 stands there more than once"),
        ({"delta": DELTA | {"alpha": -1}}, "error: params.yaml: delta.alpha"),
        (
            {"delta": DELTA | {"select": "best"}},
            "error: params.yaml: delta.select: BackboneConfig should be 'fixed' or 'grid'",
        ),
        (
            {"grid": SMALL["grid"] | {"datasets": ["cub"]}},
            "error: params.yaml: grid.datasets: 'cub' is none of",
        ),
        ({"grid": SMALL["grid"] | {"beta": []}}, "error: params.yaml: grid.beta: the grid is empty"),
        ({"detla": {"alpha": 1}}, "error: params.yaml: detla: unknown parameter"),
        ({"seeds": []}, "error: params.yaml: seeds: "),
        ({"seeds": [1]}, "attention.seed (0) is none of seeds ([1])"),
        (
            {"dissection": SMALL["dissection"] | {"published": ["broden"]}},
            "error: params.yaml: dissection.published.0: BackboneConfig should be 'broden1_224'",
        ),
    ],
)
def test_bad_parameters_stop_the_pipeline_in_one_line(clone, changes, message):
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


def test_new_photographs_are_noticed(clone, tmp_path):
    clone.edit_params(datasets=photographs(tmp_path / "photographs"))
    split = "split@mine-efficientnet_lite0"
    assert clone.stages_run("repro", split) == {"check_params", "download@mine", split}
    assert clone.stages_run("repro", split) == set()
    Image.new("RGB", (60, 60)).save(tmp_path / "photographs/cat/new.png")
    assert clone.stages_run("repro", split) == {"download@mine", split}


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


def test_the_readme_draws_the_dag(tmp_path):
    """With every experiment that the committed parameters ask for."""
    clone = Clone.of_project(tmp_path / "clone")
    dot = clone.run("dvc", "dag", "--dot", "--collapse-foreach-matrix")
    drawn = re.search(r"```mermaid\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    assert set(re.findall(r"(\w+) --> (\w+)", drawn)) == set(re.findall(r'"(\w+)" -> "(\w+)"', dot))


def test_the_paper_s_dag(tmp_path):
    """Counted by hand from the paper: six data sets, two networks, five seeds; Figures 3 to 5 on one of each.

    Table 3 has five rows on one data set, Table 4 two on four, and Figures 6 and 7 are of a data set each.
    """
    clone = Clone.of_project(tmp_path / "clone")
    (clone.root / "params.yaml").write_text(clone.read("profiles/paper.yaml"))
    names = clone.run("dvc", "stage", "list", "--name-only").split()
    counts = Counter(name.partition("@")[0] for name in names)
    of_pairs = dict.fromkeys(("split", "pack_whole", "fetch_weights", "estimate_attention", "select"), 6 * 2)
    runs = {
        "train_l2_fe": 6 * 2 * 5,
        "train": 6 * 2 * 5 * 5,
        "train_improved": 6 * 2 * 4 * 5,
        "train_exponential": 2 * 5,
    }
    analyses = {"measure_filter_distances": 1, "measure_parts": 5, "dissect": 4 * 2 * 5, "draw_activation_maps": 2}
    once = dict.fromkeys(["check_params", "download_concepts", "tables", "figures", "page"], 1)
    rest = {"download": 6, "normalize_attention": 12, "cross_validate": 5}
    assert counts == of_pairs | runs | analyses | once | rest
    assert "train@caltech256_30-resnet101-delta-0" in names


# They check and report and shape no result.
CHECKS = {ROOT / "delta" / name for name in ("params.py", "errors.py", "files.py")}


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imported_modules(file: Path, seen: set[Path]) -> set[Path]:
    """The project's own files that a file imports, directly or not, but for `CHECKS` and packages without code."""
    for node in ast.walk(parsed(file)):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            place = ROOT.joinpath(*name.split("."))
            for found in (place.with_suffix(".py"), place / "__init__.py"):
                if found.is_file() and found not in seen | CHECKS and len(parsed(found).body) > 1:
                    seen.add(found)
                    imported_modules(found, seen)
    return seen


@pytest.mark.parametrize("stage", yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
def test_a_stage_depends_on_all_the_code_it_runs(stage):
    definition = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    deps = [ROOT / dep for dep in definition.get("do", definition)["deps"]]
    name = re.search(r"python -m stages\.(\w+)", definition.get("do", definition)["cmd"])[1]
    script = ROOT / "stages" / f"{name}.py"
    for module in imported_modules(script, {script}):
        assert any(module == dep or dep in module.parents for dep in deps), f"{stage} lacks {module.relative_to(ROOT)}"
