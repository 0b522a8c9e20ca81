"""Table 5: all methods side by side, of handwritten runs."""

from __future__ import annotations

from contextlib import chdir

import numpy as np
import pandas as pd
import pytest
import yaml

from delta.methods.registry import ALWAYS_TRAINED
from delta.methods.registry import KEYS as KEYS_OF_METHODS
from delta.report.elsewhere import HARNESSES, published
from delta.report.results import KEYS
from delta.report.statistics import two_way_interval
from delta.report.tables import methods
from delta.training.predictions import write_predictions
from tests.helpers.report_project import inputs, predicted, report, write_project, write_run

NAN = float("nan")
LABELS = {"l2": "L2", "l2_sp": "L2-SP", "delta": "DELTA", "ours": "Ours"}
TOP1 = {
    "cub_200_2011": {"l2": [78.0, 79.0, 77.0], "l2_sp": [80.0] * 3, "delta": [81.0, 82.0, 83.0], "ours": [80.0] * 3},
    "ants": {"l2": [50.0] * 3, "l2_sp": [40.0] * 3, "delta": [61.0, 60.0, 62.0], "ours": [70.0] * 3},
}
NO_DIFFERENCES = pd.DataFrame(
    columns=[*KEYS[:2], "comparison", "method", "other", "difference", "low", "high", "p", "p_holm"]
)


def runs(
    source: str = "ResNet-50, ImageNet", backbone: str = "resnet50", datasets: tuple = tuple(TOP1)
) -> pd.DataFrame:
    rows = [
        (dataset, backbone, method, LABELS[method], source, seed, top1)
        for dataset in datasets
        for method, values in TOP1[dataset].items()
        for seed, top1 in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=[*KEYS, "method_label", "source_network", "seed", "top1"])


def differences(*rows: tuple) -> pd.DataFrame:
    """Differences on CUB-200-2011: method, other, difference, low, high, p, Holm's p."""
    numbers = ["difference", "low", "high", "p", "p_holm"]
    frame = pd.DataFrame(rows, columns=["method", "other", *numbers])
    frame = frame.assign(method_label="", other_label="")
    return frame.assign(dataset="cub_200_2011", backbone="resnet50", comparison="table1")


def frame(source: pd.DataFrame | None = None, compared: pd.DataFrame = NO_DIFFERENCES) -> pd.DataFrame:
    return methods.method_frame(runs() if source is None else source, compared, published())


def lines(found: pd.DataFrame) -> list[str]:
    return methods.method_table(found).markdown().splitlines()


def test_means_and_ranks_by_hand():
    found = frame().set_index(["dataset", "method"])
    assert found.loc[("cub_200_2011", "l2"), ["mean", "std", "seeds"]].tolist() == [78.0, 1.0, 3]
    # L2-SP and Ours are equal on the birds; the mean ranks are over both data sets.
    assert found.loc["cub_200_2011", "rank"].to_dict() == {"l2": 4, "l2_sp": 2.5, "delta": 1, "ours": 2.5}
    assert found.loc["ants", "rank"].to_dict() == {"l2": 3, "l2_sp": 4, "delta": 2, "ours": 1}
    for dataset in TOP1:
        expected = {"l2": 3.5, "l2_sp": 3.25, "delta": 1.5, "ours": 1.75}
        assert found.loc[dataset, "mean_rank"].to_dict() == expected


def test_a_backbone_with_one_data_set_has_no_mean_rank():
    one = runs("Inception-V3, ImageNet", "inception_v3", ("ants",))
    found = frame(pd.concat([runs(), one])).set_index("backbone")
    assert found.loc["inception_v3", "mean_rank"].isna().all()
    assert found.loc["inception_v3", "rank"].tolist() == [3, 4, 2, 1]
    assert found.loc["resnet50", "mean_rank"].notna().all()


def test_the_text_of_a_data_set():
    compared = differences(
        ("l2_sp", "l2", 2.0, 1.0, 3.0, 0.001, 0.006),
        ("delta", "l2", 4.0, -1.0, 9.0, 0.2, 0.4),
        ("delta", "l2_sp", 2.0, 0.5, 3.5, 0.01, 0.04),
        ("ours", "delta", -2.0, -2.5, -1.5, 0.02, 0.06),
    )
    found = frame(runs(datasets=("cub_200_2011",)), compared)
    found.loc[found["method"] == "ours", "cells"] = 9
    text = lines(found)
    assert text[4:] == [
        "## CUB-200-2011, ResNet-50",
        "",
        "| Method | Top-1 (%) | Minus L2-SP | Minus DELTA | Rank | Cells | TLLib † | Paddle † |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| L2 | 78.0 ± 1.0 | −2.0 [−3.0, −1.0] * | −4.0 [−9.0, +1.0] | 4 |  | 81.8 | 80.25 |",
        "| L2-SP | 80.0 ± 0.0 |  | −2.0 [−3.5, −0.5] * | 2.5 |  |  | 80.39 |",
        "| DELTA | 82.0 ± 1.0 | +2.0 [+0.5, +3.5] * |  | 1 |  | 82.3 |  |",
        "| Ours | 80.0 ± 0.0 |  | −2.0 [−2.5, −1.5] | 2.5 | 9 |  |  |",
    ]
    legend = text[2]
    assert "not corrected for being many; a mark stands where p < 0.05 after Holm's correction" in legend
    assert "A critical-difference diagram takes 3 data sets, and says something from 5 on." in legend
    assert "under another protocol: no difference to ours means anything" in legend
    assert "TLLib is the Transfer-Learning-Library, which takes the best epoch on the test images." in legend
    # LaTeX has the same numbers.
    latex = methods.method_table(found).latex()
    assert r"L2-SP & $80.0 \pm 0.0$ &  & $-2.0 [-3.5, -0.5]^{*}$ & $2.5$ &  &  & $80.39$ \\" in latex


