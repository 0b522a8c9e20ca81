"""The figures' data of handwritten runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from delta.io.errors import UserError
from delta.report import plot_data
from delta.report.curves import learning_curves, training_curves
from delta.report.inputs import Inputs
from stages.common import paths
from tests.helpers.report_project import write_run


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> Inputs:
    """Two seeds of one method with StepLR and with ExponentialLR: five iterations, two per epoch."""
    monkeypatch.chdir(tmp_path)
    for seed, setting in ((0, "default"), (1, "default"), (0, "exponential"), (1, "exponential")):
        run = paths.run_folder("d", "b", "delta", seed, setting)
        write_run(run, "delta")
        folder = run / "curves/plots/metrics"
        (folder / "test_top1.tsv").write_text(f"step\ttest_top1\n2\t{20 + seed}\n4\t{40 + seed}\n5\t{60 + seed}\n")
        losses = "".join(f"{step}\t{10 * step + seed}\n" for step in range(1, 6))
        (folder / "cross_entropy.tsv").write_text(f"step\tcross_entropy\n{losses}")
        (folder / "penalty.tsv").write_text("step\tpenalty\n1\t8.0\n2\t6.0\n3\t4.0\n4\t2.0\n5\t1.0\n")
    section = SimpleNamespace(datasets=["d"], backbones=["b"], methods=["delta"])
    parameters = SimpleNamespace(seeds=[0, 1], learning_curves=section, filter_distances=section)
    parameters.training = SimpleNamespace(decay_after=3)
    return Inputs(parameters, paths)


def test_learning_curves_have_one_row_per_test(inputs):
    curves = learning_curves(inputs)
    assert list(curves) == ["dataset", "backbone", "method", "schedule", "seed", "epoch", "top1", "drop_epoch"]
    assert curves["drop_epoch"].tolist() == pytest.approx([1.5] * 6 + [float("nan")] * 6, nan_ok=True)
    assert list(curves["schedule"]) == ["StepLR"] * 6 + ["ExponentialLR"] * 6
    assert curves[["seed", "epoch", "top1"]].to_numpy().tolist() == 2 * [
        [0, 1, 20],
        [0, 2, 40],
        [0, 2.5, 60],
        [1, 1, 21],
        [1, 2, 41],
        [1, 2.5, 61],
    ]
    inputs.params.learning_curves.datasets = []
    assert learning_curves(inputs).empty


def test_training_curves_are_means_over_iterations_of_an_epoch_and_seeds(inputs):
    curves = training_curves(inputs.runs_with("default", "learning_curves"))
    assert list(curves) == ["dataset", "backbone", "method", "epoch", "cross_entropy", "penalty"]
    assert curves.to_numpy().tolist() == [
        ["d", "b", "delta", 1, 15.5, 7.0],  # iterations 1 and 2: 10, 20 and 11, 21; penalties 8 and 6
        ["d", "b", "delta", 2, 35.5, 3.0],
        ["d", "b", "delta", 2.5, 50.5, 1.0],
    ]


def test_a_missing_curve_is_reported(inputs):
    Path("runs/d/b/delta/1/curves/plots/metrics/test_top1.tsv").unlink()
    with pytest.raises(UserError, match=r"1/curves/plots/metrics/test_top1.tsv: no learning curve"):
        learning_curves(inputs)


@pytest.fixture
def distances(inputs) -> pd.DataFrame:
    """Two seeds; by the second, DELTA's distances are half as large."""
    rows = [("conv2_x", "a", 0, 1.0, 2.0), ("conv2_x", "a", 1, 3.0, 1.0), ("conv3_x", "b", 0, 2.0, 5.0)]
    rows += [("conv3_x", "b", j, 0.0, float(j)) for j in range(1, 1000)]
    table = pd.DataFrame(rows, columns=["stage", "layer", "filter", "l2_sp", "delta"])
    seeds = pd.concat([table.assign(seed=0), table.assign(seed=1, delta=table["delta"] / 2)])
    seeds.to_csv(paths.analysis_output("d", "b", "filter_distances.csv"), index=False)
    return plot_data.read_distances(inputs)


def test_shares_are_counted_by_filter_and_seed(distances):
    shares = plot_data.larger_shares(distances).set_index(["stage", "seed"])
    assert shares["filters"].to_dict() == {
        (stage, seed): filters
        for stage, filters in (("conv2_x", 2), ("conv3_x", 1000), ("all", 1002))
        for seed in (0, 1)
    }
    # With half of DELTA's distances, 1 is not more than 1: of the first layer none is farther.
    expected = {("conv2_x", 0): 50, ("conv2_x", 1): 0, ("conv3_x", 0): 100, ("conv3_x", 1): 100}
    assert {key: shares["share"][key] for key in expected} == expected
    assert shares["share"]["all"].tolist() == pytest.approx([100 * 1001 / 1002, 100 * 1000 / 1002])


def test_the_reach_is_of_the_farthest_percent_by_the_median(distances):
    shares = plot_data.larger_shares(distances).set_index(["stage", "seed"])
    # Of 1, 2, ..., 999 and another 5 the median is 499.5, and 1 % is beyond a number between 989 and 990.
    assert shares["reach"]["conv3_x", 0] == pytest.approx(989.01 / 499.5, abs=1e-3)
    assert shares["reach"]["conv3_x", 1] == pytest.approx(shares["reach"]["conv3_x", 0])
    still = distances.assign(delta=distances["delta"].where(distances["filter"] > 600, 0.0))
    assert pd.isna(plot_data.larger_shares(still).set_index(["stage", "seed"])["reach"]["conv3_x", 0])


def test_distances_are_averaged_over_the_seeds(distances):
    means = plot_data.mean_distances(distances)
    assert len(means) == 1002
    assert means[["stage", "layer", "filter", "l2_sp", "delta"]].head(3).to_numpy().tolist() == [
        ["conv2_x", "a", 0, 1.0, 1.5],
        ["conv2_x", "a", 1, 3.0, 0.75],
        ["conv3_x", "b", 0, 2.0, 3.75],
    ]


def test_sorted_distances_are_order_statistics(distances):
    first = distances[distances["seed"] == 0]
    curves = plot_data.sorted_distances(plot_data.mean_distances(first))
    small = curves[(curves["stage"] == "conv2_x") & (curves["method"] == "l2_sp")]
    assert small[["percent", "distance"]].to_numpy().tolist() == [[0, 3], [50, 1]]
    large = curves[(curves["stage"] == "conv3_x") & (curves["method"] == "delta")]
    assert len(large) == 101
    values = first.loc[first["stage"] == "conv3_x", "delta"]
    farther = [(values > row.distance).sum() for row in large.itertuples()]
    assert farther == pytest.approx(list(10 * large["percent"]), abs=1)  # 5 occurs twice
    assert large["distance"].iloc[0] == 999


def test_no_measurements_give_an_empty_table(inputs):
    inputs.params.filter_distances.datasets = []
    empty = plot_data.read_distances(inputs)
    assert plot_data.sorted_distances(plot_data.mean_distances(empty)).empty
    assert plot_data.larger_shares(empty).empty
