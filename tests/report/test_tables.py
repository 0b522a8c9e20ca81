"""Tables 1 and 2 and their metrics for synthetic runs; the paper's numbers."""

from __future__ import annotations

import io
import json
import statistics
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from delta.analysis.map_files import METHODS as MAPPED_METHODS
from delta.io.errors import UserError
from delta.methods.registry import ALWAYS_TRAINED
from delta.report import paper
from delta.report.differences import COLUMNS as DIFFERENCES
from delta.report.figure_files import write_figures
from delta.report.results import read_results
from delta.report.statistics import two_way_interval
from delta.report.tables.accuracy import accuracy_frame, accuracy_metrics, page_layout, paper_layout
from delta.report.tables.registry import write_tables
from delta.training.predictions import write_predictions
from tests.helpers.report_project import inputs, predicted, report, write_project, write_run

NAN = float("nan")
LABELS = {"l2": "L2", "l2_sp": "L2-SP", "delta": "DELTA"}
TOP1 = {
    ("cub_200_2011", "resnet101", "l2"): [78.0, 79.0, 77.0],
    ("cub_200_2011", "resnet101", "delta"): [80.0, 81.0, 81.5],
    ("my_birds", "resnet101", "l2"): [50.0, 50.0, 50.0],
    ("my_birds", "resnet101", "delta"): [60.0, 61.0, 62.0],
}
IMPROVED = {"l2_sp": [60.0, 62.0, 61.0], "l2": [60.0, 60.0, 63.0], "delta": [62.0, 65.0, 65.0]}


def runs(top1: dict[tuple[str, str, str], list[float]], source: str = "ResNet-101, ImageNet") -> pd.DataFrame:
    rows = [(*key, seed, value) for key, values in top1.items() for seed, value in enumerate(values)]
    table = pd.DataFrame(rows, columns=["dataset", "backbone", "method", "seed", "top1"])
    labels = table["method"].map(LABELS)
    return table.assign(macro=table["top1"], method_label=labels, source_network=source, device="cpu")


def improved(seeds: int) -> pd.DataFrame:
    return runs({("cub_200_2011", "resnet101", method): values[:seeds] for method, values in IMPROVED.items()})


def differences(*rows: tuple, table: str = "table2") -> pd.DataFrame:
    """Differences on CUB-200-2011: method, other, difference, low, high, p."""
    frame = pd.DataFrame(rows, columns=["method", "other", "difference", "low", "high", "p"])
    frame = frame.assign(dataset="cub_200_2011", backbone="resnet101", comparison=table, p_holm=frame["p"] * 2)
    return frame.assign(method_label="", other_label="", seeds=3, images=10)[DIFFERENCES]


def printed(
    number: int, results: pd.DataFrame, compared: pd.DataFrame | None = None
) -> tuple[list[str], list[str], pd.DataFrame]:
    """The lines of the Markdown and LaTeX files, and the CSV file as a frame."""
    compared = differences() if compared is None else compared
    table = paper_layout(f"table{number}", accuracy_frame(f"table{number}", results, compared))
    return table.markdown().splitlines(), table.latex().splitlines(), pd.read_csv(io.StringIO(table.csv()))