def test_the_text_over_all_data_sets():
    """The best first, and how many differences are significant, to either side."""
    compared = differences(("delta", "l2_sp", 2.0, 0.5, 3.5, 0.01, 0.04), ("l2", "l2_sp", -2.0, -3.0, -1.0, 0.01, 0.04))
    ants = compared.assign(dataset="ants", difference=-compared["difference"])
    ants.loc[0, "p_holm"] = 0.06
    text = lines(frame(compared=pd.concat([compared, ants])))
    assert text[4:12] == [
        "## ResNet-50, all 2 data sets",
        "",
        "| Method | Mean rank | Above : below L2-SP | Above : below DELTA | Cells |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| DELTA | 1.50 | 1 : 0 |  |  |",
        "| Ours | 1.75 | 0 : 0 | 0 : 0 |  |",
        "| L2-SP | 3.25 |  | 0 : 1 |  |",
        "| L2 | 3.50 | 1 : 1 | 0 : 0 |  |",
    ]
    assert [line for line in text if line.startswith("## ")][1:] == ["## CUB-200-2011, ResNet-50", "## ants, ResNet-50"]
    # On the ants nobody has published anything.
    assert (
        text[text.index("## ants, ResNet-50") + 2]
        == "| Method | Top-1 (%) | Minus L2-SP | Minus DELTA | Rank | Cells |"
    )


@pytest.mark.parametrize(
    ("source", "dataset", "theirs"),
    [
        ("ResNet-50, ImageNet", "cub_200_2011", [81.8, 80.25]),
        ("ResNet-50, ImageNet", "ants", [NAN, NAN]),
        ("ResNet-101, ImageNet", "cub_200_2011", [NAN, NAN]),
        ("ResNet-50, Places365", "cub_200_2011", [NAN, NAN]),
    ],
)
def test_others_stand_beside_the_same_data_set_and_network_alone(source, dataset, theirs):
    found = frame(runs(source, datasets=(dataset,))).set_index("method")
    np.testing.assert_array_equal(found.loc["l2", list(HARNESSES)].to_numpy(dtype=float), theirs)
    assert ("†" in "\n".join(lines(found.reset_index()))) == (not np.isnan(theirs[0]))


def test_what_others_publish():
    table = published()
    assert set(table["method"]) <= set(KEYS_OF_METHODS)
    assert len(table) == len(table.drop_duplicates(["source_network", "dataset", "method"]))
    assert table.groupby("dataset")[list(HARNESSES)].count().T.to_dict() == {
        "cub_200_2011": {"tllib": 7, "paddle": 6},
        "stanford_cars": {"tllib": 7, "paddle": 0},
        "fgvc_aircraft": {"tllib": 7, "paddle": 0},
        "mit_indoors_67": {"tllib": 0, "paddle": 6},
        "dtd": {"tllib": 0, "paddle": 6},
    }


def test_times_are_relative_to_l2():
    seconds = {
        ("ants", "resnet50", "l2"): 8.0,
        ("ants", "resnet50", "delta"): 12.0,
        ("cub_200_2011", "resnet50", "delta"): 9,
    }
    found = methods.with_times(frame(), seconds).set_index(["dataset", "method"])[methods.TIME]
    assert found["ants"].dropna().to_dict() == {"l2": 1, "delta": 1.5}
    assert found["cub_200_2011"].isna().all()  # as nothing is known of L2 there
    text = lines(methods.with_times(frame(runs(datasets=("ants",))), seconds))
    assert text[-4:] == [
        "| L2 | 50.0 ± 0.0 | 3 |  | 1.00 |",
        "| L2-SP | 40.0 ± 0.0 | 4 |  |  |",
        "| DELTA | 61.0 ± 1.0 | 2 |  | 1.50 |",
        "| Ours | 70.0 ± 0.0 | 1 |  |  |",
    ]
    assert "Time: " in text[2]
    assert "Time" not in "\n".join(lines(methods.with_times(frame(), {})))


