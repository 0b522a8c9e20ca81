"""Table 1 and the metrics of a made-up result, against what they must read; the paper's own numbers."""

from __future__ import annotations

import io
import json
import statistics
from pathlib import Path

import pandas as pd
import pytest

from delta.io.errors import UserError
from delta.report.results import left_out, metrics, read_results
from delta.report.tables import accuracy_table, paper_numbers

EXTRA = ["paper_mean", "paper_std", "difference", "low", "high"]
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
            entries = {"top1": top1, "source_network": "ResNet-101, ImageNet", "device": f"cuda:{seed}"}
            (run / "result.json").write_text(json.dumps(entries))
    return read_results(tmp_path, ["cub_200_2011", "my_birds"], ["resnet101"], ["l2", "delta"], [0, 1, 2])


def test_results_have_a_row_a_run_with_its_source_and_device(results):
    assert len(results) == 12
    assert set(results["source_network"]) == {"ResNet-101, ImageNet"}
    assert list(results["device"][:3]) == ["cuda:0", "cuda:1", "cuda:2"]


def test_markdown_reads_as_written_out(results):
    # Paper, Table 1, CUB-200-2011, ResNet-101: L2 78.4 ± 0.1, DELTA 80.5 ± 0.1.
    assert accuracy_table(1, results)["md"].splitlines() == [
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
    tex = accuracy_table(1, results)["tex"]
    assert r"CUB-200-2011 & $78.0 \pm 1.0$ & $80.8 \pm 0.8$ \\" in tex
    assert r"\quad paper & $78.4 \pm 0.1$ & $80.5 \pm 0.1$ \\" in tex
    assert r"my\_birds & $50.0 \pm 0.0$ & $61.0 \pm 1.0$ \\" in tex
    assert tex.count(r"\quad paper") == 1


def test_csv_has_a_row_a_method(results, tmp_path):
    (tmp_path / "t.csv").write_text(accuracy_table(1, results)["csv"])
    rows = pd.read_csv(tmp_path / "t.csv")
    assert list(rows.columns) == [
        "dataset",
        "backbone",
        "method",
        "source_network",
        "mean",
        "std",
        "seeds",
        *EXTRA,
        "device",
    ]
    assert set(rows["device"]) == {"cuda:0, cuda:1, cuda:2"}
    assert set(rows["source_network"]) == {"ResNet-101, ImageNet"}
    delta = rows[(rows["dataset"] == "cub_200_2011") & (rows["method"] == "delta")].iloc[0]
    assert delta["mean"] == pytest.approx(statistics.mean([80.0, 81.0, 81.5]), abs=1e-4)
    assert delta["std"] == pytest.approx(statistics.stdev([80.0, 81.0, 81.5]), abs=1e-4)
    assert delta["paper_mean"] == 80.5
    assert rows[rows["dataset"] == "my_birds"]["paper_mean"].isna().all()


# L2-SP against itself plus (2, 3, 4): t(0.975, 2) = 4.3027, so 3 ± 4.3027 · 1 / √3 = 3 ± 2.484.
IMPROVED = {"l2_sp": [60.0, 62.0, 61.0], "l2": [60.0, 60.0, 63.0], "delta": [62.0, 65.0, 65.0]}


def improved(seeds: int) -> pd.DataFrame:
    rows = [
        ("cub_200_2011", "resnet101", method, seed, top1)
        for method, values in IMPROVED.items()
        for seed, top1 in enumerate(values[:seeds])
    ]
    table = pd.DataFrame(rows, columns=["dataset", "backbone", "method", "seed", "top1"])
    return table.assign(source_network="ResNet-101, ImageNet", device="cpu")


def test_table_2_reads_as_written_out():
    # Paper, Table 2, CUB-200-2011, ResNet-101: L2 81.7 ± 0.2, L2-SP 82.3 ± 0.2, DELTA 82.6 ± 0.2.
    tables = accuracy_table(2, improved(3))
    assert tables["md"].splitlines() == [
        "# Table 2. Top-1 accuracy (%) with data augmentation and ten-crop testing",
        "",
        "Mean ± sample standard deviation over 3 seeds; in brackets the paper's value, where it has one. "
        "Below: the mean difference to L2-SP, paired by seed, and its 95 % confidence interval, with * where that "
        "excludes 0.",
        "",
        "| ResNet-101 | L2-SP | L2 | DELTA |",
        "| --- | ---: | ---: | ---: |",
        "| CUB-200-2011 | 61.0 ± 1.0 (82.3 ± 0.2) | 61.0 ± 1.7 (81.7 ± 0.2)<br>0.0 [−5.0, +5.0] "
        "| 64.0 ± 1.7 (82.6 ± 0.2)<br>+3.0 [+0.5, +5.5] * |",
    ]
    assert r"\quad minus L2-SP &  & $0.0 [-5.0, +5.0]$ & $+3.0 [+0.5, +5.5]^{*}$ \\" in tables["tex"]
    row = pd.read_csv(io.StringIO(tables["csv"])).set_index("method").loc["delta"]
    assert [row["difference"], row["low"], row["high"]] == pytest.approx([3, 0.5159, 5.4841], abs=1e-4)


def test_two_seeds_give_no_interval_and_the_table_says_so():
    text = accuracy_table(2, improved(2))["md"]
    assert "a confidence interval takes at least 3 seeds" in text
    assert "<br>+2.5 |" in text
    assert "[" not in text


def sourced(sources: dict[tuple[str, str], str]) -> pd.DataFrame:
    """One run of L2 a data set and backbone, all at 80 %."""
    rows = [(*pair, "l2", 0, 80.0, source) for pair, source in sources.items()]
    return pd.DataFrame(rows, columns=["dataset", "backbone", "method", "seed", "top1", "source_network"]).assign(
        device="cpu"
    )


FULL = {
    (dataset, backbone): f"{network}, ImageNet"
    for dataset in ("mit_indoors_67", "food_101", "my_birds")
    for backbone, network in (("resnet101", "ResNet-101"), ("inception_v3", "Inception-V3"))
} | {("mit_indoors_67", "resnet101"): "ResNet-50, Places365"}


def test_another_source_network_than_the_block_s_or_the_paper_s_is_said():
    # Paper, Table 1, L2: MIT Indoors 67 83.7 ± 0.3 and 74.8 ± 0.4, Food-101 85.3 ± 0.1 and 76.9 ± 0.2.
    tables = accuracy_table(1, sourced(FULL))
    lines = tables["md"].splitlines()
    assert lines[2] == (
        "Mean ± sample standard deviation over one seed; in brackets the paper's value, where it has one. A data set's "
        "name is followed by its source network in brackets where the rest of its block or the paper has another one. "
        "The paper's value beside it is for the block's own network: with ImageNet weights, or for MIT Indoors 67 with "
        "Places365 weights, which are not published for that network."
    )
    assert lines[4:] == [
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
    rows = tables["tex"].splitlines()
    assert rows[4:7] == [
        r"MIT Indoors 67 (ResNet-50, Places365) & $80.0$ \\",
        r"\quad paper (ResNet-101, Places365) & $83.7 \pm 0.3$ \\",
        r"Food-101 & $80.0$ \\",
    ]
    csv = pd.read_csv(io.StringIO(tables["csv"]))
    assert dict(zip(zip(csv["dataset"], csv["backbone"], strict=True), csv["source_network"], strict=True)) == FULL


def test_a_user_s_own_source_network_is_said_only_where_most_have_another():
    pairs = {(name, "small"): "timm:resnet34" for name in ("ants", "bees", "cows")}
    assert "timm" not in accuracy_table(1, sourced(pairs))["md"]
    odd = accuracy_table(1, sourced(pairs | {("bees", "small"): "resnet34, checkpoint my_50%.pth"}))
    assert "| ants | 80.0 |\n| bees (resnet34, checkpoint my_50%.pth) | 80.0 |\n| cows | 80.0 |" in odd["md"]
    assert "The paper's value" not in odd["md"]
    assert r"bees (resnet34, checkpoint my\_50\%.pth) &" in odd["tex"]


def test_where_most_have_no_one_source_network_all_are_said():
    two = accuracy_table(1, sourced({("ants", "small"): "timm:a", ("bees", "small"): "timm:b"}))["md"]
    assert "| ants (timm:a) |" in two and "| bees (timm:b) |" in two
    # Alone, it is what all of its block have, but not what the paper's value is for.
    alone = accuracy_table(1, sourced({("mit_indoors_67", "resnet101"): "ResNet-50, Places365"}))["md"]
    assert "| MIT Indoors 67 (ResNet-50, Places365) | 80.0 (83.7 ± 0.3) |" in alone
    as_in_the_paper = {("mit_indoors_67", "resnet101"): "ResNet-101, Places365", ("ants", "resnet101"): "?"}
    assert "| MIT Indoors 67 (ResNet-101, Places365) |" in accuracy_table(1, sourced(as_in_the_paper))["md"]


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
    assert "| my_birds | 50.0 | 60.0 |" in accuracy_table(1, single)["md"]
    assert "over one seed" in accuracy_table(1, single)["md"]


def test_runs_of_other_parameters_are_noticed(results, tmp_path):
    assert left_out(tmp_path, [results]) == []
    assert left_out(tmp_path, [results[results["seed"] < 2]])[0] == tmp_path / "cub_200_2011/resnet101/delta/2"
    of_birds = results["dataset"] == "my_birds"
    assert len(left_out(tmp_path, [results[of_birds]])) == 6
    assert left_out(tmp_path, [results[of_birds], results[~of_birds]]) == []


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cub/resnet101/l2/0/result.json: no result of a run"):
        read_results(tmp_path, ["cub"], ["resnet101"], ["l2"], [0])


@pytest.mark.parametrize("name", ["top1", "source_network", "device"])
def test_a_result_without_an_entry_is_named(results, tmp_path, name):
    file = tmp_path / "my_birds/resnet101/l2/1/result.json"
    entries = json.loads(file.read_text())
    del entries[name]
    file.write_text(json.dumps(entries))
    with pytest.raises(UserError, match=rf"l2/1/result.json: no result of a run \('{name}'\): run `dvc repro`$"):
        read_results(tmp_path, ["my_birds"], ["resnet101"], ["l2", "delta"], [0, 1, 2])


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
    root = Path(__file__).parents[2]
    table = [line for line in (root / "reports/tables/table1.md").read_text().splitlines() if line.startswith("|")]
    assert "\n".join(table) in (root / "README.md").read_text(encoding="utf-8")
