"""Table 1 in Markdown, CSV and LaTeX, with the paper's own value beside each of ours."""

from __future__ import annotations

from importlib import resources

import pandas as pd

from delta.methods import METHODS
from delta.report.results import summarize

NAMES = {
    "mit_indoors_67": "MIT Indoors 67",
    "stanford_dogs_120": "Stanford Dogs 120",
    "caltech256_30": "Caltech 256-30",
    "caltech256_60": "Caltech 256-60",
    "cub_200_2011": "CUB-200-2011",
    "food_101": "Food-101",
    "resnet101": "ResNet-101",
    "inception_v3": "Inception-V3",
    "efficientnet_lite0": "EfficientNet-Lite0",
}


def paper_numbers(table: int) -> pd.DataFrame:
    """The paper's numbers of one table: backbone, dataset, method, metric, mean, std."""
    with resources.files("delta.report").joinpath("paper.csv").open(encoding="utf-8") as file:
        numbers = pd.read_csv(file)
    return numbers[numbers["table"] == table].drop(columns="table")


def table1(results: pd.DataFrame) -> dict[str, str]:
    """Top-1 accuracy by data set, backbone and method, as text by file suffix: md, csv, tex.

    Args:
        results: see `delta.report.results.read_results`.

    Returns:
        `md` and `tex` have a row a data set and a column a method, backbone by backbone, as the paper has it; `csv` a
        row a data set, backbone and method: mean, std, seeds, paper_mean, paper_std. The paper's cells are empty
        where it has no such row.
    """
    paper = paper_numbers(1).drop(columns="metric").rename(columns={"mean": "paper_mean", "std": "paper_std"})
    summary = summarize(results).merge(paper, how="left", on=["dataset", "backbone", "method"])
    return {"md": _markdown(summary), "csv": summary.round(4).to_csv(index=False), "tex": _latex(summary)}


def _name(key: str) -> str:
    return NAMES.get(key, key)


def _plus_minus(mean: float, std: float) -> str:
    return f"{mean:.1f}" if pd.isna(std) else f"{mean:.1f} ± {std:.1f}"


def _tex(mean: float, std: float) -> str:
    return "" if pd.isna(mean) else "$" + _plus_minus(mean, std).replace("±", r"\pm") + "$"


def _markdown(summary: pd.DataFrame) -> str:
    methods = list(summary["method"].unique())
    lines = ["# Table 1. Top-1 accuracy (%)", ""]
    lines += [
        f"Mean ± sample standard deviation over {_seeds(summary)}; in brackets the paper's value, where it has one.",
        "",
    ]
    for backbone, block in summary.groupby("backbone", sort=False):
        lines.append(f"| {_name(backbone)} | {' | '.join(METHODS[method].label for method in methods)} |")
        lines.append(f"| --- |{' ---: |' * len(methods)}")
        for dataset, row in block.groupby("dataset", sort=False):
            cells = []
            for cell in row.itertuples():
                theirs = "" if pd.isna(cell.paper_mean) else f" ({_plus_minus(cell.paper_mean, cell.paper_std)})"
                cells.append(_plus_minus(cell.mean, cell.std) + theirs)
            lines.append(f"| {_name(dataset)} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _latex(summary: pd.DataFrame) -> str:
    methods = list(summary["method"].unique())
    lines = [rf"\begin{{tabular}}{{l{'r' * len(methods)}}}", r"\toprule"]
    for number, (backbone, block) in enumerate(summary.groupby("backbone", sort=False)):
        if number:
            lines.append(r"\midrule")
        lines.append(" & ".join([_escaped(_name(backbone)), *(METHODS[method].label for method in methods)]) + r" \\")
        lines.append(r"\midrule")
        for dataset, row in block.groupby("dataset", sort=False):
            ours = [_tex(cell.mean, cell.std) for cell in row.itertuples()]
            lines.append(" & ".join([_escaped(_name(dataset)), *ours]) + r" \\")
            if row["paper_mean"].notna().any():
                theirs = [_tex(cell.paper_mean, cell.paper_std) for cell in row.itertuples()]
                lines.append(" & ".join([r"\quad paper", *theirs]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _escaped(text: str) -> str:
    return text.replace("_", r"\_")


def _seeds(summary: pd.DataFrame) -> str:
    count = summary["seeds"].iloc[0]
    return "one seed" if count == 1 else f"{count} seeds"
