"""The figures' data from runs written by hand."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from delta.io.errors import UserError
from delta.report import series
from delta.report.results import read_results


@pytest.fixture
def results(tmp_path) -> pd.DataFrame:
    """Two seeds of one method: five iterations, two of them an epoch."""
    for seed in (0, 1):
        run = tmp_path / "d/b/delta" / str(seed)
        curves = run / "curves/plots/metrics"
        curves.mkdir(parents=True)
        entries = {"top1": 60.0 + seed, "iterations_per_epoch": 2, "source_network": "net", "device": "cpu"}
        (run / "result.json").write_text(json.dumps(entries))
        (curves / "test_top1.tsv").write_text(f"step\ttest_top1\n2\t{20 + seed}\n4\t{40 + seed}\n5\t{60 + seed}\n")
        losses = "".join(f"{step}\t{10 * step + seed}\n" for step in range(1, 6))
        (curves / "cross_entropy.tsv").write_text(f"step\tcross_entropy\n{losses}")
    return read_results(tmp_path, ["d"], ["b"], ["delta"], [0, 1])


def test_learning_curves_have_a_row_a_test(results):
    curves = series.learning_curves([("StepLR", results), ("ExponentialLR", results.iloc[:1])])
    assert list(curves.columns) == ["dataset", "backbone", "method", "schedule", "seed", "epoch", "top1"]
    assert len(curves) == 9
    step = curves[curves["schedule"] == "StepLR"]
    assert step[["seed", "epoch", "top1"]].to_numpy().tolist() == [
        [0, 1, 20],
        [0, 2, 40],
        [0, 2.5, 60],
        [1, 1, 21],
        [1, 2, 41],
        [1, 2.5, 61],
    ]
    assert list(series.learning_curves([]).columns) == list(curves.columns)


def test_training_curves_are_means_over_an_epoch_s_iterations_and_the_seeds(results):
    curves = series.training_curves(results)
    assert curves.to_numpy().tolist() == [
        ["d", "b", "delta", 1, 15.5, 20.5],  # iterations 1 and 2: 10, 20 and 11, 21
        ["d", "b", "delta", 2, 35.5, 40.5],
        ["d", "b", "delta", 2.5, 50.5, 60.5],
    ]


def test_a_missing_curve_is_named(results):
    (results["run"][1] / "curves/plots/metrics/test_top1.tsv").unlink()
    with pytest.raises(UserError, match=r"1/curves/plots/metrics/test_top1.tsv: no learning curve"):
        series.learning_curves([("StepLR", results)])


@pytest.fixture
def distances(tmp_path) -> pd.DataFrame:
    rows = [("conv2_x", "a", 0, 1.0, 2.0), ("conv2_x", "a", 1, 3.0, 1.0), ("conv3_x", "b", 0, 2.0, 5.0)]
    rows += [("conv3_x", "b", j, 0.0, float(j)) for j in range(1, 1000)]
    table = pd.DataFrame(rows, columns=["stage", "layer", "filter", "l2_sp", "delta"])
    table.to_csv(tmp_path / "distances.csv", index=False)
    return series.read_distances([("d", "b", tmp_path / "distances.csv")])


def test_shares_count_filter_by_filter(distances):
    shares = series.larger_shares(distances).set_index("stage")
    assert shares["filters"].to_dict() == {"conv2_x": 2, "conv3_x": 1000, "all": 1002}
    assert shares["share"].to_dict() == {"conv2_x": 50, "conv3_x": 100, "all": pytest.approx(100 * 1001 / 1002)}


def test_sorted_distances_are_order_statistics(distances):
    curves = series.sorted_distances(distances)
    small = curves[(curves["stage"] == "conv2_x") & (curves["method"] == "l2_sp")]
    assert small[["percent", "distance"]].to_numpy().tolist() == [[0, 3], [50, 1]]
    large = curves[(curves["stage"] == "conv3_x") & (curves["method"] == "delta")]
    assert len(large) == 101
    values = distances.loc[distances["stage"] == "conv3_x", "delta"]
    farther = [(values > row.distance).sum() for row in large.itertuples()]
    assert farther == pytest.approx(list(10 * large["percent"]), abs=1)  # 1 and 5 stand there twice
    assert large["distance"].iloc[0] == 999


def test_nothing_measured_is_an_empty_table():
    empty = series.read_distances([])
    assert series.sorted_distances(empty).empty
    assert series.larger_shares(empty).empty