def test_the_text_of_table_1():
    # Paper, Table 1, CUB-200-2011, ResNet-101: L2 78.4 ± 0.1, DELTA 80.5 ± 0.1.
    results = runs(TOP1)
    results["device"] = [f"cuda:{seed}" for seed in results["seed"]]
    markdown, latex, rows = printed(1, results)
    assert markdown == [
        "# Table 1: top-1 accuracy (%)",
        "",
        "Mean ± sample standard deviation over 3 seeds. In brackets the paper's value, where it has one. "
        "Parameters of params.yaml, not tuned here: L2, DELTA.",
        "",
        "| ResNet-101 | L2 | DELTA |",
        "| --- | ---: | ---: |",
        "| CUB-200-2011 | 78.0 ± 1.0 (78.4 ± 0.1) | 80.8 ± 0.8 (80.5 ± 0.1) |",
        "| my_birds | 50.0 ± 0.0 | 61.0 ± 1.0 |",
    ]
    assert latex == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"ResNet-101 & L2 & DELTA \\",
        r"\midrule",
        r"CUB-200-2011 & $78.0 \pm 1.0$ & $80.8 \pm 0.8$ \\",
        r"\quad paper & $78.4 \pm 0.1$ & $80.5 \pm 0.1$ \\",
        r"my\_birds & $50.0 \pm 0.0$ & $61.0 \pm 1.0$ \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    columns = ["dataset", "backbone", "method", "method_label", "source_network", "mean", "std", "macro", "seeds"]
    columns += ["cells"]
    assert list(rows) == [*columns, "paper_mean", "paper_std", "difference", "low", "high", "p", "p_holm", "device"]
    delta = rows.set_index(["dataset", "method"]).loc["cub_200_2011", "delta"]
    assert delta["mean"] == pytest.approx(statistics.mean([80.0, 81.0, 81.5]), abs=1e-4)
    assert delta["std"] == pytest.approx(statistics.stdev([80.0, 81.0, 81.5]), abs=1e-4)
    assert (delta["paper_mean"], delta["method_label"], delta["device"]) == (80.5, "DELTA", "cuda:0, cuda:1, cuda:2")
    assert rows[rows["dataset"] == "my_birds"]["paper_mean"].isna().all()
    assert rows["macro"].isna().all()  # as all classes have as many test images


def test_the_mean_over_classes_stands_beside_top_1_where_class_sizes_differ():
    results = runs(TOP1)
    birds = results["dataset"] == "my_birds"
    # On one run of L2 both happen to be equal.
    results.loc[birds, "macro"] = [50.0, 47.0, 44.0, 52.0, 52.5, 53.0]
    markdown, latex, rows = printed(1, results)
    assert markdown[2] == (
        "Mean ± sample standard deviation over 3 seeds. Macro is the mean of the accuracies on each class's test "
        "images, of which classes have different numbers. In brackets the paper's value, where it has one. "
        "Parameters of params.yaml, not tuned here: L2, DELTA."
    )
    assert markdown[-2:] == [
        "| CUB-200-2011 | 78.0 ± 1.0 (78.4 ± 0.1) | 80.8 ± 0.8 (80.5 ± 0.1) |",
        "| my_birds | 50.0 ± 0.0 (macro 47.0) | 61.0 ± 1.0 (macro 52.5) |",
    ]
    assert latex[6] == r"my\_birds & $50.0 \pm 0.0$ (macro 47.0) & $61.0 \pm 1.0$ (macro 52.5) \\"
    macro = rows.set_index(["dataset", "method"])["macro"]
    assert macro["my_birds"].to_dict() == {"l2": 47.0, "delta": 52.5}
    assert macro["cub_200_2011"].isna().all()
    table = page_layout("table1", accuracy_frame("table1", results, differences()))
    (block,) = table.blocks
    assert [column.heading for column in block.columns] == ["Data set", "Method", "Top-1 (%)", "Macro (%)", "Paper (%)"]
    assert [row.cells[3].text for row in block.rows] == ["", "", "47.0", "52.5"]
    (block,) = page_layout("table1", accuracy_frame("table1", runs(TOP1), differences())).blocks
    assert "Macro (%)" not in [column.heading for column in block.columns]


def test_the_legend_says_of_how_many_cells_parameters_were_chosen():
    results = pd.concat([runs(TOP1), runs(TOP1).assign(method="l2_sp", method_label="L2-SP")])
    for layout in (paper_layout, page_layout):
        frame = accuracy_frame("table1", results, differences(), {"l2": 9, "delta": 9, "l2_sp": 0})
        assert (
            layout("table1", frame)
            .markdown()
            .splitlines()[2]
            .endswith(
                " Parameters chosen by cross-validation on the training images: L2, DELTA (9 cells). Parameters of "
                "params.yaml, not tuned here: L2-SP."
            )
        )
        frame = accuracy_frame("table1", results, differences(), {"l2": 9, "delta": 4, "l2_sp": 6})
        assert (
            layout("table1", frame)
            .markdown()
            .splitlines()[2]
            .endswith("training images: L2 (9 cells); DELTA (4 cells); L2-SP (6 cells).")
        )


