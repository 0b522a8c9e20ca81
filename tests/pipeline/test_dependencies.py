"""Which stages a change of code or parameters makes stale, by the code that dvc.yaml lists and by `dvc status`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
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
    "delta/methods/${item.run.method}.py",
    "delta/methods/${item.run.start}.py",
    *(f"delta/methods/{method}.py" for method in ("delta", "l2", "l2_fe", "l2_sp", "probe")),
}

DEFINITIONS = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
ITEM = "drawn_30-efficientnet_lite0"
FOLDER = ITEM.replace("-", "/")
REPORT = {"tables", "figures", "page"}
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PARAMS |= {  # more methods than the slice trains
    "methods": [*PARAMS["methods"], "co_tuning"],
    "started": [{"method": "wise_ft", "start": "l2"}],
    "co_tuning": {"lambda_": 2.3},
    "wise_ft": {"alpha": 0.5},
}
METHODS, SEEDS, FOLDS = PARAMS["methods"], PARAMS["seeds"], PARAMS["grid"]["folds"]
SELECTS = {f"select_started@{ITEM}-run0", *(f"select@{ITEM}-{method}" for method in METHODS)}
STARTED = {f"train_started@{ITEM}-run0-{seed}" for seed in SEEDS}


def runs_of(method: str) -> set[str]:
    """The stage items that train with a method."""
    runs = {f"train@{ITEM}-{method}-{seed}" for seed in SEEDS}
    for name, stage in (("improved_view", "train_improved"), ("learning_curves", "train_exponential")):
        if method in PARAMS[name]["methods"]:
            runs |= {f"{stage}@{ITEM}-{method}-{seed}" for seed in PARAMS[name]["seeds"]}
    return runs


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
    clone.edit_params(**PARAMS)
    with Repo(str(clone.root)) as repo:
        stages = repo.index.stages
        outputs = [Path(out.fs_path) for stage in stages for out in stage.outs]
        within_outputs = [Path(dep.fs_path) for stage in stages for dep in stage.deps]
    for path in [*outputs, *within_outputs]:
        # Paths without a suffix are folders, except for the marker of check_params.
        file = path if path.suffix or path.name == "params_checked" else path / "made_up"
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


@contextmanager
def replaced(clone: Clone, name: str, text: str = "another result\n") -> Iterator[None]:
    """Replace an output within the block; it may be a link to DVC's cache."""
    file = clone.root / name
    before = file.read_bytes()
    file.unlink()
    file.write_text(text)
    yield
    file.unlink()
    file.write_bytes(before)


def section(clone: Clone, name: str) -> dict:
    return yaml.safe_load(clone.read("params.yaml"))[name]


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
    new = {f"train@{ITEM}-half-{seed}" for seed in SEEDS}
    new |= {f"{stage}@{ITEM}-half" for stage in ("normalize_attention", "select")}
    assert clone.stale() == {"check_params", *new, *REPORT}


def test_code_that_no_result_depends_on_makes_nothing_stale(clone):
    append(clone, "stages/common/paths.py", "\n\ndef new_table(dataset: str) -> Path:\n    return DATA / dataset\n")
    append(clone, "stages/common/command.py", "\n_SECONDS_TO_END = 8\n")
    for file in ("stages/__init__.py", "delta/io/signals.py", "delta/predict/classifier.py", "cluster/repro.py"):
        append(clone, file)
    assert clone.stale() == set()


def test_the_grid_config_makes_only_the_grid_stale(clone):
    append(clone, "delta/analysis/grid_config.py")
    assert clone.stale() == {f"cross_validate@{ITEM}-delta-{fold}" for fold in FOLDS}


def test_another_grid_makes_the_choice_and_the_figure_stale_but_no_run(clone):
    """The choice waits for the grid of its data set; unless it is another one, DVC then trains nothing again."""
    with replaced(clone, f"data/cross_validation/{FOLDER}/delta/0.csv"):
        assert clone.stale() == {f"cross_validate@{ITEM}-delta-0", *SELECTS, "tables", "figures"}


