"""What a change of code or parameters makes DVC run again: the code that dvc.yaml lists, and `dvc status` itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from tests.helpers.clone import Clone
from tests.helpers.imports import ROOT, closure

# What no result depends on: parameters as such, paths, the command line, signals, messages, atomic files. What arrives
# from a publisher depends on how it is downloaded and unpacked, so these two are watched.
UNWATCHED = ("stages/__init__.py", "stages/common", "delta/io")
WATCHED_ALL_THE_SAME = ("delta/io/archives.py", "delta/io/downloads.py")
# Imported by name at run time, so that a stage depends on its own one alone.
CHOSEN_AT_RUN_TIME = {
    "delta/datasets/${item.format}.py",
    "delta/datasets/fetching.py",
    "delta/methods/${item.method}.py",
    "delta/methods/delta.py",
    "delta/methods/l2_fe.py",
}

DEFINITIONS = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
ITEM = "drawn_30-efficientnet_lite0"
REPORT = {"tables", "figures", "page"}


def is_unwatched(file: Path) -> bool:
    name = str(file.relative_to(ROOT))
    return name not in WATCHED_ALL_THE_SAME and any(name == part or name.startswith(f"{part}/") for part in UNWATCHED)


def code_of(stage: str) -> tuple[Path, list[str]]:
    """A stage's script, and the code among its dependencies."""
    definition = DEFINITIONS[stage].get("do", DEFINITIONS[stage])
    script = re.search(r"python -m stages\.(\w+)", definition["cmd"])[1]
    deps = [dep for dep in definition["deps"] if dep.startswith(("delta/", "stages/"))]
    return ROOT / "stages" / f"{script}.py", deps


@pytest.mark.parametrize("stage", DEFINITIONS)
def test_a_stage_lists_all_the_code_that_its_script_imports(stage):
    script, deps = code_of(stage)
    listed = [ROOT / dep for dep in deps]
    for module in {script, *closure(script, is_unwatched)}:
        assert any(module == dep or dep in module.parents for dep in listed), f"lacks {module.relative_to(ROOT)}"


@pytest.mark.parametrize("stage", DEFINITIONS)
def test_a_stage_lists_no_code_that_its_script_does_not_import(stage):
    script, deps = code_of(stage)
    needed = {script, *closure(script, is_unwatched)}
    # A format or method that is chosen at run time brings the modules that it imports itself.
    for dep in CHOSEN_AT_RUN_TIME.intersection(deps):
        for file in ROOT.glob(re.sub(r"\$\{.*\}", "*", dep)):
            needed |= {file, *closure(file, is_unwatched)}
    for dep in deps:
        assert dep in CHOSEN_AT_RUN_TIME or any(ROOT / dep in (file, *file.parents) for file in needed), dep


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Clone:
    """A clone in which every output of every stage is there, though made up, and up to date by DVC's books."""
    clone = Clone.of_project(tmp_path_factory.mktemp("dependencies") / "clone")
    with Repo(str(clone.root)) as repo:
        stages = repo.index.stages
        outputs = [Path(out.fs_path) for stage in stages for out in stage.outs]
        within_outputs = [Path(dep.fs_path) for stage in stages for dep in stage.deps]
    for path in [*outputs, *within_outputs]:
        # Paths without a suffix are folders, but for the two markers of check_params.
        file = path if path.suffix or path.name in ("params_checked", "fixed") else path / "made_up"
        if not path.exists() or path in outputs:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("made up\n")
    clone.run("dvc", "commit", "--force", "--quiet")
    clone.commit()
    assert clone.stale() == set()
    return clone


@pytest.fixture
def clone(pristine) -> Clone:
    yield pristine
    pristine.run("git", "reset", "-q", "--hard")
    pristine.run("git", "clean", "-fdq")


def append(clone: Clone, name: str, text: str = "\n# a change\n") -> None:
    file = clone.root / name
    assert file.exists()
    file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_a_new_data_set_module_makes_nothing_stale(clone):
    (clone.root / "delta/datasets/pets.py").write_text('"""Pets."""\n\n\ndef read(root):\n    ...\n')
    assert clone.stale() == set()


def test_a_new_method_s_module_makes_nothing_stale_until_it_is_named(clone):
    (clone.root / "delta/methods/half.py").write_text(
        "from delta.methods.base import Method\n\n\nclass Half(Method):\n    label = 'Half'\n"
    )
    assert clone.stale() == set()
    methods = yaml.safe_load(clone.read("params.yaml"))["methods"]
    clone.edit_params(methods=[*methods, "half"], half={"alpha": 0.01})
    new = {f"train@{ITEM}-half-{seed}" for seed in range(3)} | {f"normalize_attention@{ITEM}-half"}
    assert clone.stale() == {"check_params", f"select@{ITEM}", *new, *REPORT}


def test_what_shapes_no_result_makes_nothing_stale(clone):
    append(clone, "stages/common/paths.py", "\n\ndef new_table(dataset: str) -> Path:\n    return DATA / dataset\n")
    append(clone, "stages/common/command.py", "\n_SECONDS_TO_END = 8\n")
    for file in ("stages/__init__.py", "delta/io/signals.py", "delta/predict/classifier.py", "cluster/repro.py"):
        append(clone, file)
    assert clone.stale() == set()


def test_the_shortened_training_of_a_cell_makes_the_grid_stale_and_what_reads_it(clone):
    folds = {f"cross_validate@{ITEM}-{fold}" for fold in range(5)}
    append(clone, "delta/analysis/grid_config.py")
    assert clone.stale() == folds
    clone.run("git", "reset", "-q", "--hard")
    cells = clone.root / f"data/cross_validation/best/{ITEM.replace('-', '/')}/0.csv"
    before = cells.read_text()
    cells.unlink()  # DVC may have linked it to its cache
    cells.write_text("other cells\n")
    assert clone.stale() == {f"cross_validate@{ITEM}-0", "figures"}
    cells.write_text(before)


def test_the_grid_s_choice_is_waited_for_only_if_it_is_taken(clone):
    grid = yaml.safe_load(clone.read("params.yaml"))["grid"]
    clone.edit_params(grid=grid | {"select": "best"})
    assert clone.stale() == {"check_params", f"select@{ITEM}", *REPORT}


def test_the_report_makes_the_report_stale(clone):
    append(clone, "delta/report/statistics.py")
    assert clone.stale() == REPORT


def test_a_method_makes_its_own_runs_stale(clone):
    append(clone, "delta/methods/l2_sp_att.py")
    seeds = range(3)
    runs = {f"{stage}@{ITEM}-l2_sp_att-{seed}" for stage in ("train", "train_improved") for seed in seeds}
    assert clone.stale() == runs | {f"normalize_attention@{ITEM}-l2_sp_att"}


def test_a_data_set_s_module_makes_its_download_stale(clone):
    append(clone, "delta/datasets/drawn.py")
    assert clone.stale() == {"download@drawn_30"}


def test_the_seed_of_the_attention_is_followed(clone):
    attention = yaml.safe_load(clone.read("params.yaml"))["attention"]
    clone.edit_params(attention=attention | {"seed": 1})
    assert clone.stale() == {"check_params", f"estimate_attention@{ITEM}", *REPORT}
