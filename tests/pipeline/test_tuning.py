"""Methods that are tuned by their own parameters, and runs that start from others, on a very small slice."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

from delta.networks.network import build_network, trained_network
from tests.helpers.clone import Clone
from tests.helpers.small_slice import ITEM, REPORT, SMALL, STAGES, reproduce

pytestmark = pytest.mark.slice

FOLDER = ITEM.replace("-", "/")
STARTED = [{"method": "lp_ft", "start": "probe"}, {"method": "wise_ft", "start": "l2"}]
METHODS = ["l2", "co_tuning"]
TUNED = SMALL | {
    # A fold of half the images leaves two of each class, which the probe takes.
    "datasets": {"drawn_30": SMALL["datasets"]["drawn_30"] | {"train_per_class": 4}},
    "methods": METHODS,
    "started": STARTED,
    "grid": SMALL["grid"]
    | {"datasets": ["drawn_30"], "backbones": ["efficientnet_lite0"], "methods": METHODS, "started": STARTED},
    "l2": {"select": "grid", "search": {"weight_decay": [0.0001, 0.1]}},
    "co_tuning": {"select": "grid", "lambda_": 2.3, "search": {"lambda_": [1, 2]}},
    "lp_ft": {"select": "grid", "search": {"weight_decay": [0.0001, 0.1]}},
    "wise_ft": {"select": "grid", "search": {"alpha": [0.25, 0.75]}},
}
OF_STARTED = {
    name
    for run in ("run0", "run1")
    for name in (
        f"train_started@{ITEM}-{run}-0",
        f"select_started@{ITEM}-{run}",
        *(f"cross_validate_started@{ITEM}-{run}-{fold}" for fold in (0, 1)),
    )
}
ITEMS = {name for name in STAGES if not name.endswith(("-l2_sp", "-delta", "-l2_sp-0", "-delta-0"))} | {
    *OF_STARTED,
    *(f"{stage}@{ITEM}-{method}" for method in METHODS for stage in ("normalize_attention", "grid_settings", "select")),
    *(f"train@{ITEM}-{method}-0" for method in METHODS),
    *(f"cross_validate@{ITEM}-{method}-{fold}" for method in METHODS for fold in (0, 1)),
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    """Reproduced and committed."""
    return reproduce(tmp_path_factory.mktemp("tuning") / "clone", TUNED, ITEMS)


def chosen(clone: Clone, method: str) -> dict[str, float]:
    return json.loads(clone.read(f"data/selected/{FOLDER}/{method}/0.json"))["values"]


def test_each_method_takes_the_best_of_its_own_cells(clone):
    table = pd.read_csv(clone.root / "reports/tables/tuning.csv")
    assert list(table["method"]) == ["l2", "co_tuning", "lp_ft", "wise_ft"]
    assert (table["cells"] == 2).all()
    for method in table["method"]:
        folds = [
            pd.read_csv(clone.root / f"data/cross_validation/{FOLDER}/{method}/{fold}.csv", index_col="values")["top1"]
            for fold in (0, 1)
        ]
        (name_in_params, values), means = next(iter(TUNED[method]["search"].items())), sum(folds) / 2
        name = name_in_params if name_in_params != "lambda_" else "alpha"
        assert [json.loads(text) for text in means.index] == [{name: value} for value in values]
        best = values[int(means.to_numpy().argmax())]
        assert chosen(clone, method) == {name: best}
        (row,) = table[table["method"] == method].itertuples()
        assert json.loads(row.values) == {name_in_params: best}
        assert row.top1 == pytest.approx(means.max(), abs=1e-4)


def test_a_table_says_what_was_tuned(clone):
    assert (
        "Parameters chosen by cross-validation on the training images: Probe (6 cells); L2, Co-Tuning, LP-FT, WiSE-FT "
        "(2 cells). Parameters of params.yaml, not tuned here: L2-FE."
    ) in clone.read("reports/tables/table1.md").replace("\n", " ")


def test_runs_start_from_the_run_of_their_seed(clone):
    """WiSE-FT's backbone lies between the source's and L2's, and its classifier is L2's."""
    ours, theirs = (trained_network(clone.root / f"runs/{FOLDER}/{method}/0") for method in ("wise_ft", "l2"))
    source = build_network(clone.root / f"data/weights/{FOLDER}.safetensors", ours.head.out_features)
    assert torch.equal(ours.head.weight, theirs.head.weight)
    alpha = chosen(clone, "wise_ft")["alpha"]
    for name, weight in ours.shared_weights().items():
        expected = (1 - alpha) * source.shared_weights()[name] + alpha * theirs.shared_weights()[name]
        torch.testing.assert_close(weight, expected, atol=1e-6, rtol=1e-5)


def test_another_lambda_runs_co_tuning_alone(clone):
    """Its cells are those of its own section, which another fixed value does not change."""
    ran = clone.stages_run("exp", "run", "-S", "co_tuning.lambda_=1", "-S", "co_tuning.select=fixed")
    own = {f"{stage}@{ITEM}-co_tuning" for stage in ("grid_settings", "select")}
    assert ran == {*own, f"train@{ITEM}-co_tuning-0", *REPORT}
