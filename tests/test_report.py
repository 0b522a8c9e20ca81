"""Table 1 and the metrics of a made-up result, against what they must read; the paper's own numbers."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pandas as pd
import pytest

from delta.errors import UserError
from delta.report.results import left_out, metrics, read_results
from delta.report.tables import paper_numbers, table1

TOP1 = {
    ("cub_200_2011", "resnet101", "l2"): [78.0, 79.0, 77.0],
    ("cub_200_2011", "resnet101", "delta"): [80.0, 81.0, 81.5],
    ("my_birds", "resnet101", "l2"): [50.0, 50.0, 50.0],
    ("my_birds", "resnet101", "delta"): [60.0, 61.0, 62.0],
}


@pytest.fixture
def results(tmp_path) -> pd.DataFrame:
    for key, values in TOP1.items():
        for seed, top1 in enumerate(values):
            run = tmp_path.joinpath(*key, str(seed))
            run.mkdir(parents=True)
            (run / "result.json").write_text(json.dumps({"top1": top1}))
    return read_results(tmp_path, ["cub_200_2011", "my_birds"], ["resnet101"], ["l2", "delta"], [0, 1, 2])


def test_markdown_reads_as_written_out(results):
    # Paper, Table 1, CUB-200-2011, ResNet-101: L2 78.4 ± 0.1, DELTA 80.5 ± 0.1.
    assert table1(results)["md"].splitlines() == [
        "# Table 1. Top-1 accuracy (%)",
        "",
        "Mean ± sample standard deviation over 3 seeds; in brackets the paper's value, where it has one.",
        "",
        "| ResNet-101 | L2 | DELTA |",
        "| --- | ---: | ---: |",
        "| CUB-200-2011 | 78.0 ± 1.0 (78.4 ± 0.1) | 80.8 ± 0.8 (80.5 ± 0.1) |",
        "| my_birds | 50.0 ± 0.0 | 61.0 ± 1.0 |",
    ]


def test_latex_has_the_paper_s_row_and_escapes(results):
    tex = table1(results)["tex"]
    assert r"CUB-200-2011 & $78.0 \pm 1.0$ & $80.8 \pm 0.8$ \\" in tex
    assert r"\quad paper & $78.4 \pm 0.1$ & $80.5 \pm 0.1$ \\" in tex
    assert r"my\_birds & $50.0 \pm 0.0$ & $61.0 \pm 1.0$ \\" in tex
    assert tex.count(r"\quad paper") == 1


def test_csv_has_a_row_a_method(results, tmp_path):
    (tmp_path / "t.csv").write_text(table1(results)["csv"])
    rows = pd.read_csv(tmp_path / "t.csv")
    assert list(rows.columns) == ["dataset", "backbone", "method", "mean", "std", "seeds", "paper_mean", "paper_std"]
    delta = rows[(rows["dataset"] == "cub_200_2011") & (rows["method"] == "delta")].iloc[0]
    assert delta["mean"] == pytest.approx(statistics.mean([80.0, 81.0, 81.5]), abs=1e-4)
    assert delta["std"] == pytest.approx(statistics.stdev([80.0, 81.0, 81.5]), abs=1e-4)
    assert delta["paper_mean"] == 80.5
    assert rows[rows["dataset"] == "my_birds"]["paper_mean"].isna().all()


def test_metrics_are_nested(results):
    nested = json.loads(metrics(results))
    assert nested["my_birds"]["resnet101"]["delta"] == {
        "top1_mean": 61.0,
        "top1_std": 1.0,
        "per_seed": {"0": 60.0, "1": 61.0, "2": 62.0},
    }


def test_one_seed_has_no_deviation(results):
    single = results[results["seed"] == 0]
    assert "top1_std" not in metrics(single)
    assert "NaN" not in metrics(single)
    assert "| my_birds | 50.0 | 60.0 |" in table1(single)["md"]
    assert "over one seed" in table1(single)["md"]


def test_runs_of_other_parameters_are_noticed(results, tmp_path):
    assert left_out(tmp_path, results) == []
    assert left_out(tmp_path, results[results["seed"] < 2])[0] == tmp_path / "cub_200_2011/resnet101/delta/2"
    assert len(left_out(tmp_path, results[results["dataset"] == "my_birds"])) == 6


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cub/resnet101/l2/0/result.json: no result of a run"):
        read_results(tmp_path, ["cub"], ["resnet101"], ["l2"], [0])


def test_paper_s_numbers_are_whole():
    table = paper_numbers(1)
    assert len(table) == 6 * 2 * 6
    food = table[(table["dataset"] == "food_101") & (table["backbone"] == "inception_v3")].set_index("method")
    assert food["mean"].to_dict() == {
        "l2_fe": 55.9,
        "l2": 76.9,
        "l2_sp": 75.9,
        "l2_sp_att": 75.3,
        "delta_wo_att": 76.2,
        "delta": 80.8,
    }


def test_the_readme_shows_the_committed_table():
    root = Path(__file__).parents[1]
    table = [line for line in (root / "reports/tables/table1.md").read_text().splitlines() if line.startswith("|")]
    assert "\n".join(table) in (root / "README.md").read_text(encoding="utf-8")
