"""The grid search: which images a fold uses, how failed cells are handled, and which cell is the best."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from delta.analysis import grid as grid_module
from delta.analysis.folds import learn_channel_weights, stratified_folds
from delta.analysis.grid import cross_validate
from delta.analysis.grid_result import best_cell, best_values, cells, read_grid
from delta.data.packed.views import normalised, random_crops
from delta.io.errors import UserError
from delta.methods.registry import method_class
from delta.networks.network import build_network
from tests.helpers.grids import with_values
from tests.helpers.tiny import CPU, GRID, LAYERS, RESIZE, STATISTICS, TRAINING, recipe, same_state

DELTA = method_class("delta")(alpha=7.0, beta=7.0, scale="source")


@pytest.fixture(scope="module")
def network(weights):
    return build_network(weights, 3, 0)


def search(data, weights, fold=0, grid=GRID, training=TRAINING, method=DELTA, start=None):
    return cross_validate(
        data,
        fold,
        recipe(method, training=training),
        weights=weights,
        l2_fe=method_class("l2_fe")(weight_decay=1e-4),
        grid=grid,
        normalization="standardized",
        device=CPU,
        start=start,
    )


def validated(monkeypatch, *arguments, **options) -> list[dict[str, torch.Tensor]]:
    """The state of each cell's network when it is validated."""
    states = []
    with monkeypatch.context() as patch:
        patch.setattr(
            grid_module,
            "top1",
            lambda network, *_: states.append({name: each.clone() for name, each in network.state_dict().items()}) or 0,
        )
        search(*arguments, **options)
    return states


