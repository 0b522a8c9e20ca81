"""The grid search: which images a fold uses, how failed cells are handled, and which cell is the best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from delta.analysis.grid import cross_validate, learn_channel_weights, stratified_folds
from delta.analysis.grid_result import best_cell, best_pair, cells, read_grid
from delta.io.errors import UserError
from delta.methods.registry import method_class
from delta.networks.network import build_network
from tests.helpers.tiny import CPU, GRID, RESIZE, TRAINING, recipe

DELTA = method_class("delta")(alpha=7.0, beta=7.0, scale="source")


@pytest.fixture(scope="module")
def network(weights):
    return build_network(weights, 3, 0)


def search(data, weights, fold=0, grid=GRID, training=TRAINING):
    return cross_validate(
        data,
        fold,
        recipe(DELTA, training=training),
        weights=weights,
        l2_fe=method_class("l2_fe")(weight_decay=1e-4),
        grid=grid,
        normalization="standardized",
        device=CPU,
    )


@pytest.mark.parametrize("count", [2, 3, 4])
def test_folds_are_disjoint_stratified_and_cover_the_training_images_once(count, data):
    folds = stratified_folds(data, count, seed=0)
    assert sorted(np.concatenate(folds)) == list(range(len(data.rows("train"))))
    targets = data.targets("train").numpy()
    for fold in folds:
        by_class = np.bincount(targets[fold], minlength=3)
        assert by_class.min() >= 4 // count
        assert by_class.max() <= -(-4 // count)


def test_folds_depend_only_on_the_seed(data):
    once, again, other = (stratified_folds(data, 2, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
    assert not np.array_equal(once[0], other[0])


def test_more_folds_than_a_class_has_images(data):
    with pytest.raises(UserError, match=r"grid.folds: 5 folds, but of training images ant has 4, bee has 4, cow has 4"):
        stratified_folds(data, 5, seed=0)


def test_held_out_images_leave_the_training_split(data):
    fold = stratified_folds(data, 2, seed=0)[0]
    part = data.hold_out(fold)
    assert len(part.rows("train")) + len(part.rows("validation")) == len(data.rows("train"))
    assert np.array_equal(part.rows("validation"), data.rows("train")[fold])
    assert np.array_equal(part.rows("test"), data.rows("test"))
    # An index into the part's training images still gives the pixels of that image.
    kept = part.training_crops(torch.arange(len(part.rows("train"))), RESIZE, torch.Generator().manual_seed(0), CPU)
    for crop, row in zip(kept.numpy(), part.rows("train"), strict=True):
        image = data.train_view[list(data.rows("train")).index(row)]
        assert np.array_equal(crop, image) or np.array_equal(crop, image[:, ::-1])


def test_no_validation_label_reaches_attention(data, network):
    part = data.hold_out(stratified_folds(data, 2, seed=0)[0])
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
    fold = stratified_folds(data, 2, seed=0)[1]
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
    grid = GRID.model_copy(update={"alpha": [0.01, 1e38]})
    training = TRAINING.model_copy(update={"clip_norm": None})
    rows = search(data, weights, grid=grid, training=training)
    assert rows["top1"].isna().tolist() == [False, True]
    assert "diverged at iteration" in rows["problem"][1]
    assert "failed cell: DELTA" in capsys.readouterr().out


def grid_of(*cells_of_folds) -> pd.DataFrame:
    rows = [
        ("d", "b", alpha, beta, fold, top1, None if top1 == top1 else "diverged")
        for alpha, beta, values in cells_of_folds
        for fold, top1 in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["dataset", "backbone", "alpha", "beta", "fold", "top1", "problem"])


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
    assert best_pair(rows) == winner


def test_a_cell_has_the_mean_of_its_folds_and_their_failures():
    table = cells(grid_of((0.1, 0.2, [50, 60, 70]), (0.2, 0.2, [50, NAN, 70]))).set_index("alpha")
    assert table.loc[0.1, ["mean", "std", "folds", "failed"]].tolist() == [60, 10, 3, 0]
    assert table.loc[0.2, ["folds", "failed"]].tolist() == [3, 1]
    assert table.loc[0.2, ["mean", "std"]].isna().all()


def test_a_grid_without_a_winner():
    rows = grid_of((0.1, 0.2, [NAN]))
    assert best_cell(cells(rows)) is None
    with pytest.raises(UserError, match=r"^d, b: .* every cell diverged: lower backbones\.b\.learning_rate$"):
        best_pair(rows)


def test_a_missing_fold_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"0.csv: not a result of the grid search"):
        read_grid([tmp_path / "0.csv"])
    assert read_grid([]).empty