def test_the_text_of_table_2():
    # Paper, Table 2, CUB-200-2011, ResNet-101: L2 81.7 ± 0.2, L2-SP 82.3 ± 0.2, DELTA 82.6 ± 0.2.
    # Of Table 1's differences and of those to other methods there is none here. L2-SP minus L2 is turned round.
    compared = differences(
        ("l2_sp", "l2", -0.25, -5.0, 4.5, 0.6),
        ("delta", "l2_sp", 3.0, 0.5, 5.5, 0.02),
        ("delta", "l2", 9.0, 8.0, 10.0, 0),
    )
    compared = pd.concat([compared, differences(("delta", "l2_sp", 7.0, 6.0, 8.0, 0.0), table="table1")])
    markdown, latex, rows = printed(2, improved(3), compared)
    assert markdown == [
        "# Table 2: top-1 accuracy (%) with the improved view",
        "",
        "Mean ± sample standard deviation over 3 seeds. In brackets the paper's value, where it has one. "
        "Below: the difference to L2-SP, paired by test image and seed, and its 95 % confidence interval over images "
        "and seeds, for this comparison alone, with * where p < 0.05 after Holm's correction over all differences of "
        "this table on the data set and backbone. Parameters of params.yaml, not tuned here: L2-SP, L2, DELTA.",
        "",
        "| ResNet-101 | L2-SP | L2 | DELTA |",
        "| --- | ---: | ---: | ---: |",
        "| CUB-200-2011 | 61.0 ± 1.0 (82.3 ± 0.2) | 61.0 ± 1.7 (81.7 ± 0.2)<br>+0.2 [−4.5, +5.0] "
        "| 64.0 ± 1.7 (82.6 ± 0.2)<br>+3.0 [+0.5, +5.5] * |",
    ]
    assert latex[6] == r"\quad minus L2-SP &  & $+0.2 [-4.5, +5.0]$ & $+3.0 [+0.5, +5.5]^{*}$ \\"
    row = rows.set_index("method").loc["delta"]
    assert row[["difference", "low", "high", "p", "p_holm"]].tolist() == [3, 0.5, 5.5, 0.02, 0.04]


def test_the_mark_needs_the_corrected_p():
    """An interval that excludes 0 is for one comparison alone."""
    compared = differences(("delta", "l2_sp", 3.0, 0.5, 5.5, 0.03), ("l2", "l2_sp", -3.0, -5.5, -0.5, 0.01))
    text = "\n".join(printed(2, improved(3), compared)[0])
    assert "<br>+3.0 [+0.5, +5.5] |" in text
    assert "<br>−3.0 [−5.5, −0.5] *" in text


def test_two_seeds_give_no_interval_and_a_note():
    compared = differences(("delta", "l2_sp", 2.5, NAN, NAN, NAN))
    text = "\n".join(printed(2, improved(2), compared)[0])
    assert "a confidence interval takes at least 3 seeds" in text
    assert "<br>+2.5 |" in text
    assert "[" not in text


def test_one_seed_has_no_deviation():
    single = runs(TOP1)[lambda table: table["seed"] == 0]
    assert accuracy_metrics(single)["my_birds"]["resnet101"]["delta"] == {"top1_mean": 60.0, "per_seed": {"0": 60.0}}
    text = "\n".join(printed(1, single)[0])
    assert "| my_birds | 50.0 | 60.0 |" in text
    assert "Top-1 of one seed. In brackets the paper's value, where it has one." in text


def sourced(sources: dict[tuple[str, str], str]) -> pd.DataFrame:
    """One run of L2 per data set and backbone, all with 80 %."""
    return pd.concat([runs({(*pair, "l2"): [80.0]}, source) for pair, source in sources.items()])


