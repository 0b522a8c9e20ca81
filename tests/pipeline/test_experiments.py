"""Tests of the DAG with every experiment of the paper, on a very small slice: `pytest -m slice`."""

from __future__ import annotations

import csv
import io
import json
import re
import time

import pytest
import yaml

from tests.helpers.clone import ROOT, Clone
from tests.helpers.small_slice import FIGURES, ITEM, REPORT, SMALL, TABLES, outputs, reproduce
from tests.helpers.small_slice import STAGES as OF_TABLE_1

pytestmark = pytest.mark.slice

EXPERIMENTS = [
    "improved_view",
    "learning_curves",
    "filter_distances",
    "part_activation",
    "dissection",
    "activation_maps",
    "grid",
]
FOLDER = ITEM.replace("-", "/")
EVERYWHERE = {"datasets": ["drawn_30"], "backbones": ["efficientnet_lite0"]}
METHODS = ["l2", "l2_sp", "delta_wo_att", "delta"]
SEARCHED = ["l2_sp", "delta"]
WHOLE = SMALL | {name: SMALL[name] | EVERYWHERE for name in EXPERIMENTS} | {"methods": METHODS}
WHOLE["grid"] |= {"methods": SEARCHED}
FOLDS = {f"cross_validate@{ITEM}-{method}-{fold}" for method in SEARCHED for fold in (0, 1)}
SELECTS = {f"select@{ITEM}-{method}" for method in METHODS}
STAGES = OF_TABLE_1 | {
    f"train@{ITEM}-l2-0",
    f"train@{ITEM}-delta_wo_att-0",
    f"normalize_attention@{ITEM}-l2",
    f"normalize_attention@{ITEM}-delta_wo_att",
    f"grid_settings@{ITEM}-l2_sp",
    f"pack_whole@{ITEM}",
    f"train_improved@{ITEM}-l2-0",
    f"train_exponential@{ITEM}-delta-0",
    f"measure_filter_distances@{ITEM}",
    f"measure_parts@{ITEM}-l2_fe",
    f"measure_parts@{ITEM}-delta",
    f"dissect@{ITEM}-l2_sp-0",
    f"dissect@{ITEM}-delta-0",
    f"measure_activation_maps@{ITEM}",
    *FOLDS,
    *SELECTS,
}
OF_DELTA = {
    f"train@{ITEM}-delta-0",
    f"train_exponential@{ITEM}-delta-0",
    f"measure_filter_distances@{ITEM}",
    f"measure_parts@{ITEM}-delta",
    f"dissect@{ITEM}-delta-0",
    f"measure_activation_maps@{ITEM}",
    *REPORT,
}


HALF = """
from delta.methods.base import PenaltyInputs, Method, parameter_distance


class Half(Method):
    label = "Half"

    def shared_penalty(self, inputs: PenaltyInputs):
        return 0.5 * parameter_distance(inputs)
"""


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory) -> Clone:
    """A small slice with all experiments, reproduced from an empty cache and committed."""
    return reproduce(tmp_path_factory.mktemp("protocol") / "clone", WHOLE, STAGES)


def test_all_tables_and_figures_are_written(clone):
    names = {*TABLES, *(f"table{number}" for number in (2, 3, 4)), "table3_parts"}
    tables = {f"{name}.{suffix}" for name in names for suffix in ("md", "csv", "tex")}
    # The units of such a small slice may detect nothing; then there is no table of concepts and no gallery.
    made = {file.name for file in (clone.root / "reports/tables").iterdir()}
    assert {name for name in made if not name.startswith("table4_concepts")} == tables
    figures = {*FIGURES, *(f"figure{number}-{ITEM}" for number in (1, 3, 4, 5, 6)), f"figure4-{ITEM}-l2_sp", "classes"}
    assert {file.stem for file in (clone.root / "reports/figures").iterdir()} - {"units"} == figures
    dissected = json.loads(clone.read("reports/metrics_dissection.json"))["drawn_30"]["efficientnet_lite0"]
    assert list(dissected) == ["l2_sp", "delta"]
    measured = json.loads(clone.read("reports/metrics_parts.json"))["drawn_30"]["efficientnet_lite0"]
    assert list(measured) == ["l2_fe", "delta"]
    improved = json.loads(clone.read("reports/metrics_improved.json"))["drawn_30"]["efficientnet_lite0"]
    assert list(improved) == ["l2"]
    assert clone.stages_run("repro") == set()


