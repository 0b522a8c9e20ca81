"""Which stages a change of code or parameters makes stale, by the code that dvc.yaml lists and by `dvc status`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from tests.helpers.clone import Clone
from tests.helpers.imports import ROOT, closure, has_code

# Code that no result depends on: parameters, paths, the command line, signals, messages, atomic files. Published data
# depend on how they are downloaded and unpacked, so these two modules are listed.
NOT_LISTED = ("stages/__init__.py", "stages/common", "delta/io")
LISTED_ANYWAY = ("delta/io/archives.py", "delta/io/downloads.py")
# Modules that are imported by name at run time, so a stage depends only on the one that it uses.
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


def is_not_listed(file: Path) -> bool:
    name = str(file.relative_to(ROOT))
    return name not in LISTED_ANYWAY and any(name == part or name.startswith(f"{part}/") for part in NOT_LISTED)


def code_of(stage: str) -> tuple[Path, list[str]]:
    """A stage's script, and the code in its dependencies."""
    definition = DEFINITIONS[stage].get("do", DEFINITIONS[stage])
    script = re.search(r"python -m stages\.(\w+)", definition["cmd"])[1]
    deps = [dep for dep in definition["deps"] if dep.startswith(("delta/", "stages/"))]
    return ROOT / "stages" / f"{script}.py", deps


@pytest.mark.parametrize("stage", DEFINITIONS)
def test_a_stage_lists_all_the_code_that_its_script_imports(stage):
    script, deps = code_of(stage)
    listed = [ROOT / dep for dep in deps]
    for module in {script, *closure(script, is_not_listed)}:
        assert any(module == dep or dep in module.parents for dep in listed), f"lacks {module.relative_to(ROOT)}"


@pytest.mark.parametrize("stage", DEFINITIONS)
def test_a_stage_lists_no_code_that_its_script_does_not_import(stage):
    script, deps = code_of(stage)
    needed = {script, *closure(script, is_not_listed)}
    # A format or method that is chosen at run time also needs the modules that it imports.
    for dep in CHOSEN_AT_RUN_TIME.intersection(deps):
        for file in ROOT.glob(re.sub(r"\$\{.*\}", "*", dep)):
            needed |= {file, *closure(file, is_not_listed)}
    for dep in set(deps) - CHOSEN_AT_RUN_TIME:
        files = {ROOT / dep} if dep.endswith(".py") else set((ROOT / dep).rglob("*.py"))
        unused = {file for file in files - needed if has_code(file)}
        # The report finds its tables at run time, and its stages share all other modules.
        assert dep == "delta/report" or not unused, f"{dep}: {unused}"


@pytest.fixture(scope="module")
def up_to_date(tmp_path_factory) -> Clone:
    """A clone with synthetic outputs of all stages, which DVC considers up to date."""
    clone = Clone.of_project(tmp_path_factory.mktemp("dependencies") / "clone")
    with Repo(str(clone.root)) as repo:
        stages = repo.index.stages
        outputs = [Path(out.fs_path) for stage in stages for out in stage.outs]
        within_outputs = [Path(dep.fs_path) for stage in stages for dep in stage.deps]
    for path in [*outputs, *within_outputs]:
        # Paths without a suffix are folders, except for the two markers of check_params.
        file = path if path.suffix or path.name in ("params_checked", "fixed") else path / "made_up"
        if not path.exists() or path in outputs:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("made up\n")
    clone.run("dvc", "commit", "--force", "--quiet")
    clone.commit()
    assert clone.stale() == set()
    return clone


@pytest.fixture
def clone(up_to_date) -> Clone:
    yield up_to_date
    up_to_date.run("git", "reset", "-q", "--hard")
    up_to_date.run("git", "clean", "-fdq")


def append(clone: Clone, name: str, text: str = "\n# a change\n") -> None:
    file = clone.root / name
    assert file.exists()
    file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_a_new_data_set_module_makes_nothing_stale(clone):
    (clone.root / "delta/datasets/pets.py").write_text('"""Pets."""\n\n\ndef read(root):\n    ...\n')
    assert clone.stale() == set()


def test_a_new_method_module_makes_nothing_stale_until_it_is_used(clone):
    (clone.root / "delta/methods/half.py").write_text(
        "from delta.methods.base import Method\n\n\nclass Half(Method):\n    label = 'Half'\n"
    )
    assert clone.stale() == set()
    methods = yaml.safe_load(clone.read("params.yaml"))["methods"]
    clone.edit_params(methods=[*methods, "half"], half={"alpha": 0.01})
    new = {f"train@{ITEM}-half-{seed}" for seed in range(3)} | {f"normalize_attention@{ITEM}-half"}
    assert clone.stale() == {"check_params", f"select@{ITEM}", *new, *REPORT}


def test_code_that_no_result_depends_on_makes_nothing_stale(clone):
    append(clone, "stages/common/paths.py", "\n\ndef new_table(dataset: str) -> Path:\n    return DATA / dataset\n")
    append(clone, "stages/common/command.py", "\n_SECONDS_TO_END = 8\n")
    for file in ("stages/__init__.py", "delta/io/signals.py", "delta/predict/classifier.py", "cluster/repro.py"):
        append(clone, file)
    assert clone.stale() == set()


def test_the_grid_config_makes_only_the_grid_and_its_figure_stale(clone):
    folds = {f"cross_validate@{ITEM}-{fold}" for fold in range(5)}
    append(clone, "delta/analysis/grid_config.py")
    assert clone.stale() == folds
    clone.run("git", "reset", "-q", "--hard")
    cells = clone.root / f"data/cross_validation/best/{ITEM.replace('-', '/')}/0.csv"
    before = cells.read_text()
    cells.unlink()  # it may be a link to DVC's cache
    cells.write_text("other cells\n")
    assert clone.stale() == {f"cross_validate@{ITEM}-0", "figures"}
    cells.write_text(before)


def test_select_depends_on_the_grid_only_with_best(clone):
    grid = yaml.safe_load(clone.read("params.yaml"))["grid"]
    clone.edit_params(grid=grid | {"select": "best"})
    assert clone.stale() == {"check_params", f"select@{ITEM}", *REPORT}


def test_report_code_makes_only_the_report_stale(clone):
    append(clone, "delta/report/statistics.py")
    assert clone.stale() == REPORT


def test_a_method_module_makes_only_its_own_runs_stale(clone):
    append(clone, "delta/methods/l2_sp_att.py")
    seeds = range(3)
    runs = {f"{stage}@{ITEM}-l2_sp_att-{seed}" for stage in ("train", "train_improved") for seed in seeds}
    assert clone.stale() == runs | {f"normalize_attention@{ITEM}-l2_sp_att"}


def test_a_data_set_module_makes_only_its_download_stale(clone):
    append(clone, "delta/datasets/drawn.py")
    assert clone.stale() == {"download@drawn_30"}


def test_the_attention_seed_makes_the_attention_stale(clone):
    attention = yaml.safe_load(clone.read("params.yaml"))["attention"]
    clone.edit_params(attention=attention | {"seed": 1})
    assert clone.stale() == {"check_params", f"estimate_attention@{ITEM}", *REPORT}
