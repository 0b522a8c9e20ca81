"""Table 3: how active a network is at an object's annotated parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from delta.report import paper
from delta.report.inputs import Inputs
from delta.report.layouts import page_blocks, paper_blocks
from delta.report.names import display
from delta.report.results import KEYS, Metrics, mean_and_std, nested_metrics, per_seed
from delta.report.seed_differences import DIFFERENCE, delta_minus_others
from delta.report.sources import source_note
from delta.report.statistics import format_mean
from delta.report.table import Block, Cell, Column, Row, Table, number_cell
from delta.report.tables.base import Collected, Section, Shown

ORDER = 3

TITLE = "Table 3: mean part activation"
PART_KEYS = ["dataset", "backbone", "part", "images", "method", "method_label"]
MEANS = ["mean", "std", "seeds"]
COLUMNS = {
    "table3": [*KEYS, "method_label", "source_network", *MEANS, "paper_mean", *DIFFERENCE, "layer"],
    "table3_parts": [*PART_KEYS, *MEANS],
}
DEFINITION = (
    "Sum over an image's visible parts of the activation of {layer} there, averaged over the filters and scaled to lie "
    "between 0, its minimum over the image, and 1; mean over the test images."
)
EACH_PART = "Mean activation over the test images on which a part is visible, and over the seeds."


def collect(inputs: Inputs) -> Collected:
    """The activation at all parts together and at each of them, and the metrics `metrics_parts`."""
    parts = read_parts(inputs)
    return Collected(
        frames={"table3": part_frame(parts, inputs), "table3_parts": each_part_frame(parts, inputs)},
        metrics={"metrics_parts": part_metrics(parts)},
    )


def show(frames: Mapping[str, pd.DataFrame]) -> Shown:
    """Table 3 as in the paper, one column per method; for the page, one row per method; and part by part."""
    if "table3" not in frames:
        return Shown({})
    tables, frame = {"table3": paper_layout(frames["table3"])}, frames["table3"]
    details = None
    if "table3_parts" in frames:
        details = tables["table3_parts"] = each_part_table(frames["table3_parts"])
    section = Section("Table 3", page_layout(frame), details, f"Part by part. {EACH_PART}")
    return Shown(tables, {"table3": section})


def read_parts(inputs: Inputs) -> pd.DataFrame:
    """Part activations as measure_parts leaves them: dataset, backbone, method, seed, part, activation, images.

    One row per seed and part, in the annotation's order, and one for the sum over the visible parts, `all`; activation
    is NaN where a part is visible on no image.

    Raises:
        UserError: a file cannot be read.
    """
    columns = ["seed", "part", "activation", "images"]
    return inputs.read("part_activation", "part_activation/{method}.csv", columns)


def part_metrics(parts: pd.DataFrame) -> Metrics:
    """By data set, backbone and method: part_activation_mean, part_activation_std (not for one seed) and per_seed."""

    def entry(rows: pd.DataFrame) -> dict[str, Any]:
        sums = rows.set_index("seed")["activation"]
        return mean_and_std("part_activation", sums) | {"per_seed": per_seed(sums)}

    return nested_metrics(parts[parts["part"] == "all"], entry)


def part_frame(parts: pd.DataFrame, inputs: Inputs) -> pd.DataFrame:
    """One row per data set, backbone and method: method_label, source_network, mean, std (NaN for one seed), seeds,
    paper_mean (NaN where the paper has none), DELTA's difference to it, see `delta_minus_others`, and layer (empty for
    the last feature layer).

    Args:
        parts: see `read_parts`.
    """
    sums = parts[parts["part"] == "all"]
    groups = sums.groupby(KEYS, sort=False)["activation"]
    summary = groups.agg(mean="mean", std="std", seeds="size").reset_index()
    numbers = paper.numbers(3)[[*KEYS, "mean"]].rename(columns={"mean": "paper_mean"})
    summary = summary.merge(numbers, how="left", on=KEYS).merge(inputs.sources, how="left", on=KEYS[:2])
    summary = summary.merge(delta_minus_others(sums.rename(columns={"activation": "value"})), how="left", on=KEYS)
    summary["method_label"] = summary["method"].map(inputs.network_labels)
    summary["layer"] = inputs.params.part_activation.layer
    return summary[COLUMNS["table3"]]


def each_part_frame(parts: pd.DataFrame, inputs: Inputs) -> pd.DataFrame:
    """One row per data set, backbone, part and method: method_label, images (on which the part is visible), mean and
    std (over the seeds) and seeds.

    Args:
        parts: see `read_parts`.
    """
    rows = parts[parts["part"] != "all"].assign(method_label=lambda table: table["method"].map(inputs.network_labels))
    groups = rows.groupby(PART_KEYS, sort=False)["activation"]
    return groups.agg(mean="mean", std="std", seeds="size").reset_index()


def paper_layout(frame: pd.DataFrame) -> Table:
    """The table as the paper has it, see `paper_blocks`.

    Args:
        frame: see `part_frame`.
    """
    brackets = " In brackets the paper's value, where it has one." if frame["paper_mean"].notna().any() else ""
    legend = _legend(frame) + brackets + source_note(frame)
    return Table(TITLE, legend, paper_blocks(frame, _activation), frame, digits=6)


def page_layout(frame: pd.DataFrame) -> Table:
    """The table as the page has it: one row per data set and method, one block per backbone.

    Args:
        frame: see `part_frame`.
    """
    blocks = page_blocks(frame, ("Network", "Mean part activation", "Paper"), paper.PART_DIGITS)
    return Table(TITLE, _legend(frame) + source_note(frame), blocks, frame)


def each_part_table(frame: pd.DataFrame) -> Table:
    """Table 3 part by part: one row per part, one column per method, one block per data set and backbone.

    Args:
        frame: see `each_part_frame`.
    """
    blocks = []
    for (dataset, backbone), block in frame.groupby(["dataset", "backbone"], sort=False):
        labels = block["method_label"].unique()
        rows = []
        for (part, images), group in block.groupby(["part", "images"], sort=False):
            means = group.set_index("method_label")["mean"].reindex(labels)
            numbers = [number_cell(mean, paper.PART_DIGITS, best=mean == means.max()) for mean in means]
            rows.append(Row([Cell(part), Cell(f"{images:,}", images), *numbers]))
        columns = [Column("Part"), *(Column(heading, "number") for heading in ["Images", *labels])]
        blocks.append(Block(columns, rows, f"{display(dataset)}, {display(backbone)}"))
    return Table("Table 3, part by part", EACH_PART, blocks, frame, digits=6)


def _activation(row: Any) -> Cell:
    """The mean and the paper's mean in brackets."""
    theirs = format_mean(row.paper_mean, float("nan"), paper.PART_DIGITS)
    return Cell(format_mean(row.mean, row.std, paper.PART_DIGITS), row.mean, paper=theirs)


def _legend(frame: pd.DataFrame) -> str:
    layer = frame["layer"].iloc[0]
    text = DEFINITION.format(layer="the last convolution" if pd.isna(layer) else layer)
    seeds = frame.set_index("method")["seeds"]
    if seeds.max() > 1:
        text += f" Mean ± sample standard deviation over {seeds.max()} seeds."
    if "l2_fe" in seeds:
        text += " SRC is the source network, of which there is one."
    return text
