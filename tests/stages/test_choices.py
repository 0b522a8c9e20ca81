"""The stages that determine a run's channel weights, alpha, beta and tests, and what a grid search depends on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from delta.attention.normalization import channel_weights
from delta.io.errors import UserError
from delta.methods.channel_weights import read_channel_weights, read_filter_table, write_filter_table
from delta.methods.registry import KEYS, method_class
from delta.methods.selection import Selection
from stages import estimate_attention, grid_settings, normalize_attention, select
from stages.common.params import Params, load_params
from stages.common.paths import (
    channel_weights_file,
    channel_weights_folder,
    fold_file,
    grid_settings_file,
    importance_file,
    selection_file,
    selection_folder,
)
from tests.helpers.grids import with_values

PARAMS = Path(__file__).parents[2] / "params.yaml"
PAIR = ("drawn_30", "efficientnet_lite0")
SEEDS = [0, 1, 2]
NOISE = np.random.default_rng(0)
IMPORTANCE = {seed: {"late": NOISE.normal(size=3), "early": NOISE.normal(size=2)} for seed in SEEDS}
TOP1 = {  # by method and cell, the accuracy on every fold; each method has another best cell
    "delta": {(0.1, 0.01): 50.0, (0.01, 0.001): 60.0},
    "l2_sp": {(0.1, 0.01): 70.0, (0.01, 0.001): 60.0},
}


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    """The slice's parameters with three seeds, in a folder with only filter importance and a grid of two methods."""
    loaded = load_params(PARAMS).model_copy(update={"seeds": SEEDS})
    monkeypatch.chdir(tmp_path)
    importance_file(*PAIR, 0).parent.mkdir(parents=True)
    for seed in SEEDS:
        write_filter_table(importance_file(*PAIR, seed), IMPORTANCE[seed], "importance")
    for method, accuracies in TOP1.items():
        for fold in loaded.grid.folds:
            file = fold_file(*PAIR, method, fold)
            file.parent.mkdir(parents=True, exist_ok=True)
            table = pd.DataFrame([(*cell, fold, top1) for cell, top1 in accuracies.items()])
            table.columns = ["alpha", "beta", "fold", "top1"]
            with_values(table).assign(problem=None, dataset=PAIR[0], backbone=PAIR[1], method=method).to_csv(
                file, index=False
            )
    return loaded


def with_attention(params: Params, **changes) -> Params:
    return params.model_copy(update={"attention": params.attention.model_copy(update=changes)})


def with_grid_for(params: Params, *methods: str) -> Params:
    chosen = {name: params.method(name).model_copy(update={"select": "grid"}) for name in methods}
    return params.model_copy(update=chosen)


@pytest.mark.parametrize(("seed", "learned_from"), [("own", SEEDS), (1, [1, 1, 1])])
@pytest.mark.parametrize("method", ["delta", "l2_sp_att"])
def test_methods_with_attention_get_normalized_importance(method, seed, learned_from, params):
    normalize_attention.main(with_attention(params, seed=seed), *PAIR, method)
    names = [f"{each}.csv" for each in SEEDS]
    assert sorted(path.name for path in channel_weights_folder(*PAIR, method).iterdir()) == names
    for each, source in zip(SEEDS, learned_from, strict=True):
        found = read_channel_weights(channel_weights_file(*PAIR, method, each))
        expected = channel_weights(IMPORTANCE[source], "standardized")
        assert list(found) == list(expected)
        assert all(np.array_equal(found[layer], expected[layer]) for layer in expected)


@pytest.mark.parametrize("method", ["l2", "l2_sp", "delta_wo_att"])
def test_methods_without_attention_get_empty_tables(method, params):
    for seed in SEEDS:
        importance_file(*PAIR, seed).unlink()
    normalize_attention.main(params, *PAIR, method)
    assert all(read_channel_weights(channel_weights_file(*PAIR, method, seed)) == {} for seed in SEEDS)


@pytest.mark.parametrize(("seed", "estimated"), [("own", [0, 1, 2]), (1, [1])])
def test_importance_is_estimated_for_the_seeds_that_are_learned_from(seed, estimated, params, monkeypatch):
    """Each with the L2-FE network of that seed; another seed gets an empty table, which is quick."""
    monkeypatch.setattr(estimate_attention, "run_importance", lambda run, *_: IMPORTANCE[int(run.name)])
    for each in SEEDS:
        estimate_attention.main(with_attention(params, seed=seed), *PAIR, each)
    found = {each: read_filter_table(importance_file(*PAIR, each), "importance") for each in SEEDS}
    assert [each for each in SEEDS if found[each]] == estimated
    for each in estimated:
        assert all(np.array_equal(found[each][layer], values) for layer, values in IMPORTANCE[each].items())


