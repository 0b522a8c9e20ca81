"""Differences of methods, of handwritten predictions and of the paper's tables; how they are printed and drawn."""

from __future__ import annotations

import csv
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind_from_stats

from delta.report import captions, paper
from delta.report.differences import COLUMNS, find, published_differences, run_differences
from delta.report.forest import forest, shown_rows
from delta.report.predictions import Predictions
from delta.report.statistics import two_way_interval
from delta.report.tables.differences import difference_table

NAN = float("nan")
LABELS = {"l2_fe": "L2-FE", "l2": "L2", "l2_sp": "L2-SP", "delta": "DELTA"}


def predictions(hits: dict[tuple[str, int], str], dataset: str = "birds", paths: str = "abcdefgh") -> Predictions:
    """Predictions of two classes, by method and seed: a 1 for each image that is right, 0 for one that is not."""
    right = np.array([[int(letter) for letter in text] for text in hits.values()])
    runs = pd.DataFrame(
        [(method, LABELS[method], seed) for method, seed in hits], columns=["method", "method_label", "seed"]
    )
    ones = np.ones_like(right, float)
    return Predictions(dataset, "net", ["x", "y"], list(paths), np.ones(len(paths), int), runs, right, ones, ones)


# Eight images, three seeds: right are L2 5, 4, 5; L2-SP 5, 5, 5; DELTA 6, 7, 6.
DEFAULT = {
    ("l2", 0): "11111000",
    ("l2", 1): "11110000",
    ("l2", 2): "11111000",
    ("l2_sp", 0): "11111000",
    ("l2_sp", 1): "11110100",
    ("l2_sp", 2): "11110010",
    ("delta", 0): "11111100",
    ("delta", 1): "11111110",
    ("delta", 2): "11110011",
}


def row(frame: pd.DataFrame, comparison: str, method: str, other: str) -> pd.Series:
    found = frame.query("comparison == @comparison and method == @method and other == @other")
    assert len(found) == 1
    return found.iloc[0]


def test_all_pairs_of_a_table_are_compared_by_image_and_seed():
    frame = run_differences([predictions(DEFAULT)], [])
    assert list(frame.columns) == COLUMNS
    pairs = list(zip(frame["method"], frame["other"], strict=True))
    assert pairs == [("l2_sp", "l2"), ("delta", "l2"), ("delta", "l2_sp")]
    delta = row(frame, "table1", "delta", "l2_sp")
    # 19 against 15 of 24 images.
    assert delta["difference"] == pytest.approx(100 * 4 / 24)
    by_hand = np.array(
        [[0, 0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0, 1]],
    )
    expected = two_way_interval(by_hand)
    assert [delta["low"], delta["high"], delta["p"]] == pytest.approx([expected.low, expected.high, expected.p])
    assert (delta["seeds"], delta["images"], delta["method_label"], delta["other_label"]) == (3, 8, "DELTA", "L2-SP")


def test_p_is_corrected_within_the_data_set_and_the_table():
    frame = run_differences([predictions(DEFAULT), predictions(DEFAULT, "dogs")], [])
    smallest, middle, largest = sorted(frame[frame["dataset"] == "birds"]["p"])
    adjusted = sorted(frame[frame["dataset"] == "birds"]["p_holm"])
    first = min(3 * smallest, 1)
    second = min(max(first, 2 * middle), 1)
    assert adjusted == pytest.approx([first, second, max(second, largest)])
    assert list(frame[frame["dataset"] == "dogs"]["p_holm"]) == list(frame[frame["dataset"] == "birds"]["p_holm"])


def test_the_improved_view_is_matched_by_path_and_seed():
    # The same images in another order and one seed fewer; DELTA gets h right in addition.
    better = predictions({("delta", 0): "10111111", ("delta", 1): "11111111"}, paths="hgfedcba")
    frame = run_differences([predictions(DEFAULT)], [better])
    found = row(frame, "improved_view", "delta", "delta")
    # Seed 0: right are h, f to a: 7 against a to f: 6. Seed 1: all 8 against a to g: 7.
    assert found["difference"] == pytest.approx(100 * 2 / 16)
    assert (found["seeds"], found["images"]) == (2, 8)
    assert pd.isna(found["low"]) and pd.isna(found["p_holm"])
    assert set(frame["comparison"]) == {"table1", "improved_view"}  # one method in Table 2 has none to compare with


def test_images_and_seeds_that_are_not_in_both_do_not_count():
    fewer = predictions({("l2", 1): "110", ("l2", 5): "111"}, paths="aez")
    found = row(run_differences([predictions(DEFAULT)], [fewer]), "improved_view", "l2", "l2")
    # Seed 1 and the images a and e: right, right against right, wrong.
    assert (found["difference"], found["seeds"], found["images"]) == (50, 1, 2)
    none = predictions({("l2", 7): "110"}, paths="aez")
    assert set(run_differences([predictions(DEFAULT)], [none])["comparison"]) == {"table1"}