def test_how_a_caption_reads():
    def many(count: int, spread: float) -> pd.DataFrame:
        rows = [
            (f"d{number}", "resnet50", method, LABELS[method], "", 0, 50 + number + spread * place)
            for number in range(count)
            for place, method in enumerate(LABELS)
        ]
        return frame(pd.DataFrame(rows, columns=[*KEYS, "method_label", "source_network", "seed", "top1"]))

    # All agree: χ²_F is at its largest, 5 · 3.
    assert methods.rank_caption(many(5, 1)).startswith(
        "ResNet-50: over 5 data sets, Friedman's test says that the methods differ (F(3, 12) = inf, p < 0.001). A line "
        "joins those whose mean ranks are less than the critical difference apart, 2.10 at p < 0.05"
    )
    assert methods.rank_caption(many(4, 1)) == (
        "ResNet-50: 4 data sets are fewer than 5, and nothing can be concluded from them."
    )
    assert methods.rank_caption(many(2, 1)) == ""
    assert "values that differ" in methods.rank_caption(many(5, 0))


def test_how_many_cells_a_method_was_tuned_on(tmp_path):
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False)
    values = yaml.safe_load((root / "params.yaml").read_text())
    values["delta"]["select"] = "grid"
    values["grid"] |= {"datasets": ["ants"], "backbones": ["resnet101"], "alpha": [0.1, 1], "beta": [0, 0.1, 1]}
    values["probe"] = {"c": [0.1, 1, 10, 100]}
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    with chdir(root):
        found = methods.collect(inputs(root)).frames["table5"].set_index("method")["cells"]
    expected = {"probe": 4, "l2_fe": 0, "l2": 0, "l2_sp": 0, "l2_sp_att": 0, "delta_wo_att": 0, "delta": 6}
    assert found.to_dict() == expected


def test_intervals_are_over_images_and_seeds(tmp_path):
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False)
    values = yaml.safe_load((root / "params.yaml").read_text())
    (root / "params.yaml").write_text(yaml.safe_dump(values | {"seeds": [0, 1, 2]}))
    for method in (*ALWAYS_TRAINED, *values["methods"]):
        write_run(root / "runs/ants/resnet101" / method / "2", method)
    for seed, right in enumerate((9, 10, 9)):  # of 10 images; all others have 8
        write_predictions(root / "runs/ants/resnet101/delta" / str(seed), predicted(right))
    with chdir(root):
        found = methods.collect(inputs(root)).frames["table5"].set_index("method")
    interval = two_way_interval(np.array([[0] * 8 + [1, 0], [0] * 8 + [1, 1], [0] * 8 + [1, 0]]))
    up, down = (interval.difference, interval.low, interval.high), (-interval.difference, -interval.high, -interval.low)
    numbers = ("difference", "low", "high")
    assert found.loc["delta", [f"{name}_l2_sp" for name in numbers]].tolist() == pytest.approx(up)
    for method in found.index.drop("delta"):
        assert found.loc[method, [f"{name}_delta" for name in numbers]].tolist() == pytest.approx(down)
        # Of the 21 differences of Table 1 these six are the smallest, and equal: Holm multiplies by 21.
        assert found.loc[method, "p_holm_delta"] == pytest.approx(min(1, 21 * interval.p))
    assert found.loc["l2_sp", [f"{name}_l2_sp" for name in numbers]].isna().all()


def test_the_report_has_it(tmp_path):
    datasets = ["cub_200_2011", "ants", "bees"]
    reports = report(write_project(tmp_path / "project", datasets, with_analyses=False))
    table = pd.read_csv(reports / "tables/table5.csv")
    assert table.groupby("dataset").size().to_dict() == dict.fromkeys(datasets, 7)
    assert "time" not in table  # it would differ from run to run
    assert (table["rank"] == 4).all()  # all are right on the same images
    page = (reports / "index.html").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    section = page.partition('<section id="table5">')[2].partition("</section>")[0]
    assert '<a href="#table5">Table 5</a>' in page
    assert section.count("<img ") == 1
    assert "Critical-difference diagram.</strong> ResNet-101: 3 data sets are fewer than 5" in section
    assert section.index("<figure>") < section.index("<table")


def test_two_data_sets_have_no_diagram(tmp_path):
    reports = report(write_project(tmp_path / "project", with_analyses=False))
    assert not list((reports / "figures").glob("ranks*"))
    section = (
        (reports / "index.html").read_text("utf-8").partition('<section id="table5">')[2].partition("</section>")[0]
    )
    assert "<img" not in section
    assert "diagram takes 3 data sets" in section


def test_there_is_no_table_without_anything_to_compare_with(tmp_path):
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False)
    values = yaml.safe_load((root / "params.yaml").read_text())
    (root / "params.yaml").write_text(yaml.safe_dump(values | {"methods": ["l2"]}))
    reports = report(root)
    assert not (reports / "tables/table5.csv").exists()
    assert "Table 5" not in (reports / "index.html").read_text("utf-8")