def test_changing_delta_runs_only_what_depends_on_it(clone):
    before, old = outputs(clone), json.loads(clone.read("reports/metrics.json"))["drawn_30"]["efficientnet_lite0"]
    chosen = {f"grid_settings@{ITEM}-delta", f"select@{ITEM}-delta"}  # no fold: the grid replaces alpha
    assert clone.stages_run("exp", "run", "-S", "delta.alpha=0.1") == {*chosen, *OF_DELTA}
    after, new = outputs(clone), json.loads(clone.read("reports/metrics.json"))["drawn_30"]["efficientnet_lite0"]
    changed = {name for name in before if before[name] != after[name]}
    assert {f"train@{ITEM}-delta-0", f"train_exponential@{ITEM}-delta-0"} <= changed <= OF_DELTA
    assert all(new[method] == old[method] for method in old if method != "delta")
    diff = json.loads(clone.run("dvc", "metrics", "diff", "--json")).get("diff", {}).get("reports/metrics.json", {})
    assert all(name.startswith("drawn_30.efficientnet_lite0.delta.") for name in diff)


def test_a_new_method_trains_no_other_method_again(clone):
    (clone.root / "delta/methods/half.py").write_text(HALF)
    clone.edit_params(methods=[*METHODS, "half"], half={"alpha": 0.01})
    ran = clone.stages_run("repro")
    of_half = {f"normalize_attention@{ITEM}-half", f"select@{ITEM}-half", f"train@{ITEM}-half-0"}
    assert ran == {"check_params", *of_half, *REPORT}
    assert "| L2-FE | L2 | L2-SP | DELTA(w/o ATT) | DELTA | Half |" in clone.read("reports/tables/table1.md")


def test_attention_parameters_affect_only_methods_with_attention(clone):
    ran = clone.stages_run("exp", "run", "-S", "attention.normalization=literal")
    normalized = {f"normalize_attention@{ITEM}-{method}" for method in METHODS}
    # The folds of L2-SP run as well, as DVC does not know that it has no attention; their results are the same.
    assert OF_DELTA <= ran <= {*normalized, *FOLDS, *SELECTS, "figures", *OF_DELTA}
    assert {*normalized, *FOLDS} <= ran
    assert f"train@{ITEM}-l2_sp-0" not in ran
    clone.restore()
    exact = clone.read(f"data/importance/{FOLDER}/0.csv")
    ran = clone.stages_run("exp", "run", "-S", "attention.estimator=fisher")
    assert ran == {f"estimate_attention@{ITEM}-0", *normalized, *OF_DELTA}
    assert clone.read(f"data/importance/{FOLDER}/0.csv") != exact


def pairs(text: str) -> list[tuple[float, float]]:
    return [(float(row["alpha"]), float(row["beta"])) for row in csv.DictReader(io.StringIO(text))]


def best_pair(clone: Clone, method: str) -> tuple[float, float]:
    """Of the pairs with the largest sum over the folds, the smallest."""
    sums: dict[tuple[float, float], float] = {}
    for fold in (0, 1):
        for row in csv.DictReader(io.StringIO(clone.read(f"data/cross_validation/{FOLDER}/{method}/{fold}.csv"))):
            assert (row["dataset"], row["backbone"], row["method"]) == (*ITEM.split("-"), method)
            pair = (float(row["alpha"]), float(row["beta"]))
            sums[pair] = sums.get(pair, 0) + float(row["top1"])
    return min(sums, key=lambda pair: (-round(sums[pair], 6), pair))