def test_no_runs_give_an_empty_frame():
    assert list(run_differences([], []).columns) == COLUMNS
    assert run_differences([], []).empty


def test_a_difference_can_be_looked_up_in_both_directions():
    frame = run_differences([predictions(DEFAULT)], [])
    there, back = find(frame, "table1", "delta", "l2"), find(frame, "table1", "l2", "delta")
    assert back["difference"] == -there["difference"]
    assert (back["low"], back["high"]) == (-there["high"], -there["low"])
    assert (back["method_label"], back["other_label"]) == ("L2", "DELTA")
    assert back["p_holm"] == there["p_holm"]
    assert find(frame, "table2", "delta", "l2") is None


def published() -> dict[tuple[str, str, str, str], tuple[float, float]]:
    """Mean and deviation of Tables 1 and 2 by table, data set, backbone and method."""
    file = Path(paper.__file__).with_name("paper.csv")
    with file.open(encoding="utf-8") as lines:
        return {
            (line["table"], line["dataset"], line["backbone"], line["method"]): (
                float(line["mean"]),
                float(line["std"]),
            )
            for line in csv.DictReader(lines)
            if line["table"] in "12"
        }


def test_the_papers_differences_are_welchs():
    frame, numbers = published_differences(), published()
    assert frame.groupby("comparison").size().to_dict() == {
        "table1": 12 * 15,
        "table2": 12 * 6,
        "improved_view": 12 * 4,
    }
    for found in frame.itertuples():
        tables = {"table1": "11", "table2": "22", "improved_view": "21"}[found.comparison]
        one, other = (
            numbers[table, found.dataset, found.backbone, method]
            for table, method in zip(tables, (found.method, found.other), strict=True)
        )
        test = ttest_ind_from_stats(*one, 5, *other, 5, equal_var=False)
        assert found.difference == pytest.approx(one[0] - other[0])
        assert found.p == pytest.approx(test.pvalue)
        assert (found.low > 0 or found.high < 0) == (test.pvalue < 0.05)
        assert found.low + found.high == pytest.approx(2 * found.difference)


def test_the_table_of_differences():
    frame = run_differences([predictions(DEFAULT)], [predictions({("l2", 0): "11111110"})])
    frame.loc[2, ["low", "high", "p", "p_holm"]] = [1.25, 32.0, 0.0004, 0.0012]
    table = difference_table(frame)
    lines = table.markdown().splitlines()
    assert "not corrected" in lines[2]
    assert "Fewer than 3 seeds give no interval." in lines[2]
    assert lines[4] == "## birds, net"
    assert lines[6] == "| Within | Method | Minus | Difference (points) | p | p (Holm) | Seeds | Images |"
    assert lines[-2] == "| Table 1 | DELTA | L2-SP | +16.7 [+1.2, +32.0] * | < 0.001 | 0.001 | 3 | 8 |"
    assert lines[-1] == "| Table 2 minus Table 1 | L2 | itself in Table 1 | +25.0 |  |  | 1 | 8 |"
    assert list(table.frame.columns) == COLUMNS
    complete = difference_table(run_differences([predictions(DEFAULT)], []))
    assert "Fewer than 3 seeds" not in complete.legend


def made_up(*rows: tuple, dataset: str = "birds") -> pd.DataFrame:
    """Differences in Table 1: method, other, difference, low, high, p_holm."""
    frame = pd.DataFrame(rows, columns=["method", "other", "difference", "low", "high", "p_holm"])
    for name in ("method", "other"):
        frame[f"{name}_label"] = frame[name].map(LABELS)
    fixed = {"dataset": dataset, "backbone": "net", "comparison": "table1", "seeds": 3, "images": 8}
    return frame.assign(**fixed, p=frame["p_holm"])[COLUMNS]


def test_the_forest_plot_shows_the_claims_differences_from_top_to_bottom():
    frame = run_differences([predictions(DEFAULT | {("l2_fe", 0): "0" * 8})], [predictions({("l2", 0): "1" * 8})])
    assert list(shown_rows(frame)["text"]) == [
        "DELTA − L2-SP",
        "DELTA − L2",
        "DELTA − L2-FE",
        "L2 − L2-SP",
        "L2-FE − L2-SP",
        "L2 − L2-FE",
        "L2: Table 2 − Table 1",
    ]