def test_select_grid_makes_the_methods_choice_and_runs_stale(clone):
    clone.edit_params(delta=section(clone, "delta") | {"select": "grid"})
    assert clone.stale() == {f"grid_settings@{ITEM}-delta", f"select@{ITEM}-delta", *runs_of("delta"), *REPORT}


def test_another_alpha_leaves_the_recommendation_alone(clone):
    clone.edit_params(delta=section(clone, "delta") | {"alpha": 0.2})
    assert f"recommend@{ITEM.partition('-')[0]}" not in clone.stale()


def test_another_scale_makes_the_recommendation_stale(clone):
    clone.edit_params(delta=section(clone, "delta") | {"scale": "sum"})
    assert f"recommend@{ITEM.partition('-')[0]}" in clone.stale()


def test_another_method_of_the_grid_adds_its_folds(clone):
    clone.edit_params(grid=section(clone, "grid") | {"methods": ["delta", "l2_sp"]})
    folds = {f"cross_validate@{ITEM}-l2_sp-{fold}" for fold in FOLDS}
    assert clone.stale() == {"check_params", f"grid_settings@{ITEM}-l2_sp", *folds, *REPORT}


def test_the_grid_is_searched_again_only_for_what_it_does_not_replace(clone):
    """The stage that writes the settings runs for real; the changes then show whether its output is another."""
    settings, folds = f"grid_settings@{ITEM}-delta", {f"cross_validate@{ITEM}-delta-{fold}" for fold in FOLDS}
    delta = section(clone, "delta")
    with replaced(clone, f"data/cross_validation/{FOLDER}/delta/settings.json"):
        clone.run("dvc", "repro", "-s", "-f", settings)
        clone.run("dvc", "commit", "-f", "-q", *folds)
        clone.edit_params(delta=delta | {"alpha": 0.5, "beta": 0.5, "select": "grid"})
        assert clone.stages_run("repro", "-s", settings) == {settings}
        assert not folds & clone.stale()
        clone.edit_params(delta=delta | {"scale": "equation"})
        assert clone.stages_run("repro", "-s", settings) == {settings}
        assert folds <= clone.stale()


def test_report_code_makes_only_the_report_stale(clone):
    append(clone, "delta/report/statistics.py")
    assert clone.stale() == REPORT


def test_a_method_module_makes_only_its_own_runs_stale(clone):
    append(clone, "delta/methods/l2_sp_att.py")
    own = {f"{stage}@{ITEM}-l2_sp_att" for stage in ("normalize_attention", "select")}
    assert clone.stale() == runs_of("l2_sp_att") | own


def test_another_lambda_trains_co_tuning_again_alone(clone):
    """As `dvc exp run -S co_tuning.lambda_=1` would."""
    clone.edit_params(co_tuning={"lambda_": 1})
    assert clone.stale() == {f"select@{ITEM}-co_tuning", *runs_of("co_tuning"), *REPORT}


def test_a_run_that_starts_from_another_is_trained_after_it(clone):
    clone.edit_params(wise_ft={"alpha": 0.7})
    assert clone.stale() == {f"select_started@{ITEM}-run0", *STARTED, *REPORT}
    clone.edit_params(wise_ft={"alpha": 0.5}, started=[{"method": "wise_ft", "start": "l2_sp"}])
    assert clone.stale() == {"check_params", *STARTED, *REPORT}
    clone.edit_params(started=PARAMS["started"])
    with replaced(clone, f"runs/{FOLDER}/l2/1/made_up"):
        assert {name for name in clone.stale() if name.startswith("train")} == {
            f"train@{ITEM}-l2-1",
            f"train_started@{ITEM}-run0-1",
        }


def test_the_probe_is_fitted_again_alone(clone):
    """Nothing is trained again for another probe, nor the probe for another training."""
    append(clone, "delta/methods/probe.py")
    clone.edit_params(probe={"c": [0.1, 1]})
    found = clone.stale()
    assert f"train_probe@{ITEM}" in found
    assert not {name for name in found if name.startswith(("extract_features@", "train@", "train_l2_fe@"))}


