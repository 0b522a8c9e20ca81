"""Tables 1 and 2 in Markdown, CSV and LaTeX, with the paper's own value beside each of ours."""

from __future__ import annotations

from importlib import resources

import pandas as pd

from delta.report.markup import escaped
from delta.report.names import display, label
from delta.report.results import summarize
from delta.report.sources import exceptions, named, paper_source, source_note
from delta.report.statistics import LEAST_SEEDS, excludes_zero, paired_differences, plus_minus, signed

TITLES = {
    1: "Table 1. Top-1 accuracy (%)",
    2: "Table 2. Top-1 accuracy (%) with data augmentation and ten-crop testing",
}


def paper_numbers(table: int) -> pd.DataFrame:
    """The paper's numbers of one table: backbone, dataset, method, metric, mean, std."""
    with resources.files("delta.report").joinpath("paper.csv").open(encoding="utf-8") as file:
        numbers = pd.read_csv(file)
    return numbers[numbers["table"] == table].drop(columns="table")


def accuracy_table(number: int, results: pd.DataFrame) -> dict[str, str]:
    """Table 1 or 2, top-1 accuracy by data set, backbone and method, as text by file suffix: md, csv, tex.

    Beside each mean stands the paired difference to L2-SP, see `delta.report.statistics.paired_differences`.

    Args:
        number: 1 for the default view, 2 for the improved one.
        results: see `delta.report.results.read_results`.

    Returns:
        `md` and `tex` have a row a data set and a column a method, backbone by backbone, as the paper has it; `csv` a
        row a data set, backbone and method: source_network, mean, std, seeds, paper_mean, paper_std, difference, low,
        high, device (what the runs were computed on). Cells of what does not exist are empty: the paper's value, or an
        interval from fewer than three seeds.
    """
    keys = ["dataset", "backbone", "method"]
    paper = paper_numbers(number).drop(columns="metric").rename(columns={"mean": "paper_mean", "std": "paper_std"})
    summary = summarize(results).merge(paper, how="left", on=keys)
    summary = summary.merge(paired_differences(results), how="left", on=keys)
    devices = results.groupby(keys, sort=False)["device"].agg(lambda each: ", ".join(each.unique()))
    summary = summary.merge(devices.reset_index(), on=keys)
    return {"md": _markdown(number, summary), "csv": summary.round(4).to_csv(index=False), "tex": _latex(summary)}


def _difference(cell: tuple) -> str:
    """The paired difference to L2-SP with its interval, marked where that excludes 0; nothing for L2-SP itself."""
    if pd.isna(cell.difference):
        return ""
    if pd.isna(cell.low):
        return signed(cell.difference)
    mark = " *" if excludes_zero(cell.low, cell.high) else ""
    return f"{signed(cell.difference)} [{signed(cell.low)}, {signed(cell.high)}]{mark}"


def _tex(mean: float, std: float) -> str:
    return "" if pd.isna(mean) else "$" + plus_minus(mean, std).replace("±", r"\pm") + "$"


def _tex_difference(cell: tuple) -> str:
    text = _difference(cell).replace("−", "-")
    starred = text.endswith(" *")
    return f"${text.removesuffix(' *')}{'^{*}' if starred else ''}$" if text else ""


def _markdown(number: int, summary: pd.DataFrame) -> str:
    methods, sources = list(summary["method"].unique()), exceptions(summary)
    lines = [f"# {TITLES[number]}", "", _legend(summary) + source_note(summary), ""]
    for backbone, block in summary.groupby("backbone", sort=False):
        lines.append(f"| {display(backbone)} | {' | '.join(label(method) for method in methods)} |")
        lines.append(f"| --- |{' ---: |' * len(methods)}")
        for dataset, row in block.groupby("dataset", sort=False):
            cells = []
            for cell in row.itertuples():
                theirs = "" if pd.isna(cell.paper_mean) else f" ({plus_minus(cell.paper_mean, cell.paper_std)})"
                difference = _difference(cell)
                below = f"<br>{difference}" if difference else ""
                cells.append(plus_minus(cell.mean, cell.std) + theirs + below)
            lines.append(f"| {named(dataset, sources.get((dataset, backbone)))} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _legend(summary: pd.DataFrame) -> str:
    count = summary["seeds"].iloc[0]
    text = f"Mean ± sample standard deviation over {'one seed' if count == 1 else f'{count} seeds'}; in brackets the "
    text += "paper's value, where it has one."
    if summary["difference"].notna().any():
        text += " Below: the mean difference to L2-SP, paired by seed"
        if summary["low"].notna().any():
            text += ", and its 95 % confidence interval, with * where that excludes 0."
        else:
            text += f"; a confidence interval takes at least {LEAST_SEEDS} seeds."
    return text


def _latex(summary: pd.DataFrame) -> str:
    methods, sources = list(summary["method"].unique()), exceptions(summary)
    lines = [rf"\begin{{tabular}}{{l{'r' * len(methods)}}}", r"\toprule"]
    for number, (backbone, block) in enumerate(summary.groupby("backbone", sort=False)):
        if number:
            lines.append(r"\midrule")
        lines.append(" & ".join([escaped(display(backbone)), *(label(method) for method in methods)]) + r" \\")
        lines.append(r"\midrule")
        for dataset, row in block.groupby("dataset", sort=False):
            source = sources.get((dataset, backbone))
            rows = {escaped(named(dataset, source)): [_tex(cell.mean, cell.std) for cell in row.itertuples()]}
            if row["paper_mean"].notna().any():
                theirs = f" ({paper_source(dataset, backbone)})" if source else ""
                rows[rf"\quad paper{theirs}"] = [_tex(cell.paper_mean, cell.paper_std) for cell in row.itertuples()]
            if row["difference"].notna().any():
                rows[r"\quad minus L2-SP"] = [_tex_difference(cell) for cell in row.itertuples()]
            lines += [" & ".join([name, *cells]) + r" \\" for name, cells in rows.items()]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
