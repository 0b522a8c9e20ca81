"""Accuracy against the number of training images, from handwritten runs: the numbers, the figure and its sentence."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from delta.io.errors import UserError
from delta.report.data_amount import COLUMNS, accuracies, caption
from delta.report.data_amount_figure import data_amount
from delta.report.inputs import Inputs
from delta.report.statistics import two_way_interval
from delta.training.predictions import write_predictions
from stages.common import paths
from tests.helpers.report_project import write_run

TRAINED = {"all": 9, "few": 2, "more": 4}  # training images of class a; class b has one more
TESTS = [(f"{label}/{number}.jpg", label) for label in "ab" for number in range(6)]


def is_right(dataset: str, method: str) -> np.ndarray:
    """On which test images the three seeds are right, bool [3, 12]."""
    random = np.random.default_rng([len(method), TRAINED[dataset]])
    return random.random((3, len(TESTS))) < 0.6


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> Inputs:
    monkeypatch.chdir(tmp_path)
    methods = ["probe", "delta"]
    for dataset, trained in TRAINED.items():
        write_index(dataset, [f"{label}/{100 + n}.jpg" for label in "ab" for n in range(trained + (label == "b"))])
        for method in methods:
            for seed, right in enumerate(is_right(dataset, method)):
                run = paths.run_folder(dataset, "net", method, seed)
                write_run(run, method)
                rows = [
                    (path, label, label if hit else "ba"[label == "b"], 0.9, 0.9 if hit else 0.1)
                    for (path, label), hit in zip(TESTS, right, strict=True)
                ]
                names = ["path", "target", "predicted", "probability", "target_probability"]
                write_predictions(run, pd.DataFrame(rows, columns=names))
    section = SimpleNamespace(datasets=list(TRAINED), backbones=["net"], methods=methods)
    lists = {"datasets": list(TRAINED), "backbones": ["net"], "compared": methods, "seeds": [0, 1, 2]}
    return Inputs(SimpleNamespace(data_amount=section, **lists), paths)


def write_index(dataset: str, train: list[str], tests: list[tuple[str, str]] = TESTS) -> None:
    folder = paths.packed_folder(dataset, "net")
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(path, path[0], int(path[0] == "b"), "train") for path in train]
    rows += [(path, label, int(label == "b"), "test") for path, label in tests]
    pd.DataFrame(rows, columns=["path", "label", "target", "split"]).to_csv(folder / "index.csv", index=False)


def test_the_numbers_are_those_of_the_runs(inputs):
    rows = accuracies(inputs)
    assert list(rows) == COLUMNS
    assert list(rows["dataset"]) == ["few", "more", "all"] * 2
    assert list(rows["train_per_class"]) == [2.5, 4.5, 9.5] * 2
    for row in rows.itertuples():
        right = is_right(row.dataset, row.method)
        assert row.top1 == pytest.approx(100 * right.sum() / 36)
        interval = two_way_interval(right.astype(int))
        assert (row.low, row.high) == pytest.approx((max(interval.low, 0), min(interval.high, 100)))
        assert (row.seeds, row.images) == (3, 12)


def test_without_data_sets_there_is_nothing(inputs):
    inputs.params.data_amount.datasets = []
    assert accuracies(inputs).empty


def test_other_test_images_are_refused(inputs):
    write_index("more", [f"{label}/{100 + n}.jpg" for label in "ab" for n in range(4)], TESTS[:-1])
    with pytest.raises(UserError, match="data_amount.datasets: few and more have other test images: take one seed"):
        accuracies(inputs)


def test_training_images_that_are_not_nested_are_refused(inputs):
    write_index("few", ["a/100.jpg", "b/999.jpg"])
    with pytest.raises(UserError, match="some training images of few are not among more's"):
        accuracies(inputs)


def test_the_figure_has_a_line_for_each_method_on_a_logarithmic_axis(inputs):
    rows = accuracies(inputs)
    (axes,) = data_amount(rows).axes
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2.5", "4.5", "9.5"]
    assert {text.get_text() for text in axes.texts} == {"Probe", "DELTA"}
    for line, (method, block) in zip(axes.lines, rows.groupby("method", sort=False), strict=True):
        assert line.get_label() == {"probe": "Probe", "delta": "DELTA"}[method]
        assert list(line.get_ydata()) == list(block["top1"])
        assert list(line.get_xdata()) == pytest.approx(list(block["train_per_class"]), rel=0.02)
    drawn = [segment[:, 1] for lines in axes.collections for segment in lines.get_segments()]
    assert np.array(drawn) == pytest.approx(rows[["low", "high"]].to_numpy(dtype=float))


def test_labels_do_not_change_their_order_nor_stand_on_each_other():
    rows = pd.DataFrame({"method": ["l2", "l2_sp", "delta"], "top1": [70.0, 70.1, 70.05], "backbone": "net"})
    rows = pd.concat([rows.assign(train_per_class=n, low=60.0, high=80.0) for n in (5, 10)])
    (axes,) = data_amount(rows).axes
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert sorted(heights, key=heights.__getitem__) == ["L2", "DELTA", "L2-SP"]
    assert np.diff(sorted(heights.values())).min() > 0.5


def differences(*rows: tuple[str, str, str, float, float]) -> pd.DataFrame:
    columns = ["dataset", "method", "other", "low", "high"]
    frame = pd.DataFrame(rows, columns=columns).assign(backbone="net", comparison="table1", p=0, p_holm=0)
    for name in ("method", "other"):
        frame[f"{name}_label"] = frame[name]
    return frame.assign(difference=(frame["low"] + frame["high"]) / 2)


def test_the_sentence_tells_the_best_and_where_the_first_method_is_left():
    rows = pd.DataFrame(
        [
            (name, method, amount, top1)
            for name, amount, tops in (("s", 5, (60, 50)), ("t", 29.75, (70, 80)))
            for method, top1 in zip(("probe", "delta"), tops, strict=True)
        ],
        columns=["dataset", "method", "train_per_class", "top1"],
    ).assign(backbone="net", low=1.0, high=2.0, seeds=5, images=500)
    found = differences(("s", "probe", "delta", 5, 15), ("t", "delta", "probe", 5, 15))
    text = caption(rows, found)
    assert text.startswith("Mean of 5 seeds on the same 500 test images, with 95 % confidence intervals over images")
    assert "Highest: 5 a class Probe 60.0 %, 29.8 a class DELTA 80.0 %." in text
    assert text.endswith("Against Probe, by the paired interval: DELTA above at 29.8 and below at 5.")
    open_ones = differences(("s", "probe", "delta", -5, 15), ("t", "delta", "probe", -5, 15))
    assert caption(rows, open_ones).endswith("DELTA nowhere settled.")
    assert caption(rows.assign(low=np.nan, high=np.nan, seeds=1), found).endswith("DELTA 80.0 %.")