def test_shared_attention_needs_no_other_seed(params):
    for seed in (0, 2):
        write_filter_table(importance_file(*PAIR, seed), {}, "importance")
    normalize_attention.main(with_attention(params, seed=1), *PAIR, "delta")
    tables = [channel_weights_file(*PAIR, "delta", seed).read_text() for seed in SEEDS]
    assert tables[0] == tables[1] == tables[2] != "layer,filter,channel_weight\n"


def own(params: Params) -> dict[str, tuple[float, float]]:
    return {name: (params.method(name).alpha, params.method(name).beta) for name in params.methods}


def chosen(params: Params) -> dict[str, tuple[float, float]]:
    """Each method's alpha and beta, which are those of all its seeds."""
    found = {}
    for name in params.methods:
        select.main(params, *PAIR, name)
        assert sorted(path.name for path in selection_folder(*PAIR, name).iterdir()) == ["0.json", "1.json", "2.json"]
        methods = [Selection.read(selection_file(*PAIR, name, seed)).applied_to(params.method(name)) for seed in SEEDS]
        (found[name],) = {(method.alpha, method.beta) for method in methods}
    return found


def test_fixed_keeps_alpha_and_beta_of_every_method(params):
    assert chosen(params) == own(params)


@pytest.mark.parametrize("methods", [["delta"], ["l2_sp"], ["delta", "l2_sp"]])
def test_each_method_takes_the_best_pair_of_its_own_grid(methods, params):
    best = {"delta": (0.01, 0.001), "l2_sp": (0.1, 0.01)}
    assert chosen(with_grid_for(params, *methods)) == own(params) | {name: best[name] for name in methods}


def test_a_missing_fold_of_the_grid_is_reported(params):
    fold_file(*PAIR, "delta", 3).unlink()
    with pytest.raises(UserError, match=r"delta/3.csv: not a result of the grid search .*: run `dvc repro`"):
        select.main(with_grid_for(params, "delta"), *PAIR, "delta")
    select.main(with_grid_for(params, "l2_sp"), *PAIR, "l2_sp")


def test_without_a_selection_another_grid_changes_nothing(params):
    select.main(params, *PAIR, "delta")
    before = [path.read_bytes() for path in sorted(selection_folder(*PAIR, "delta").iterdir())]
    for fold in params.grid.folds:
        fold_file(*PAIR, "delta", fold).unlink()
    select.main(params, *PAIR, "delta")
    assert [path.read_bytes() for path in sorted(selection_folder(*PAIR, "delta").iterdir())] == before


@pytest.mark.parametrize(
    ("changes", "tested"),
    [
        ({"methods": ["l2_sp", "delta"], "seeds": [0, 2]}, {("l2_sp", 0), ("l2_sp", 2), ("delta", 0), ("delta", 2)}),
        ({"methods": ["delta"], "seeds": [1]}, {("delta", 1)}),
        ({"methods": ["delta"], "seeds": [1], "datasets": []}, set()),
        ({"methods": ["delta"], "seeds": [1], "backbones": ["other"]}, set()),
    ],
)
def test_the_runs_that_figure_3_shows_are_tested_after_every_epoch(changes, tested, params):
    curves = params.learning_curves.model_copy(update=changes)
    for name in params.methods:
        select.main(params.model_copy(update={"learning_curves": curves}), *PAIR, name)
    runs = [(name, seed) for name in params.methods for seed in SEEDS]
    assert {run for run in runs if Selection.read(selection_file(*PAIR, *run)).test_every_epoch} == tested


def settings(params: Params, method: str, **changes) -> str:
    changed = (params.method(method) or method_class(method)()).model_copy(update=changes)
    grid_settings.main(params.model_copy(update={method: changed}), *PAIR, method)
    return grid_settings_file(*PAIR, method).read_text(encoding="utf-8")


def test_the_grid_depends_on_a_methods_section_but_for_what_it_replaces(params):
    before = settings(params, "delta")
    for free in ({"alpha": 7.0}, {"beta": 7.0}, {"select": "grid"}):
        assert settings(params, "delta", **free) == before
    for bound in ({"scale": "sum"}, {"rectify": False}, {"weight_decay": 0.1}):
        assert settings(params, "delta", **bound) != before


@pytest.mark.parametrize("method", [key for key in KEYS if method_class(key).has_penalty()])
def test_every_field_of_a_method_is_in_its_settings_or_replaced_by_the_grid(method, params):
    written = set(json.loads(settings(params, method)))
    assert written | {"alpha", "beta", "select"} == set(method_class(method).model_fields)
    assert not written & {"alpha", "beta", "select"}