def test_balanced_classes_concern_the_probe_and_the_length_of_training_does_not(clone):
    training = section(clone, "training")
    clone.edit_params(training=training | {"iterations": 7})
    assert f"train_probe@{ITEM}" not in clone.stale()
    clone.edit_params(training=training | {"class_weights": "balanced"})
    assert {f"train_probe@{ITEM}", f"train_l2_fe@{ITEM}-0"} <= clone.stale()
    assert f"extract_features@{ITEM}" not in clone.stale()


def test_a_data_set_module_makes_only_its_download_stale(clone):
    append(clone, "delta/datasets/drawn.py")
    assert clone.stale() == {"download@drawn_30"}


def test_the_attention_seed_makes_the_attention_stale(clone):
    clone.edit_params(attention=section(clone, "attention") | {"seed": 1})
    estimated = {f"estimate_attention@{ITEM}-{seed}" for seed in SEEDS}
    normalized = {f"normalize_attention@{ITEM}-{method}" for method in METHODS}
    assert clone.stale() == {"check_params", *estimated, *normalized, *REPORT}


def test_a_seeds_l2_fe_run_makes_only_its_own_attention_stale(clone):
    of_all = {f"measure_parts@{ITEM}-l2_fe", "tables", "figures"}  # these read every seed
    with replaced(clone, f"runs/{FOLDER}/l2_fe/1/made_up"):
        assert clone.stale() == {f"train_l2_fe@{ITEM}-1", f"estimate_attention@{ITEM}-1", *of_all}


def test_a_seeds_importance_makes_the_normalization_stale(clone):
    normalized = {f"normalize_attention@{ITEM}-{method}" for method in METHODS}
    with replaced(clone, f"data/importance/{FOLDER}/1.csv"):
        assert clone.stale() == {f"estimate_attention@{ITEM}-1", *normalized}


@pytest.mark.parametrize("name", ["channel_weights/{}/delta/1.csv", "selected/{}/delta/1.json"])
def test_a_run_depends_only_on_its_own_seeds_attention_and_choice(name, clone):
    stage = "normalize_attention" if name.startswith("channel_weights") else "select"
    of_seed = {run for run in runs_of("delta") if run.endswith("-1")}
    assert f"train@{ITEM}-delta-1" in of_seed
    with replaced(clone, f"data/{name.format(FOLDER)}"):
        assert clone.stale() == {f"{stage}@{ITEM}-delta", *of_seed}


@pytest.mark.parametrize(
    ("name", "stage", "keys"),
    [
        ("part_activation", "measure_parts", ["methods"]),
        ("activation_maps", "measure_activation_maps", []),
        ("dissection", "dissect", ["methods", "seeds"]),
    ],
)
def test_another_layer_makes_only_its_analysis_stale(name, stage, keys, clone):
    chosen = section(clone, name)
    stages = {"-".join(map(str, [f"{stage}@{ITEM}", *item])) for item in product(*(chosen[key] for key in keys))}
    clone.edit_params(**{name: chosen | {"layer": "blocks.2.0.conv_pw"}})
    assert clone.stale() == {"check_params", *stages, *REPORT}


@pytest.mark.parametrize(
    ("name", "stage"),
    [("improved_view", "train_improved"), ("learning_curves", "train_exponential"), ("dissection", "dissect")],
)
def test_an_experiment_of_fewer_seeds_has_fewer_runs(name, stage, clone):
    chosen = section(clone, name)
    clone.edit_params(**{name: chosen | {"seeds": [1]}})
    expected = {f"{stage}@{ITEM}-{method}-1" for method in chosen["methods"]}
    names = clone.run("dvc", "stage", "list", "--name-only").split()
    assert {item for item in names if item.startswith(f"{stage}@")} == expected
    assert not clone.stale() & expected
