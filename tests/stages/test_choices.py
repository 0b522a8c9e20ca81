"""The stages that determine the channel weights, alpha and beta of a training run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from delta.attention.normalization import channel_weights
from delta.io.errors import UserError
from delta.methods.channel_weights import read_channel_weights, write_filter_table
from delta.methods.selection import with_selection
from stages import normalize_attention, select
from stages.common.params import Params, load_params
from stages.common.paths import channel_weights_file, fold_file, importance_file, selection_file

PARAMS = Path(__file__).parents[2] / "params.yaml"
PAIR = ("drawn_30", "efficientnet_lite0")
IMPORTANCE = {"late": np.array([3.0, -1.0, 4.0]), "early": np.array([0.5, 0.25])}


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    """The slice's parameters, in a folder with only filter importance and results of the grid search."""
    loaded = load_params(PARAMS)
    monkeypatch.chdir(tmp_path)
    importance_file(*PAIR).parent.mkdir(parents=True)
    write_filter_table(importance_file(*PAIR), IMPORTANCE, "importance")
    for fold in loaded.grid.folds:
        file = fold_file(*PAIR, fold)
        file.parent.mkdir(parents=True, exist_ok=True)
        cells = [(0.1, 0.01, fold, 50.0), (0.01, 0.001, fold, 60.0)]
        table = pd.DataFrame(cells, columns=["alpha", "beta", "fold", "top1"])
        table.assign(problem=None, dataset=PAIR[0], backbone=PAIR[1]).to_csv(file, index=False)
    return loaded


@pytest.mark.parametrize("method", ["delta", "l2_sp_att"])
def test_methods_with_attention_get_normalized_importance(method, params):
    normalize_attention.main(params, *PAIR, method)
    found = read_channel_weights(channel_weights_file(*PAIR, method))
    expected = channel_weights(IMPORTANCE, "standardized")
    assert list(found) == list(expected)
    assert all(np.array_equal(found[layer], expected[layer]) for layer in expected)


@pytest.mark.parametrize("method", ["l2", "l2_sp", "delta_wo_att"])
def test_methods_without_attention_get_an_empty_table(method, params):
    importance_file(*PAIR).unlink()
    normalize_attention.main(params, *PAIR, method)
    assert read_channel_weights(channel_weights_file(*PAIR, method)) == {}


def chosen(params: Params) -> dict[str, tuple[float, float]]:
    select.main(params, *PAIR)
    methods = {name: with_selection(params.method(name), selection_file(*PAIR, name)) for name in params.methods}
    return {name: (method.alpha, method.beta) for name, method in methods.items()}


def test_fixed_keeps_alpha_and_beta_of_every_method(params):
    own = {name: (params.method(name).alpha, params.method(name).beta) for name in params.methods}
    assert chosen(params) == own


def test_best_gives_delta_the_best_pair_of_the_grid(params):
    best = params.model_copy(update={"grid": params.grid.model_copy(update={"select": "best"})})
    own = {name: (params.method(name).alpha, params.method(name).beta) for name in params.methods}
    assert chosen(best) == own | {"delta": (0.01, 0.001)}
    fold_file(*PAIR, 3).unlink()
    with pytest.raises(UserError, match=r"3.csv: not a result of the grid search .*: run `dvc repro`"):
        select.main(best, *PAIR)