FULL = {
    (dataset, backbone): f"{network}, ImageNet"
    for dataset in ("mit_indoors_67", "food_101", "my_birds")
    for backbone, network in (("resnet101", "ResNet-101"), ("inception_v3", "Inception-V3"))
} | {("mit_indoors_67", "resnet101"): "ResNet-50, Places365"}


def test_an_unusual_source_network_is_named():
    # Paper, Table 1, L2: MIT Indoors 67 83.7 ± 0.3 and 74.8 ± 0.4, Food-101 85.3 ± 0.1 and 76.9 ± 0.2.
    markdown, latex, rows = printed(1, sourced(FULL))
    assert markdown[2] == (
        "Top-1 of one seed. In brackets the paper's value, where it has one. Parameters of params.yaml, not tuned "
        "here: L2. A data set's name is followed by its source network in brackets where the rest of its block or the "
        "paper has another one. The paper's value beside it is for the block's own network: with ImageNet weights, or "
        "for MIT Indoors 67 with Places365 weights, which are not published for that network."
    )
    assert markdown[4:] == [
        "| ResNet-101 | L2 |",
        "| --- | ---: |",
        "| MIT Indoors 67 (ResNet-50, Places365) | 80.0 (83.7 ± 0.3) |",
        "| Food-101 | 80.0 (85.3 ± 0.1) |",
        "| my_birds | 80.0 |",
        "",
        "| Inception-V3 | L2 |",
        "| --- | ---: |",
        "| MIT Indoors 67 (Inception-V3, ImageNet) | 80.0 (74.8 ± 0.4) |",
        "| Food-101 | 80.0 (76.9 ± 0.2) |",
        "| my_birds | 80.0 |",
    ]
    assert latex[4:7] == [
        r"MIT Indoors 67 (ResNet-50, Places365) & $80.0$ \\",
        r"\quad paper (ResNet-101, Places365) & $83.7 \pm 0.3$ \\",
        r"Food-101 & $80.0$ \\",
    ]
    assert dict(zip(zip(rows["dataset"], rows["backbone"], strict=True), rows["source_network"], strict=True)) == FULL


def test_more_methods_than_fit_side_by_side_have_a_row_each():
    methods = [f"method_{number}" for number in range(9)]
    datasets = ("ants", "bees", "mit_indoors_67")
    top1 = {(dataset, "resnet101", method): [80.0] for dataset in datasets for method in methods}
    top1["bees", "resnet101", "method_8"] = [90.0]
    results = runs(top1).assign(method_label=lambda rows: rows["method"].str.upper())
    results.loc[results["dataset"] == "mit_indoors_67", "source_network"] = "ResNet-50, Places365"
    few, many = (printed(1, results[results["method"].isin(methods[:count])])[0][4:] for count in (8, 9))
    assert few[0] == "| ResNet-101 | " + " | ".join(method.upper() for method in methods[:8]) + " |"
    assert many == [
        "| ResNet-101 | ants | bees | MIT Indoors 67 (ResNet-50, Places365) |",
        "| --- | ---: | ---: | ---: |",
        *(f"| METHOD_{number} | 80.0 | 80.0 | 80.0 |" for number in range(8)),
        "| METHOD_8 | 80.0 | 90.0 | 80.0 |",
    ]


def test_a_users_source_network_is_named_only_if_most_use_another():
    pairs = {(name, "small"): "timm:resnet34" for name in ("ants", "bees", "cows")}
    markdown = printed(1, sourced(pairs))[0]
    assert "timm" not in "\n".join(markdown)
    assert markdown[2] == "Top-1 of one seed. Parameters of params.yaml, not tuned here: L2."
    markdown, latex, _ = printed(1, sourced(pairs | {("bees", "small"): "resnet34, checkpoint my_50%.pth"}))
    assert markdown[-3:] == [
        "| ants | 80.0 |",
        "| bees (resnet34, checkpoint my_50%.pth) | 80.0 |",
        "| cows | 80.0 |",
    ]
    assert "The paper's value" not in markdown[2]
    assert latex[5].startswith(r"bees (resnet34, checkpoint my\_50\%.pth) &")