@pytest.mark.parametrize("count", [2, 3, 4])
def test_folds_are_disjoint_stratified_and_cover_the_training_images_once(count, data):
    folds = stratified_folds(data, count, 0, "grid.folds")
    assert sorted(np.concatenate(folds)) == list(range(len(data.rows("train"))))
    targets = data.targets("train").numpy()
    for fold in folds:
        by_class = np.bincount(targets[fold], minlength=3)
        assert by_class.min() >= 4 // count
        assert by_class.max() <= -(-4 // count)


def test_folds_depend_only_on_the_seed(data):
    once, again, other = (stratified_folds(data, 2, seed, "grid.folds") for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
    assert not np.array_equal(once[0], other[0])


def test_more_folds_than_a_class_has_images(data):
    with pytest.raises(UserError, match=r"grid.folds: 5 folds, but of training images ant has 4, bee has 4, cow has 4"):
        stratified_folds(data, 5, 0, "grid.folds")


def test_held_out_images_leave_the_training_split(data):
    fold = stratified_folds(data, 2, 0, "grid.folds")[0]
    part = data.hold_out(fold)
    assert len(part.rows("train")) + len(part.rows("validation")) == len(data.rows("train"))
    assert np.array_equal(part.rows("validation"), data.rows("train")[fold])
    assert np.array_equal(part.rows("test"), data.rows("test"))
    # An index into the part's training images still gives the pixels of that image.
    kept = random_crops(
        part.training_images(torch.arange(len(part.rows("train")))), RESIZE, torch.Generator().manual_seed(0), CPU
    )
    for crop, row in zip(kept.numpy(), part.rows("train"), strict=True):
        image = data.train_view[list(data.rows("train")).index(row)]
        assert np.array_equal(crop, image) or np.array_equal(crop, image[:, ::-1])


def test_no_validation_label_reaches_attention(data, network):
    part = data.hold_out(stratified_folds(data, 2, 0, "grid.folds")[0])
    held_out = np.concatenate([part.rows("validation"), part.rows("test")])
    index = part.index.copy()
    index.loc[held_out, "target"] = (index.loc[held_out, "target"] + 1) % 3
    permuted = replace(part, index=index)
    honest, blind = (learn_channel_weights(network, each, "exact", "standardized") for each in (part, permuted))
    assert all(torch.equal(honest[layer], blind[layer]) for layer in honest)
    # The labels of the training part do change the result.
    index.loc[part.rows("train"), "target"] = 0
    seen = learn_channel_weights(network, replace(part, index=index), "exact", "standardized")
    assert not any(torch.equal(honest[layer], seen[layer]) for layer in seen)


def test_a_fold_has_one_row_per_cell(data, weights):
    rows = search(data, weights)
    assert list(zip(rows["alpha"], rows["beta"], rows["fold"], strict=True)) == [(0.01, 0.01, 0), (0.1, 0.01, 0)]
    sixth = rows["top1"] / (100 / 6)
    assert np.allclose(sixth, sixth.round())
    assert rows["problem"].isna().all()
    pd.testing.assert_frame_equal(rows, search(data, weights))


def test_no_validation_label_reaches_the_training_of_a_cell(data, weights):
    """Other labels of the held-out part change only which predictions are correct."""
    fold = stratified_folds(data, 2, 0, "grid.folds")[1]
    index = data.index.copy()
    wrong = data.rows("train")[fold]
    target = (index.loc[wrong, "target"] + 1) % 3
    index.loc[wrong, "target"] = target
    index.loc[wrong, "label"] = [data.classes[place] for place in target]
    # Permuted labels would give other folds, so the held-out part is passed explicitly.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("delta.analysis.grid.stratified_folds", lambda *_: [None, fold])
        answers = []
        patch.setattr(
            "delta.analysis.grid.top1", lambda network, part, split: answers.append(network.state_dict()) or 0.0
        )
        for each in (data, replace(data, index=index)):
            search(each, weights, fold=1, grid=GRID.model_copy(update={"alpha": [0.1]}))
    honest, blind = answers
    assert all(torch.equal(honest[name], blind[name]) for name in honest)


def test_a_diverging_cell_does_not_affect_the_others(data, weights, capsys):
    # The penalty of the rectified maps overflows only for this large α; the other cell trains.
    rows = search(data, weights, grid=GRID.model_copy(update={"alpha": [0.01, 1e38]}))
    assert rows["top1"].isna().tolist() == [False, True]
    assert "diverged at iteration" in rows["problem"][1]
    assert "failed cell: DELTA" in capsys.readouterr().out


def grid_of(*cells_of_folds) -> pd.DataFrame:
    rows = [
        ("d", "b", alpha, beta, fold, top1, None if top1 == top1 else "diverged")
        for alpha, beta, values in cells_of_folds
        for fold, top1 in enumerate(values)
    ]
    table = pd.DataFrame(rows, columns=["dataset", "backbone", "alpha", "beta", "fold", "top1", "problem"])
    return with_values(table.assign(method="delta"))


NAN = float("nan")


@pytest.mark.parametrize(
    ("grid", "winner"),
    [
        ([(0.01, 0.1, [50, 60]), (0.1, 0.1, [70, 60])], (0.1, 0.1)),
        ([(0.1, 0.01, [60, 60]), (0.01, 0.1, [50, 70])], (0.01, 0.1)),
        ([(0.1, 0.2, [60, 60]), (0.1, 0.01, [50, 70])], (0.1, 0.01)),
        ([(0.1, 0.2, [99, NAN]), (0.1, 0.01, [50, 70])], (0.1, 0.01)),
        ([(0.1, 0.2, [10.1, 10.2, 10.3]), (0.01, 0.2, [10.3, 10.2, 10.1])], (0.01, 0.2)),
    ],
    ids=["larger mean", "tie: smaller alpha", "tie: smaller beta", "failed cells never win", "ties despite rounding"],
)
def test_the_best_cell(grid, winner):
    rows = grid_of(*grid)
    best = best_cell(cells(rows))
    assert (best["alpha"], best["beta"]) == winner
    assert best_values(rows) == dict(zip(("alpha", "beta"), winner, strict=True))


def test_a_cell_has_the_mean_of_its_folds_and_their_failures():
    table = cells(grid_of((0.1, 0.2, [50, 60, 70]), (0.2, 0.2, [50, NAN, 70]))).set_index("alpha")
    assert table.loc[0.1, ["mean", "std", "folds", "failed"]].tolist() == [60, 10, 3, 0]
    assert table.loc[0.2, ["folds", "failed"]].tolist() == [3, 1]
    assert table.loc[0.2, ["mean", "std"]].isna().all()


def test_a_grid_without_a_winner():
    rows = grid_of((0.1, 0.2, [NAN]))
    assert best_cell(cells(rows)) is None
    with pytest.raises(UserError, match=r"^d, b, delta: .* every cell diverged: lower backbones\.b\.learning_rate$"):
        best_values(rows)


def test_the_cells_of_two_methods_are_apart():
    rows = pd.concat(
        [
            grid_of((0.1, 0.2, [50, 60]), (0.01, 0.2, [40, 40])),
            grid_of((0.1, 0.2, [10, 20]), (0.01, 0.2, [30, NAN])).assign(method="l2_sp"),
        ]
    )
    table = cells(rows).set_index(["method", "alpha"])
    assert table["mean"].dropna().to_dict() == {("delta", 0.01): 40, ("delta", 0.1): 55, ("l2_sp", 0.1): 15}
    assert table["folds"].tolist() == [2, 2, 2, 2]
    for method, best in (("delta", (0.1, 0.2)), ("l2_sp", (0.1, 0.2))):
        assert best_values(rows[rows["method"] == method]) == dict(zip(("alpha", "beta"), best, strict=True))


@pytest.mark.parametrize(("key", "attention"), [("delta", 1), ("l2_sp", 0), ("delta_wo_att", 0)])
def test_only_a_method_with_attention_trains_l2_fe_in_its_folds(key, attention, data, weights, monkeypatch):
    """Each cell's run has the method's own section but for α and β, and no channel weights without attention."""
    runs, original = [], grid_module.fine_tune

    def watched(network, source, part, recipe, channel_weights, **options):
        runs.append((recipe.method, set(channel_weights)))
        original(network, source, part, recipe, channel_weights, **options)

    monkeypatch.setattr(grid_module, "fine_tune", watched)
    method = method_class(key)(alpha=7.0, beta=7.0, weight_decay=0.25)
    rows = search(data, weights, method=method)
    assert [each.label for each, _ in runs] == ["L2-FE"] * attention + [method.label] * 2
    trained = [each for each in runs if each[0].label != "L2-FE"]
    pairs = [(0.01, 0.01), (0.1, 0.01)]
    assert [each for each, _ in trained] == [
        method.model_copy(update={"alpha": alpha, "beta": beta}) for alpha, beta in pairs
    ]
    assert all(layers == (set(LAYERS) if attention else set()) for _, layers in trained)
    assert list(zip(rows["alpha"], rows["beta"], strict=True)) == pairs  # the same cells for every method


def test_a_method_is_trained_with_every_combination_of_its_own_search(data, weights, monkeypatch):
    method = method_class("mars_sp")(search={"gamma": [0.001, 8], "weight_decay": [0, 0.1]})
    cells_by_hand = [{"gamma": g, "weight_decay": w} for g in (0.001, 8) for w in (0, 0.1)]
    rows = search(data, weights, method=method)
    assert [json.loads(text) for text in rows["values"]] == cells_by_hand
    assert (rows[["alpha", "beta"]] == 0).all(axis=None)
    found = validated(monkeypatch, data, weights, method=method)
    for state, values in zip(found, cells_by_hand, strict=True):
        one = method_class("mars_sp")(search={name: [value] for name, value in values.items()})
        (alone,) = validated(monkeypatch, data, weights, method=one)
        assert same_state(state, alone)
    assert not any(same_state(found[0], other) for other in found[1:])


def test_a_cell_starts_from_the_run_of_its_own_fold(data, weights, monkeypatch):
    """WiSE-FT at α = 1 is its start, trained on the fold's training part; at α = 0 it has the source's backbone."""
    l2 = method_class("l2")(weight_decay=0.25)
    none, all_of_it = validated(
        monkeypatch, data, weights, method=method_class("wise_ft")(search={"alpha": [0, 1]}), start=l2
    )
    (alone,) = validated(monkeypatch, data, weights, method=method_class("l2")(search={"weight_decay": [0.25]}))
    assert same_state(all_of_it, alone)
    source = build_network(weights, 3).state_dict()
    counts = "num_batches_tracked"  # of batch-norm; nothing reads it
    assert all(
        torch.equal(none[name], source[name]) for name in none if name.startswith("backbone.") and counts not in name
    )
    assert torch.equal(none["head.weight"], alone["head.weight"])


def test_the_probe_that_a_cell_starts_from_sees_the_training_part_alone(data, weights):
    """Its classifier is scikit-learn's, fitted on features that are computed here."""
    part = data.hold_out(stratified_folds(data, 2, 0, "grid.folds")[0])
    network = build_network(weights, 3).eval()
    with torch.no_grad():
        pixels = torch.tensor(part.test_view[part.rows("train")])
        features = network.backbone(normalised(pixels, STATISTICS)).double().numpy()
    fit = LogisticRegression(C=0.5, max_iter=10_000).fit(features, part.targets("train").numpy())
    found = grid_module.with_probe(build_network(weights, 3), part, method_class("probe")(c=[0.5]), recipe(DELTA))
    np.testing.assert_allclose(found.head.weight.detach().numpy(), fit.coef_, atol=1e-4)
    np.testing.assert_allclose(found.head.bias.detach().numpy(), fit.intercept_, atol=1e-3)


def test_a_missing_fold_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"0.csv: not a result of the grid search"):
        read_grid([tmp_path / "0.csv"])
    assert read_grid([]).empty


@pytest.mark.parametrize("column", ["dataset", "backbone", "method", "alpha", "beta", "values"])
def test_a_cell_that_is_not_named_is_reported(column, tmp_path):
    rows = grid_of((0.1, 0.2, [50, 60]))
    rows.to_csv(tmp_path / "0.csv", index=False)
    names = ["dataset", "backbone", "method", "alpha", "beta", "fold", "top1"]
    assert read_grid([tmp_path / "0.csv"])[names].values.tolist() == rows[names].values.tolist()
    rows.assign(**{column: None}).to_csv(tmp_path / "0.csv", index=False)
    with pytest.raises(UserError, match="0.csv: not a result of the grid search .*lacks its dataset, backbone, method"):
        read_grid([tmp_path / "0.csv"])
    rows.drop(columns=column).to_csv(tmp_path / "0.csv", index=False)  # as before a grid had methods
    with pytest.raises(UserError, match=rf"0.csv: not a result of the grid search .*{column}.*: run `dvc repro`$"):
        read_grid([tmp_path / "0.csv"])