def test_the_best_pairs_of_two_methods_are_trained(clone):
    """Both are searched on the same cells, and the other methods keep their own alpha and beta."""
    change = [f"{method}.select=grid" for method in SEARCHED]
    ran = clone.stages_run("exp", "run", "-S", change[0], "-S", change[1])
    chosen = {f"{stage}@{ITEM}-{method}" for stage in ("grid_settings", "select") for method in SEARCHED}
    assert {*chosen, *OF_DELTA, f"train@{ITEM}-l2_sp-0"} <= ran
    assert not ran & FOLDS
    folds = [clone.read(f"data/cross_validation/{FOLDER}/{method}/{f}.csv") for method in SEARCHED for f in (0, 1)]
    assert {tuple(pairs(text)) for text in folds} == {((0.001, 0.1), (0.1, 0.1))}
    for folder in ("l2_sp", "delta", "delta-exponential"):
        result = json.loads(clone.read(f"runs/{FOLDER}/{folder}/0/result.json"))
        assert (result["alpha"], result["beta"]) == best_pair(clone, folder.partition("-")[0])
    own = yaml.safe_load(clone.read("params.yaml"))["delta_wo_att"]
    result = json.loads(clone.read(f"runs/{FOLDER}/delta_wo_att/0/result.json"))
    assert (result["alpha"], result["beta"]) == (own["alpha"], own["beta"])
    alpha, beta = best_pair(clone, "delta")
    (clone.root / "runs/drawn_30/efficientnet_lite0/delta/0/result.json").unlink()
    said = clone.run("dvc", "repro", "-s", "-f", f"train@{ITEM}-delta-0")
    assert f"DELTA: alpha {alpha:g}, beta {beta:g}" in said


def test_experiments_without_data_sets_are_turned_off(clone):
    clone.edit_params(**SMALL)
    ran = clone.stages_run("repro")
    # Figure 3 no longer shows this run, so it is not tested after every epoch.
    assert {"check_params", *REPORT} <= ran <= {"check_params", *SELECTS, f"train@{ITEM}-delta-0", *REPORT}
    assert {file.stem for file in (clone.root / "reports/tables").iterdir()} == TABLES
    assert {file.stem for file in (clone.root / "reports/figures").iterdir()} == FIGURES


def title_of(name: str, titles: set[str]) -> str:
    """The entry of dvc.yaml that a plot belongs to; an entry that is a folder has a plot for each of its files."""
    return next((title for title in titles if name == title or name.startswith(f"{title}/")), name)


def test_dvc_plots_show_and_overlay_experiments(clone):
    clone.run("dvc", "exp", "run", "-n", "stiff", "-S", "delta.alpha=0.1")
    shown = json.loads(clone.run("dvc", "plots", "show", "--json"))["data"]
    titles = {name for plot in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"] for name in plot}
    assert {title_of(name, titles) for name in shown} == titles
    diff = json.loads(clone.run("dvc", "plots", "diff", "HEAD", "stiff", "--json"))["data"]
    assert {title_of(name, titles) for name in diff} == titles
    for (plot,) in diff.values():
        assert {"HEAD", "stiff"} <= set(plot["revisions"])


def test_queued_experiments_run_in_the_background(clone):
    clone.run("dvc", "exp", "run", "--queue", "-S", "delta.alpha=0.002,0.003")
    clone.run("dvc", "queue", "start")
    deadline = time.monotonic() + 600
    while re.search("Queued|Running", status := clone.run("dvc", "queue", "status")) and time.monotonic() < deadline:
        time.sleep(2)
    assert status.count("Success") == 2, status
    # Other tests left experiments, too.
    names = clone.run("dvc", "exp", "list", "--name-only").split()
    diffs = [json.loads(clone.run("dvc", "params", "diff", "HEAD", name, "--json"))["params.yaml"] for name in names]
    assert {0.002, 0.003} <= {diff["delta.alpha"]["new"] for diff in diffs if set(diff) == {"delta.alpha"}}


def test_two_runs_from_scratch_give_the_same_bits(clone, tmp_path):
    again = Clone.of_project(tmp_path / "again")
    again.edit_params(**WHOLE)
    assert again.stages_run("repro") == STAGES
    assert outputs(again) == outputs(clone)
    assert again.read("reports/metrics.json") == clone.read("reports/metrics.json")