@pytest.mark.parametrize(
    ("sources", "rows"),
    [
        # There is no most common source network.
        ({("ants", "s"): "timm:a", ("bees", "s"): "timm:b"}, ["| ants (timm:a) | 80.0 |", "| bees (timm:b) | 80.0 |"]),
        # It is the most common one, but not the paper's.
        (
            {("mit_indoors_67", "resnet101"): "ResNet-50, Places365"},
            ["| MIT Indoors 67 (ResNet-50, Places365) | 80.0 (83.7 ± 0.3) |"],
        ),
        # It is the paper's, but not the most common one.
        (
            {("mit_indoors_67", "resnet101"): "ResNet-101, Places365", ("ants", "resnet101"): "?"},
            ["| MIT Indoors 67 (ResNet-101, Places365) | 80.0 (83.7 ± 0.3) |", "| ants (?) | 80.0 |"],
        ),
    ],
)
def test_which_source_networks_are_named(sources, rows):
    assert printed(1, sourced(sources))[0][-len(rows) :] == rows


def test_metrics_are_nested():
    assert accuracy_metrics(runs(TOP1))["my_birds"]["resnet101"]["delta"] == {
        "top1_mean": 61.0,
        "top1_std": 1.0,
        "per_seed": {"0": 60.0, "1": 61.0, "2": 62.0},
    }


def test_metrics_have_the_mean_over_classes_where_they_differ_in_size():
    """One run happens to have the same mean over classes as over images."""
    results = runs(TOP1)
    results.loc[results["dataset"] == "my_birds", "macro"] = [50.0, 41.0, 42.0, 51.0, 52.0, 53.0]
    metrics = accuracy_metrics(results)
    assert metrics["my_birds"]["resnet101"]["delta"] == {
        "top1_mean": 61.0,
        "top1_std": 1.0,
        "macro_mean": 52.0,
        "macro_std": 1.0,
        "per_seed": {"0": 60.0, "1": 61.0, "2": 62.0},
    }
    assert "macro_mean" not in metrics["cub_200_2011"]["resnet101"]["delta"]
    assert metrics["my_birds"]["resnet101"]["l2"]["macro_mean"] == pytest.approx(133 / 3, abs=1e-4)


def test_unused_runs_are_found(tmp_path):
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False)
    with chdir(root):
        assert inputs(root).unused_runs(Path("runs")) == []
        write_run(Path("runs/ants/resnet101/delta/7"), "delta")
        write_run(Path("runs/ants/resnet101/delta-improved/0"), "delta")
        unused = [run.relative_to("runs/ants/resnet101").as_posix() for run in inputs(root).unused_runs(Path("runs"))]
        assert unused == ["delta/7", "delta-improved/0"]


def test_labels_come_from_the_runs(tmp_path):
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False)
    for file in (root / "runs").glob("*/*/delta/*/result.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"label": "DELTA, renamed"}))
    assert "| L2-SP(ATT) | DELTA(w/o ATT) | DELTA, renamed |" in (report(root) / "tables/table1.md").read_text()


def test_differences_come_from_the_predictions_of_the_runs(tmp_path):
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False)
    values = yaml.safe_load((root / "params.yaml").read_text())
    (root / "params.yaml").write_text(yaml.safe_dump(values | {"seeds": [0, 1, 2]}))
    for method in (*ALWAYS_TRAINED, *values["methods"]):
        write_run(root / "runs/ants/resnet101" / method / "2", method)
    for seed, right in enumerate((9, 10, 9)):  # of 10 images; all others have 8
        write_predictions(root / "runs/ants/resnet101/delta" / str(seed), predicted(right))
    reports = report(root)
    hits = np.array([[0] * 8 + [1, 0], [0] * 8 + [1, 1], [0] * 8 + [1, 0]])
    expected = two_way_interval(hits)
    table = pd.read_csv(reports / "tables/table1.csv").set_index("method")
    numbers = ["difference", "low", "high", "p"]
    assert table.loc["delta", numbers].tolist() == pytest.approx(
        [getattr(expected, name) for name in numbers], abs=1e-4
    )
    assert expected.difference == pytest.approx(100 * 4 / 30)
    rows = pd.read_csv(reports / "tables/differences.csv")
    delta = rows.query("method == 'delta' and other == 'l2_sp' and comparison == 'table1'").iloc[0]
    assert delta["p_holm"] == pytest.approx(min(1, 21 * expected.p), abs=1e-4)  # the smallest of 21
    page = (reports / "index.html").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert "DELTA is 13.3 points above L2-SP, 95 % confidence interval [" in page


