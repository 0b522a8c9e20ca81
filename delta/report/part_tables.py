"""Table 3: how active a network is at an object's annotated parts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from delta.report.markup import escaped, formula, latex, markdown
from delta.report.names import display, features
from delta.report.results import gather, nested, over_seeds, per_seed
from delta.report.sources import exceptions, named, paper_source, source_note
from delta.report.statistics import plus_minus
from delta.report.tables import paper_numbers

KEYS = ["dataset", "backbone", "method"]
DIGITS = 3  # as many as the paper prints
RULE = (
    "Sum over an image's visible parts of the last convolution's activation there, averaged over the filters and "
    "scaled to lie between 0, its least in the image, and 1; mean over the test images"
)
EACH = "Mean activation over the test images on which a part is visible, and over the seeds"


def read_parts(files: Iterable[tuple[str, str, str, Path]]) -> pd.DataFrame:
    """Part activations as measure_parts leaves them: dataset, backbone, method, seed, part, activation, images.

    A row a seed and part, in the annotation's order, and one for the sum over the visible parts, `all`; activation is
    NaN where a part is visible on no image.

    Args:
        files: dataset, backbone, method and the file.

    Raises:
        UserError: a file cannot be read.
    """
    return gather(files, KEYS, ["seed", "part", "activation", "images"], "part activation")


def part_metrics(parts: pd.DataFrame) -> str:
    """JSON nested data set > backbone > method > part_activation_mean, part_activation_std (none for one seed),
    per_seed."""

    def entry(rows: pd.DataFrame) -> dict[str, Any]:
        sums = rows.set_index("seed")["activation"]
        return over_seeds("part_activation", sums) | {"per_seed": per_seed(sums)}

    return nested(parts[parts["part"] == "all"], entry)


def part_table(parts: pd.DataFrame, sources: pd.DataFrame) -> dict[str, str]:
    """Table 3 as text by file suffix: md, csv, tex.

    Args:
        parts: see `read_parts`.
        sources: dataset, backbone, source_network.

    Returns:
        `md` and `tex` have a row a data set and a column a method, backbone by backbone; `csv` a row a data set,
        backbone and method: source_network, mean, std (empty for one seed), seeds, paper_mean (empty where the paper
        has none).
    """
    groups = parts[parts["part"] == "all"].groupby(KEYS, sort=False)["activation"]
    summary = groups.agg(mean="mean", std="std", seeds="size").reset_index()
    paper = paper_numbers(3).replace({"method": {"source": "l2_fe"}})[[*KEYS, "mean"]]
    summary = summary.merge(paper.rename(columns={"mean": "paper_mean"}), how="left", on=KEYS)
    summary = summary.merge(sources.drop_duplicates(["dataset", "backbone"]), how="left", on=KEYS[:2])
    columns = [*KEYS, "source_network", "mean", "std", "seeds", "paper_mean"]
    csv = summary[columns].round(6).to_csv(index=False)
    return {"md": _markdown(summary), "csv": csv, "tex": _latex(summary)}


def each_part(parts: pd.DataFrame) -> dict[str, str]:
    """Table 3 part by part, means over the seeds, as text by file suffix: md, csv.

    Returns:
        `md` has a row a part and a column a method for each data set and backbone; `csv` a row a data set, backbone,
        part and method: images (on which the part is visible), mean, std, seeds.
    """
    groups = parts[parts["part"] != "all"].groupby(["dataset", "backbone", "part", "images", "method"], sort=False)
    summary = groups["activation"].agg(mean="mean", std="std", seeds="size").reset_index()
    lines = [
        "# Table 3, part by part",
        "",
        f"{EACH}.",
    ]
    for (dataset, backbone), block in summary.groupby(["dataset", "backbone"], sort=False):
        methods = block["method"].unique()
        rows = []
        for (part, images), row in block.groupby(["part", "images"], sort=False):
            means = row.set_index("method")["mean"].reindex(methods)
            rows.append([part, str(images), *("" if pd.isna(mean) else f"{mean:.{DIGITS}f}" for mean in means)])
        heading = ["Part", "Images", *map(features, methods)]
        lines += ["", f"## {display(dataset)}, {display(backbone)}", "", *markdown(heading, rows)]
    return {"md": "\n".join([*lines, ""]), "csv": summary.round(6).to_csv(index=False)}


def part_legend(summary: pd.DataFrame) -> str:
    """What stands in Table 3.

    Args:
        summary: the table's csv.
    """
    seeds, text = summary.set_index("method")["seeds"], f"{RULE}."
    if seeds.max() > 1:
        text += f" Mean ± sample standard deviation over {seeds.max()} seeds."
    if "l2_fe" in seeds:
        text += " SRC is the source network, of which there is one."
    return text


def _markdown(summary: pd.DataFrame) -> str:
    methods, sources = list(summary["method"].unique()), exceptions(summary)
    legend = part_legend(summary)
    if summary["paper_mean"].notna().any():
        legend += " In brackets the paper's value, where it has one."
    lines = ["# Table 3. Mean part activation", "", legend + source_note(summary)]
    for backbone, block in summary.groupby("backbone", sort=False):
        rows = []
        for dataset, row in block.groupby("dataset", sort=False):
            cells = [_cell(cell) + _theirs(cell) for cell in row.itertuples()]
            rows.append([named(dataset, sources.get((dataset, backbone))), *cells])
        lines += ["", *markdown([display(backbone), *map(features, methods)], rows)]
    return "\n".join([*lines, ""])


def _latex(summary: pd.DataFrame) -> str:
    methods, sources, blocks = list(summary["method"].unique()), exceptions(summary), []
    for backbone, block in summary.groupby("backbone", sort=False):
        rows = []
        for dataset, row in block.groupby("dataset", sort=False):
            source = sources.get((dataset, backbone))
            rows.append([escaped(named(dataset, source)), *(formula(_cell(cell)) for cell in row.itertuples())])
            if row["paper_mean"].notna().any():
                theirs = f" ({paper_source(dataset, backbone)})" if source else ""
                values = ["" if pd.isna(value) else f"{value:.{DIGITS}f}" for value in row["paper_mean"]]
                rows.append([rf"\quad paper{theirs}", *map(formula, values)])
        blocks.append(([escaped(display(backbone)), *map(features, methods)], rows))
    return latex(blocks)


def _cell(cell: tuple) -> str:
    return plus_minus(cell.mean, cell.std, DIGITS)


def _theirs(cell: tuple) -> str:
    return "" if pd.isna(cell.paper_mean) else f" ({cell.paper_mean:.{DIGITS}f})"