def test_the_forest_plot_draws_intervals_and_fills_what_is_significant():
    frame = made_up(
        ("delta", "l2_sp", 2.0, 1.0, 3.0, 0.01),
        ("l2_sp", "l2", 1.0, -1.0, 3.0, 0.6),
        ("delta", "l2", 3.0, NAN, NAN, NAN),
    )
    figure = forest(frame)
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["DELTA − L2-SP", "DELTA − L2", "L2 − L2-SP"]
    marks = {line.get_ydata()[0]: line for line in axes.lines if line.get_marker() not in ("None", "")}
    assert [marks[place].get_xdata()[0] for place in range(3)] == [2.0, 3.0, -1.0]
    assert [marks[place].get_markerfacecolor() == "white" for place in range(3)] == [False, True, True]
    intervals = [
        tuple(line.get_xdata()) for line in axes.lines if line.get_marker() == "None" and len(line.get_xdata()) == 2
    ]
    assert (1.0, 3.0) in intervals  # DELTA minus L2-SP
    assert (-3.0, 1.0) in intervals  # L2 minus L2-SP, turned round
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    (band,) = axes.patches
    assert (band.get_x(), band.get_width()) == (-0.5, 1.0)


@pytest.mark.parametrize(
    ("numbers", "end"),
    [
        ((2.04, 0.5, 3.6), "2.0 points more accurate than L2-SP, 95 % confidence interval [+0.5, +3.6]."),
        ((-6.2, -9.0, -3.4), "6.2 points less accurate than L2-SP, 95 % confidence interval [−9.0, −3.4]."),
        (
            (-0.4, -2.0, 1.2),
            "0.4 points below L2-SP, 95 % confidence interval [−2.0, +1.2]: which is more accurate is not settled.",
        ),
        (
            (0.4, -1.2, 2.0),
            "0.4 points above L2-SP, 95 % confidence interval [−1.2, +2.0]: which is more accurate is not settled.",
        ),
        (
            (0.0, NAN, NAN),
            "level with L2-SP; two seeds give no confidence interval, so which is more accurate is not settled.",
        ),
    ],
)
def test_the_headline_says_plainly_how_delta_compares(numbers, end):
    frame = made_up(("delta", "l2_sp", *numbers, NAN)).assign(seeds=2 if pd.isna(numbers[1]) else 3)
    assert captions.headline(frame) == f"On birds with net DELTA is {end}"


def test_the_headline_of_several_data_sets():
    outcomes = [(2.0, 1.0, 3.0), (-2.0, -3.0, -1.0), (-1.5, -2.0, -1.0), (0.5, -1.0, 2.0)]
    frames = [made_up(("delta", "l2_sp", *numbers, NAN), dataset=f"d{n}") for n, numbers in enumerate(outcomes)]
    assert captions.headline(pd.concat(frames)) == (
        "DELTA is less accurate than L2-SP on 2 of 4 data sets and backbones, more accurate on 1, and not settled on 1 "
        "(95 % confidence intervals). The differences are between −2.0 and +2.0 points, −0.2 on average."
    )
    assert captions.headline(None) == ""
    assert captions.headline(made_up(("l2_sp", "l2", 1.0, 0.5, 1.5, 0.01))) == ""


def test_the_forests_caption_has_the_numbers():
    rows = [("delta", "l2_sp", 2.0, 1.0, 3.0, 0.01), ("delta", "l2", 3.0, -1.0, 7.0, 0.4)]
    caption = captions.forest(made_up(*rows))
    assert caption.startswith("95 % confidence intervals over test images and seeds, each for its comparison alone; ")
    assert caption.endswith(" DELTA minus L2-SP +2.0 [+1.0, +3.0]; L2 +3.0 [−1.0, +7.0].")
    two = pd.concat([made_up(*rows), made_up(("delta", "l2_sp", -2.0, -3.0, -1.0, 0.01), dataset="dogs")])
    assert captions.forest(two).endswith(
        " DELTA minus L2-SP 1 above, 1 below, 0 not significant; L2 0 above, 0 below, 1 not significant."
    )
    few = captions.forest(made_up(("delta", "l2_sp", 2.0, NAN, NAN, NAN)))
    assert few == "Too few seeds for confidence intervals, which take 3. DELTA minus L2-SP +2.0."


def test_the_paper_has_every_pair_once():
    frame = published_differences()
    one = frame.query("dataset == 'food_101' and backbone == 'resnet101' and comparison == 'table1'")
    found = [frozenset(pair) for pair in zip(one["method"], one["other"], strict=True)]
    methods = ["l2_fe", "l2", "l2_sp", "l2_sp_att", "delta_wo_att", "delta"]
    assert sorted(map(sorted, found)) == sorted(map(sorted, combinations(methods, 2)))