def test_a_run_that_was_tested_on_other_images_is_named(tmp_path):
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False)
    run = Path("runs/ants/resnet101/delta/1")
    write_predictions(root / run, predicted(8)[:9])
    with chdir(root), pytest.raises(UserError, match=rf"{run}: was tested on other images than .*: run `dvc repro`$"):
        write_tables(Path("reports"), inputs(root))


def test_numbers_without_a_point_are_numbers_on_the_page(tmp_path):
    """YAML 1.2, which the stages read, has them; YAML 1.1 takes them for text."""
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False)
    text = (root / "params.yaml").read_text(encoding="utf-8")
    assert "clip_norm: null\n" in text
    (root / "params.yaml").write_text(text.replace("clip_norm: null\n", "clip_norm: 2e1\n"), encoding="utf-8")
    page = (report(root) / "index.html").read_text(encoding="utf-8")
    assert "clipped to a norm of 20." in page
    assert "clip_norm: 2e1\n" in page


def test_figures_need_table_1(tmp_path):
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False)
    with chdir(root), pytest.raises(UserError, match=r"table1\.csv: no results there, .*: run `dvc repro`$"):
        write_figures(Path("reports"), inputs(root))


def test_a_report_without_delta(tmp_path):
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False)
    values = yaml.safe_load((root / "params.yaml").read_text())
    del values["delta"], values["l2_sp"]
    values["grid"]["methods"] = ["l2_sp_att"]
    (root / "params.yaml").write_text(yaml.safe_dump(values | {"methods": ["l2"]}))
    reports = report(root)
    assert "| ants | 80.0 ± 0.0 | 80.0 ± 0.0 | 80.0 ± 0.0 |" in (reports / "tables/table1.md").read_text()
    assert "no DELTA and no L2-SP in this run" in (reports / "index.html").read_text(encoding="utf-8")


def test_a_missing_run_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"l2/0/result.json: no result of a run \(.*\): run `dvc repro`$"):
        read_results([("cub", "resnet101", "l2", 0, tmp_path / "l2/0")])


def test_the_papers_numbers_are_complete():
    assert [len(paper.numbers(number)) for number in (1, 2, 3, 4)] == [6 * 2 * 6, 6 * 2 * 4, 5, 4 * 2 * 6]
    table = paper.numbers(1)
    food = table[(table["dataset"] == "food_101") & (table["backbone"] == "inception_v3")].set_index("method")
    assert food["mean"].to_dict() == {
        "l2_fe": 55.9,
        "l2": 76.9,
        "l2_sp": 75.9,
        "l2_sp_att": 75.3,
        "delta_wo_att": 76.2,
        "delta": 80.8,
    }
    assert set(table["dataset"]) == set(paper.DATASET_NAMES)
    assert set(table["backbone"]) == set(paper.BACKBONE_NAMES) == set(paper.CROPS)
    assert set(paper.numbers(2)["method"]) == set(paper.IMPROVED_VIEW_METHODS)
    assert set(paper.numbers(3)["method"]) == set(paper.INTERPRETED_METHODS) == set(MAPPED_METHODS)
